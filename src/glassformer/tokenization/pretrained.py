"""Tokenizers of the `tokenizers` library, as published models use them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import trainers

from glassformer.files import atomic_write
from glassformer.tokenization.base import (
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    BaseTokenizer,
    check_ids,
    library_errors,
    printable_label,
)
from glassformer.tokenization.chat_template import ChatTemplateMixin, remove_chat_template
from glassformer.tokenization.config_files import CLASS_OF_TOKENIZER_FILE, OLD_CONFIG_FILES, with_types
from glassformer.tokenization.pre_tokenization import unicode_to_bytes
from glassformer.tokenization.special_tokens import USUAL_NAMES, mark_special_tokens, token_content


class PretrainedTokenizer(ChatTemplateMixin, BaseTokenizer):
    """A tokenizer of the `tokenizers` library: BPE, WordPiece, Unigram or WordLevel.

    ``decode(encode(text))`` may differ from the text: a normalizer can change case, accents or spaces, and
    text that the vocabulary does not cover becomes the unknown token.

    A special token that is spelled out in a text is encoded as ordinary text, so that no text can contain,
    say, the end of a document; ``encode(text, special_tokens=True)`` turns this off. Load one with
    ``load_tokenizer``.

    Args:
        tokenizer: the tokenizer; its truncation and padding are switched off.
        settings: content of ``tokenizer_config.json``. The names of the special tokens (``eos_token``,
            ``sep_token``, ``pad_token``, ...) are used; everything is written again by ``save``.

    Raises:
        ValueError: the vocabulary is empty, two tokens have the same id, or a special token around the text
            is not in the vocabulary.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any] | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # "[SEP]" in a text is ordinary text
        self._tokenizer = tokenizer
        self.settings = dict(settings or {})
        mark_special_tokens(tokenizer, self.settings)
        added = tokenizer.get_added_tokens_decoder()
        self._added = {i: token.content for i, token in added.items()}
        self._special = {token.content: i for i, token in added.items() if token.special}
        self.vocab_size = 1 + max(_token_ids(tokenizer))
        self.begin_of_text = self._find_special("begin_of_text", "bos_token")
        self.end_of_text = self._find_special("end_of_text", "eos_token", "sep_token")
        self.pad_token = self._find_special("pad", "pad_token")
        self.mask_token = self._find_special("mask", "mask_token")
        check_ids([*self.add_special_tokens([]), *self.add_special_tokens([], [])], self.vocab_size)

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """Return the ids of a text, without special tokens around it.

        Args:
            text: the text.
            special_tokens: whether a special token spelled out in the text, such as ``[MASK]``, becomes its
                id. Use it only for trusted texts.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate, which UTF-8 cannot encode.
            ValueError: the text has unknown characters, and the tokenizer no unknown token.
        """
        return self.encode_special_tokens(text) if special_tokens else self.encode_batch([text])[0]

    def encode_special_tokens(self, text: str) -> list[int]:
        """Return the ids of a text in which special tokens that are spelled out become their ids."""
        text.encode("utf-8")  # raises for a lone surrogate
        with library_errors("encode the text"):
            ids: list[int] = self._parsing_special_tokens.encode(text, add_special_tokens=False).ids
        return ids

    @property
    def special_tokens(self) -> dict[str, int]:
        """The id of each special token by its spelling."""
        return dict(self._special)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode each text, in parallel on all cores."""
        with library_errors("encode the text"):
            try:
                encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
            except TypeError:
                for text in texts:
                    text.encode("utf-8")  # raises for a lone surrogate
                raise
        return [self._without_special(encoding.ids) for encoding in encodings]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return for each id of ``encode(text)`` the characters ``[start, end)`` that it covers.

        A token with a leading space covers that space. A character that the normalizer changes is covered by
        the tokens of its replacement.

        Raises:
            UnicodeEncodeError: the text has a lone surrogate.
        """
        text.encode("utf-8")
        with library_errors("encode the text"):
            encoding = self._without_post_processor.encode(text, add_special_tokens=False)
        blank = [self._token_bytes(token).isspace() for token in encoding.tokens]
        spans = _empty_added_spaces(encoding.offsets, blank, text)
        return [
            span
            for token, span in zip(encoding.ids, spans, strict=True)
            for _ in self._special_pieces.get(token, [token])  # each piece covers the same characters
        ]

    def add_special_tokens(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """Add the special tokens that the post-processor puts around one text, or around two."""
        if pair is None:
            before, after = self._template[0]
            return [*before, *ids, *after]
        before, between, after = self._template[1]
        return [*before, *ids, *between, *pair, *after]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids, special tokens included; invalid UTF-8 becomes U+FFFD.

        Raises:
            ValueError: an id is not in ``range(vocab_size)``.
        """
        check_ids(ids, self.vocab_size)
        with library_errors("decode the ids"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def label(self, token_id: int) -> str:
        r"""Return a printable label: ``·the``, ``##ing``, ``↵``, ``\xe2\x80`` for a part of a character."""
        check_ids([token_id], self.vocab_size)
        if token_id in self._added:
            return printable_label(self._added[token_id].encode("utf-8"))
        return printable_label(self._token_bytes(self._tokenizer.id_to_token(token_id) or ""))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` in the format of the `tokenizers` and `transformers` libraries.

        The settings go into ``tokenizer_config.json``. Older config files in the folder, which would override
        it, are removed. Token files are found by a hash of the saved files, so these must not change.
        """
        for name in OLD_CONFIG_FILES:
            (Path(folder) / name).unlink(missing_ok=True)
        remove_chat_template(Path(folder))  # the template is one of the settings
        atomic_write(Path(folder) / TOKENIZER_FILE, self._tokenizer.to_str(pretty=True))
        if self.settings:
            atomic_write(Path(folder) / TOKENIZER_CONFIG_FILE, json.dumps(self.settings, indent=2) + "\n")
        else:  # remove the config of a tokenizer that was saved here before
            (Path(folder) / TOKENIZER_CONFIG_FILE).unlink(missing_ok=True)

    def save_for_transformers(self, folder: Path) -> None:
        """Save the tokenizer so that `transformers` builds the same one, beside any ``config.json``."""
        self.save(folder)
        settings = self.settings_for_transformers()
        atomic_write(Path(folder) / TOKENIZER_CONFIG_FILE, json.dumps(settings, indent=2) + "\n")

    def settings_for_transformers(self) -> dict[str, Any]:
        """Return the settings with the special tokens, and the class that keeps ``tokenizer.json``."""
        found = {"eos_token": self.end_of_text, "pad_token": self.pad_token, "mask_token": self.mask_token}
        names = {key: self._added[token] for key, token in found.items() if token is not None}
        settings = {key: with_types(value) for key, value in self.settings.items()}
        return {"tokenizer_class": CLASS_OF_TOKENIZER_FILE, **names, **settings}

    def description(self) -> dict[str, Any]:
        """Return the content of ``tokenizer.json``."""
        description: dict[str, Any] = json.loads(self._tokenizer.to_str())
        return description

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"

    def _find_special(self, purpose: str, *keys: str) -> int | None:
        """Return the id of the special token that the settings name, or of one with a usual name."""
        for content in [*(token_content(self.settings.get(key)) for key in keys), *USUAL_NAMES[purpose]]:
            if content in self._special:
                return self._special[content]
        return None

    def _without_special(self, ids: list[int]) -> list[int]:
        """Replace special tokens that the model itself produced from the text by the ids of their pieces."""
        if self._special_pieces.keys().isdisjoint(ids):
            return ids
        return [piece for token in ids for piece in self._special_pieces.get(token, [token])]

    @cached_property
    def _special_pieces(self) -> dict[int, list[int]]:
        """The pieces of each special token that is also an entry of the model's own vocabulary.

        The unknown token is left out, because texts may produce it.
        """
        model = self._tokenizer.model
        unknown = self.description()["model"].get("unk_id", getattr(model, "unk_token", None))
        return {
            token: [piece.id for text in (content[:1], content[1:]) for piece in model.tokenize(text)]
            for content, token in self._special.items()
            if model.token_to_id(content) == token and unknown not in (content, token)
        }

    @cached_property
    def _template(self) -> tuple[tuple[list[int], list[int]], tuple[list[int], list[int], list[int]]]:
        """Special tokens around one text and around two, observed by encoding a letter or two."""
        letter = next((text for text in ("a", *self._tokenizer.get_vocab()) if self._can_encode(text)), None)
        if letter is None:
            return ([], []), ([], [], [])
        one, two = self._tokenizer.encode(letter), self._tokenizer.encode(letter, letter)
        first, last = _sequence_range(one.sequence_ids, 0)
        a, b = _sequence_range(two.sequence_ids, 0)
        c, d = _sequence_range(two.sequence_ids, 1)
        return (one.ids[:first], one.ids[last:]), (two.ids[:a], two.ids[b:c], two.ids[d:])

    def _can_encode(self, text: str) -> bool:
        try:
            return 0 in self._tokenizer.encode(text).sequence_ids
        except Exception:  # an unknown letter, and no unknown token
            return False

    @cached_property
    def _without_post_processor(self) -> tokenizers.Tokenizer:
        """A copy without post-processor, which may trim spaces from the offsets."""
        tokenizer = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.encode_special_tokens = True
        tokenizer.post_processor = None
        return tokenizer

    @cached_property
    def _parsing_special_tokens(self) -> tokenizers.Tokenizer:
        """A copy that recognizes special tokens in texts."""
        return tokenizers.Tokenizer.from_str(self._tokenizer.to_str())

    @cached_property
    def _token_bytes(self) -> Callable[[str], bytes]:
        """A function from a vocabulary entry to its bytes, chosen by the decoder."""
        decoder = json.dumps(self.description()["decoder"], ensure_ascii=False)
        if '"ByteLevel"' in decoder:
            return unicode_to_bytes
        return _sentencepiece_bytes if "▁" in decoder else str.encode

    @cached_property
    def byte_fallback_ids(self) -> frozenset[int]:
        """Ids of tokens such as ``<0x0A>`` of which the decoder joins all neighbors to characters."""
        if '"ByteFallback"' not in json.dumps(self.description()["decoder"]):
            return frozenset()
        vocabulary = self._tokenizer.get_vocab()
        return frozenset(i for token, i in vocabulary.items() if re.fullmatch("<0x..>", token))


def _token_ids(tokenizer: tokenizers.Tokenizer) -> list[int]:
    """Return the ids of all tokens.

    Raises:
        ValueError: there are none, or two tokens have the same id.
    """
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise ValueError("the tokenizer's vocabulary is empty")
    if len(set(vocabulary.values())) < len(vocabulary):
        by_id = sorted(vocabulary.items(), key=lambda item: (item[1], item[0]))
        first, second = next(two for two in pairwise(by_id) if two[0][1] == two[1][1])
        raise ValueError(f"the tokens {first[0]!r} and {second[0]!r} have the same id {first[1]}")
    return list(vocabulary.values())


def train_on_texts(tokenizer: tokenizers.Tokenizer, texts: Iterable[str], trainer: trainers.Trainer) -> None:
    """Train the vocabulary of a tokenizer on texts, which are read once.

    Raises:
        ValueError: every text is empty.
    """
    num_characters = 0

    def counted() -> Iterator[str]:
        nonlocal num_characters
        for text in texts:
            num_characters += len(text)
            yield text

    tokenizer.train_from_iterator(counted(), trainer=trainer)
    if not num_characters:
        raise ValueError("there is no text to train a tokenizer on: every text is empty")


def _sequence_range(sequences: Sequence[int | None], number: int) -> tuple[int, int]:
    """Return where a sequence starts and ends."""
    indices = [index for index, sequence in enumerate(sequences) if sequence == number]
    return indices[0], indices[-1] + 1


def _empty_added_spaces(
    spans: Sequence[tuple[int, int]], blank: Sequence[bool], text: str
) -> list[tuple[int, int]]:
    """Make the span of a space that the tokenizer added empty; the library reports the next token's span."""
    before = [0, *(end for _, end in spans)][:-1]
    after = [*(start for start, _ in spans), -1][1:]
    return [
        (start, start if empty and last <= start == following and not text[start:end].isspace() else end)
        for (start, end), empty, last, following in zip(spans, blank, before, after, strict=True)
    ]


def _sentencepiece_bytes(token: str) -> bytes:
    """Return the bytes of a SentencePiece token, which writes ``▁`` for spaces and ``<0x0A>`` for bytes."""
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode("utf-8")
