"""The tokenizer that a config asks for: found, or trained on the training split and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from glassformer.choices import choose
from glassformer.contracts import Tokenizer
from glassformer.data import Corpus
from glassformer.files import atomic_write
from glassformer.tokenization import (
    TOKENIZER_FILE,
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
    find_gpt2_ranks,
    load_tokenizer,
)
from glassformer.training.config import DataConfig

Train = Callable[[Iterable[str], int], Tokenizer]
"""Trains a tokenizer on texts to a size of the vocabulary."""


def make_tokenizer(config: DataConfig) -> Tokenizer:
    """What ``config.tokenizer`` names: a kind, a folder with ``tokenizer.json``, or a .tiktoken file.

    Raises:
        ValueError: neither.
    """
    if names_a_file(config):
        return read_tokenizer(Path(config.tokenizer))
    return choose(TOKENIZERS, config.tokenizer, "tokenizer (or folder of one)")(config)


def names_a_file(config: DataConfig) -> bool:
    """Whether ``config.tokenizer`` is a file or folder, not a kind."""
    return config.tokenizer not in TOKENIZERS and Path(config.tokenizer).exists()


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file or folder."""
    return BPETokenizer.from_tiktoken(path) if path.suffix == ".tiktoken" else load_tokenizer(path)


def _characters(config: DataConfig) -> Tokenizer:
    """Of all splits: a character that only the validation text has must be encoded too."""
    corpus = Corpus(config.source, config.fractions, config.split_seed)
    return CharacterTokenizer.train(piece.text for piece in corpus.pieces())


def _trained(train: Train) -> Callable[[DataConfig], Tokenizer]:
    """Trained on the training split alone."""

    def tokenizer_of(config: DataConfig) -> Tokenizer:
        corpus = Corpus(config.source, config.fractions, config.split_seed)
        made_of = [corpus.digest, corpus.fractions, corpus.seed, config.vocab_size]
        return kept_tokenizer(config, made_of, lambda: train(corpus.texts("train"), config.vocab_size))

    return tokenizer_of


def kept_tokenizer(config: DataConfig, made_of: Any, train: Callable[[], Tokenizer]) -> Tokenizer:
    """A tokenizer that is trained once and found again.

    Training may take longer than reading, and that of WordPiece gives other ids each time, so that a run
    could not go on without the tokenizer that it was begun with.

    Args:
        config: whose ``folder`` keeps it.
        made_of: JSON values that the tokenizer depends on.
        train: makes it.
    """
    key = hashlib.blake2b(json.dumps(made_of).encode(), digest_size=8).hexdigest()
    folder = Path(config.folder) / f"{config.tokenizer}-{key}"
    kept, checksum = folder / TOKENIZER_FILE, folder / "checksum"
    if kept.exists() and checksum.exists() and checksum.read_text(encoding="utf-8") == _digest(kept):
        return load_tokenizer(folder)
    tokenizer = train()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    atomic_write(checksum, _digest(kept))
    return tokenizer


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


TRAINABLE: dict[str, Train] = {
    "bpe": lambda texts, size: BPETokenizer.train(texts, size),
    "wordpiece": lambda texts, size: WordPieceTokenizer.train(texts, size),
}
"""Tokenizers that are trained, by the word that a config takes for them."""

TOKENIZERS: dict[str, Callable[[DataConfig], Tokenizer]] = {
    **{kind: _trained(train) for kind, train in TRAINABLE.items()},
    "byte": lambda config: ByteTokenizer(),
    "character": _characters,
    "gpt2": lambda config: BPETokenizer.from_tiktoken(find_gpt2_ranks()),
}
"""Tokenizers of running text by the word that a config takes for them."""
