"""Any tokenizer of the `tokenizers` library: what published models come with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from glassformer.files import atomic_write
from glassformer.tokenization.byte_level import unspell
from glassformer.tokenization.ids import check_ids
from glassformer.tokenization.labels import visible
from glassformer.tokenization.names import END_OF_TEXT, SETTINGS_FILE, TOKENIZER_FILE

_USUAL_NAMES = {
    "end": (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[SEP]"),
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "mask": ("[MASK]", "<mask>"),
}
"""Special tokens by what they are for, looked for where the settings name none."""


class PretrainedTokenizer:
    """A tokenizer of the `tokenizers` library: BPE, WordPiece, Unigram or whole words.

    What ``decode(encode(text))`` loses is up to the file: a normalizer may lower the case, drop accents or
    join spaces (BERT's WordPiece does all three, T5's Unigram joins spaces), and what the vocabulary has no
    pieces for becomes its unknown token.

    Special tokens spelled out in a text are encoded as the letters they are made of, unless
    ``special_tokens=True`` asks for their ids. Make one with ``load_tokenizer``.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the `tokenizers` library.

        Args:
            tokenizer: truncation and padding are switched off.
            settings: what ``tokenizer_config.json`` says; of it the names of special tokens (``eos_token``,
                ``sep_token``, ``pad_token``, ...) are read here, the rest is kept for ``save``.

        Raises:
            ValueError: the vocabulary is empty.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # in a text, "[SEP]" is a text
        self._tokenizer = tokenizer
        self.settings = dict(settings or {})
        named = [token_content(entry) for key, entry in self.settings.items() if key.endswith("_token")]
        tokenizer.add_special_tokens([n for n in named if n and tokenizer.token_to_id(n) is not None])
        added = tokenizer.get_added_tokens_decoder()
        self._added = {i: token.content for i, token in added.items()}
        self._special = {token.content: i for i, token in added.items() if token.special}
        self._vocab_size = 1 + max(tokenizer.get_vocab().values(), default=-1)
        if not self._vocab_size:
            raise ValueError("its vocabulary is empty")
        self._end_of_text = self._role("end", "eos_token", "sep_token")
        self._pad_token = self._role("pad", "pad_token")
        self._mask_token = self._role("mask", "mask_token")

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return self._vocab_size

    @property
    def end_of_text(self) -> int | None:
        """The id that ends a text (``</s>``, ``<|endoftext|>``, ``[SEP]``), or None where there is none."""
        return self._end_of_text

    @property
    def pad_token(self) -> int | None:
        """The id that fills up shorter rows, or None where there is none."""
        return self._pad_token

    @property
    def mask_token(self) -> int | None:
        """The id that stands for a hidden token, or None where there is none."""
        return self._mask_token

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """The ids of a text, without any around it.

        Args:
            text: what to encode.
            special_tokens: whether a special token that is spelled out in the text, like ``[MASK]``, becomes
                its id. Only for texts that you wrote or trust.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate, which no UTF-8 can hold.
        """
        if special_tokens:
            text.encode("utf-8")  # names a character that cannot be encoded
            ids: list[int] = self._with_special.encode(text, add_special_tokens=False).ids
            return ids
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text, on all cores."""
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:
            for text in texts:
                text.encode("utf-8")  # names the character that cannot be encoded
            raise
        return [self._honest(encoding.ids) for encoding in encodings]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """For each id of ``encode(text)`` the characters ``[start, end)`` of the text that it covers.

        A token that takes the space before it along covers that space too. Letters whose case or accent the
        normalizer changes are covered by what became of them.

        Raises:
            UnicodeEncodeError: as ``encode``.
        """
        text.encode("utf-8")
        encoding = self._untrimmed.encode(text, add_special_tokens=False)
        blank = [self._bytes_of(token).isspace() for token in encoding.tokens]
        spans = _emptied(encoding.offsets, blank, text)
        return [
            span
            for token, span in zip(encoding.ids, spans, strict=True)
            for _ in self._forgeable.get(token, [token])  # the parts of one taken apart cover its characters
        ]

    def add_marks(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """The ids of a text, or of two, with the special ids that the file's post-processor puts around."""
        if pair is None:
            before, after = self._marks[0]
            return [*before, *ids, *after]
        before, between, after = self._marks[1]
        return [*before, *ids, *between, *pair, *after]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, special tokens spelled out; bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def label(self, token_id: int) -> str:
        r"""One token for the eye: ``·the``, ``##ing``, ``↵``, ``\xe2\x80`` for a part of a character."""
        check_ids([token_id], self.vocab_size)
        if token_id in self._added:
            return visible(self._added[token_id].encode("utf-8"))
        return visible(self._bytes_of(self._tokenizer.id_to_token(token_id) or ""))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, which the `tokenizers` and `transformers` libraries read too.

        Settings go beside it into ``tokenizer_config.json``.
        """
        atomic_write(Path(folder) / TOKENIZER_FILE, self._tokenizer.to_str(pretty=True))
        if self.settings:
            atomic_write(Path(folder) / SETTINGS_FILE, json.dumps(self.settings, indent=2) + "\n")
        else:
            (Path(folder) / SETTINGS_FILE).unlink(missing_ok=True)  # one that was there is another's

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

    def _role(self, role: str, *keys: str) -> int | None:
        """The special token that the settings name, or one of a usual name."""
        for content in [*(token_content(self.settings.get(key)) for key in keys), *_USUAL_NAMES[role]]:
            if content in self._special:
                return self._special[content]
        return None

    def _honest(self, ids: list[int]) -> list[int]:
        """Ids of a text, with a special token that the model itself found in it taken apart again."""
        if self._forgeable.keys().isdisjoint(ids):
            return ids
        return [part for token in ids for part in self._forgeable.get(token, [token])]

    @cached_property
    def _untrimmed(self) -> tokenizers.Tokenizer:
        """The same tokenizer without a post-processor, which may take spaces out of the offsets."""
        tokenizer = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.encode_special_tokens = True
        tokenizer.post_processor = None
        return tokenizer

    @cached_property
    def _forgeable(self) -> dict[int, list[int]]:
        """The parts of special tokens that are also entries of the model's own vocabulary.

        The unknown token is not among them: it is what a text may well become.
        """
        model = self._tokenizer.model
        unknown = self._description()["model"].get("unk_id", getattr(model, "unk_token", None))
        return {
            token: [part.id for text in (content[:1], content[1:]) for part in model.tokenize(text)]
            for content, token in self._special.items()
            if model.token_to_id(content) == token and unknown not in (content, token)
        }

    @cached_property
    def _marks(self) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int], list[int]]]:
        """Ids around one text and around two, read off what the post-processor makes of a letter or two."""
        letter = next(
            (text for text in ("a", *self._tokenizer.get_vocab()) if self._tokenizer.encode(text).ids), None
        )
        if letter is None:
            return ([], []), ([], [], [])
        one, two = self._tokenizer.encode(letter), self._tokenizer.encode(letter, letter)
        first, last = _span(one.sequence_ids, 0)
        a, b = _span(two.sequence_ids, 0)
        c, d = _span(two.sequence_ids, 1)
        return (one.ids[:first], one.ids[last:]), (two.ids[:a], two.ids[b:c], two.ids[d:])

    @cached_property
    def _with_special(self) -> tokenizers.Tokenizer:
        """The same tokenizer, reading special tokens in texts."""
        return tokenizers.Tokenizer.from_str(self._tokenizer.to_str())

    @cached_property
    def _bytes_of(self) -> Callable[[str], bytes]:
        """How the vocabulary spells its tokens, which its decoder tells."""
        decoder = json.dumps(self._description()["decoder"], ensure_ascii=False)
        if '"ByteLevel"' in decoder:
            return unspell
        return _unspell_metaspace if "▁" in decoder else str.encode

    def _description(self) -> dict[str, Any]:
        description: dict[str, Any] = json.loads(self._tokenizer.to_str())
        return description


def read_tokenizer(text: str) -> tokenizers.Tokenizer:
    """The content of a ``tokenizer.json`` of the `tokenizers` library.

    Raises:
        ValueError: the library cannot read it.
    """
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"the tokenizers library cannot read it ({error})") from None


def token_content(entry: Any) -> str | None:
    """A token as configurations write one: its text, or a mapping with its ``content``."""
    content = entry.get("content") if isinstance(entry, Mapping) else entry
    return content if isinstance(content, str) else None


def _span(sequences: Sequence[int | None], number: int) -> tuple[int, int]:
    """Where a sequence begins and ends."""
    places = [place for place, sequence in enumerate(sequences) if sequence == number]
    return places[0], places[-1] + 1


def _emptied(spans: Sequence[tuple[int, int]], blank: Sequence[bool], text: str) -> list[tuple[int, int]]:
    """The spans; that of a space which is not in the text, given as its next token's, becomes empty."""
    before = [0, *(end for _, end in spans)][:-1]
    after = [*(start for start, _ in spans), -1][1:]
    return [
        (start, start if empty and last <= start == following and not text[start:end].isspace() else end)
        for (start, end), empty, last, following in zip(spans, blank, before, after, strict=True)
    ]


def _unspell_metaspace(token: str) -> bytes:
    """A token whose spaces are written ``▁`` and whose single bytes ``<0x0A>`` (SentencePiece)."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode("utf-8")
