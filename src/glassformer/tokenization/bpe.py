"""Byte-level byte-pair encoding: frequent runs of bytes become one token (Sennrich et al. 2016; GPT-2, 2019).

The work is done by the `tokenizers` library. A text is first split into words, as GPT-2 does: a word takes
the space before it along, and merges never cross the border of two words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from glassformer.files import atomic_write
from glassformer.tokenization.ids import check_ids
from glassformer.tokenization.labels import visible
from glassformer.tokenization.names import END_OF_TEXT, TOKENIZER_FILE
from glassformer.tokenization.ranks import merges_from_ranks, read_ranks


class BPETokenizer:
    """Byte-level BPE with an end-of-text token. ``decode(encode(text)) == text`` for any text.

    Make one with ``train``, ``from_tiktoken`` or ``load_tokenizer``.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Wrap a tokenizer of the `tokenizers` library.

        Raises:
            ValueError: it is not a byte-level BPE.
        """
        if not isinstance(tokenizer.model, models.BPE) or not isinstance(
            tokenizer.decoder, decoders.ByteLevel
        ):
            raise ValueError(
                f"not a byte-level BPE: its model is {type(tokenizer.model).__name__} "
                f"and its decoder {type(tokenizer.decoder).__name__}"
            )
        tokenizer.encode_special_tokens = True  # in a text, "<|endoftext|>" is a text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._added = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items()}
        self._vocab_size = 1 + max(tokenizer.get_vocab().values())
        self._end_of_text = next((i for i, content in self._added.items() if content == END_OF_TEXT), None)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, min_frequency: int = 2) -> BPETokenizer:
        """Learn the merges of the texts, which are read once and never held together.

        The same texts give the same vocabulary, byte for byte. Memory grows with the number of distinct
        words, not with the length of the texts; a huge text should come in pieces that end between words.

        Args:
            texts: what to learn from.
            vocab_size: the size to reach: ``<|endoftext|>`` (id 0), 256 bytes, then merges. Texts with too
                few pairs that occur ``min_frequency`` times give a smaller vocabulary; read ``.vocab_size``.
            min_frequency: how often a pair has to occur to be merged.

        Raises:
            ValueError: ``vocab_size`` is below 257, or there is no text.
        """
        if vocab_size < 257:
            raise ValueError(
                f"vocab_size is {vocab_size}; byte-level BPE needs at least 257: 256 bytes and {END_OF_TEXT}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency is {min_frequency}; it must be at least 1")
        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        seen = _Seen(texts)
        tokenizer.train_from_iterator(seen, trainer=trainer)
        if not seen.characters:
            raise ValueError("there is no text to train a tokenizer on: every text is empty")
        return cls(tokenizer)

    @classmethod
    def from_tiktoken(cls, path: str | Path) -> BPETokenizer:
        """GPT-2's own tokenizer, from the file ``gpt2.tiktoken`` (see ``find_gpt2_ranks``).

        The ids are those of the published models: 50,256 ranks, and ``<|endoftext|>`` after them as 50256.

        Args:
            path: a file with lines of ``<base64 of the token> <rank>``.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no byte-pair vocabulary, with the line at fault.
        """
        ranks = read_ranks(path)
        vocabulary = {_spell(token): rank for token, rank in ranks.items()}
        merges = [(_spell(left), _spell(right)) for left, right in merges_from_ranks(ranks)]
        tokenizer = _byte_level(models.BPE(vocab=vocabulary, merges=merges))
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> BPETokenizer:
        """From the content of a ``tokenizer.json`` of the `tokenizers` library.

        Raises:
            ValueError: it describes no byte-level BPE.
        """
        try:
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises a bare Exception
            raise ValueError(f"the tokenizers library cannot read it ({error})") from None
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        """The id of ``<|endoftext|>``, or None where a loaded vocabulary has none."""
        return self._end_of_text

    def encode(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate, which no UTF-8 can hold.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text, on all cores."""
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:
            for text in texts:
                text.encode("utf-8")  # names the character that cannot be encoded
            raise
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def label(self, token_id: int) -> str:
        r"""One token for the eye: ``·the``, ``↵``, ``\xe2\x80`` for a part of a character."""
        check_ids([token_id], self.vocab_size)
        if token_id in self._added:
            return visible(self._added[token_id].encode("utf-8"))
        return visible(_unspell(self._tokenizer.id_to_token(token_id) or ""))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, which the `tokenizers` and `transformers` libraries read too."""
        atomic_write(Path(folder) / TOKENIZER_FILE, self._tokenizer.to_str(pretty=True))

    def __repr__(self) -> str:
        return f"BPETokenizer(vocab_size={self.vocab_size})"


class _Seen:
    """An iterable that counts the characters that went by."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters = 0
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    """GPT-2's pipeline around a model: its words, its spelling of bytes."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _spelling() -> dict[int, str]:
    """How byte-level BPE spells each byte as one visible character (GPT-2's table).

    The printable characters of Latin-1 stand for themselves; the other 68 bytes follow in order from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


_CHARACTER_OF_BYTE = _spelling()
_BYTE_OF_CHARACTER = {character: byte for byte, character in _CHARACTER_OF_BYTE.items()}


def _spell(token: bytes) -> str:
    return "".join(_CHARACTER_OF_BYTE[byte] for byte in token)


def _unspell(token: str) -> bytes:
    return bytes(_BYTE_OF_CHARACTER[character] for character in token)
