"""Tokenizers of training runs: fixed, read from files, or trained on the training split and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.choices import choose
from glassformer.contracts import Tokenizer
from glassformer.data import ConsoleProgress, Corpus
from glassformer.files import atomic_write
from glassformer.folder_lock import lock_folder
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

TrainTokenizer = Callable[[Iterable[str], int], Tokenizer]
"""Trains a tokenizer of a given vocabulary size on texts."""
MakeTokenizer = Callable[[DataConfig], Tokenizer]
"""Makes a tokenizer of a configured vocabulary size."""


def make_tokenizer(
    config: DataConfig, options: Mapping[str, MakeTokenizer] | None = None, kind: str = "tokenizer"
) -> Tokenizer:
    """The tokenizer named by ``config.tokenizer``: one of the options, or read from a path.

    Args:
        config: the data configuration.
        options: tokenizers by name. Default: ``TOKENIZERS``.
        kind: what the options are, for the error message.

    Raises:
        ValueError: neither a known name nor an existing path.
    """
    options = TOKENIZERS if options is None else options
    path = Path(config.tokenizer)  # a .tiktoken file, or a folder with tokenizer.json
    if config.tokenizer in options or not path.exists():
        return choose(options, config.tokenizer, f"{kind} (or path of one)")(config)
    return BPETokenizer.from_tiktoken(path) if path.suffix == ".tiktoken" else load_tokenizer(path)


def cached_tokenizer(config: DataConfig, inputs: Any, train: Callable[[], Tokenizer]) -> Tokenizer:
    """Train a tokenizer, or load it from ``config.folder`` if it was trained before.

    Retraining would be slow. Two processes that train the same tokenizer wait for each other.

    Args:
        config: the data configuration.
        inputs: JSON values that determine the tokenizer; their hash is part of the folder's name.
        train: trains the tokenizer.
    """
    key = hashlib.blake2b(json.dumps(inputs).encode(), digest_size=8).hexdigest()
    folder = Path(config.folder) / f"{config.tokenizer}-{key}"
    cached, checksum = folder / TOKENIZER_FILE, folder / "checksum"

    def is_cached() -> bool:
        finished = cached.exists() and checksum.exists()
        return finished and checksum.read_text(encoding="utf-8") == _hash_file(cached)

    if is_cached():
        return load_tokenizer(folder)
    with lock_folder(folder, "folder of the tokenizer", on_wait=ConsoleProgress().note):
        if is_cached():  # trained by the process that held the lock
            return load_tokenizer(folder)
        tokenizer = train()
        tokenizer.save(folder)
        atomic_write(checksum, _hash_file(cached))
        return tokenizer


def _hash_file(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _TrainingTexts:
    """The texts of the training split, which some tokenizers read more than once."""

    corpus: Corpus

    def __iter__(self) -> Iterator[str]:
        return self.corpus.texts("train")


def _train_on_training_split(train: TrainTokenizer) -> MakeTokenizer:
    def make(config: DataConfig) -> Tokenizer:
        corpus = Corpus(config.source, config.fractions, config.split_seed)
        inputs = [corpus.digest, corpus.fractions, corpus.seed, config.vocab_size]
        return cached_tokenizer(config, inputs, lambda: train(_TrainingTexts(corpus), config.vocab_size))

    return make


def _character_tokenizer(config: DataConfig) -> Tokenizer:
    """A tokenizer with the characters of all splits, so that the validation and test text can be encoded."""
    corpus = Corpus(config.source, config.fractions, config.split_seed)
    return CharacterTokenizer.train(piece.text for piece in corpus.chunks())


TRAINABLE_TOKENIZERS: dict[str, TrainTokenizer] = {
    "bpe": lambda texts, vocab_size: BPETokenizer.train(texts, vocab_size),
    "wordpiece": lambda texts, vocab_size: WordPieceTokenizer.train(texts, vocab_size),
}

TOKENIZERS: dict[str, MakeTokenizer] = {
    **{kind: _train_on_training_split(train) for kind, train in TRAINABLE_TOKENIZERS.items()},
    "byte": lambda config: ByteTokenizer(),
    "character": _character_tokenizer,
    "gpt2": lambda config: BPETokenizer.from_tiktoken(find_gpt2_ranks()),
}
"""Tokenizers of running text by ``data.tokenizer``."""
