"""From a config to a trained model: text, tokenizer, token files, model, trainer."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from glassformer.choices import choose, suggestion
from glassformer.contracts import Tokenizer
from glassformer.data import (
    Batches,
    ConsoleProgress,
    Corpus,
    TokenFile,
    TokenFiles,
    build_token_files,
    windows,
)
from glassformer.files import atomic_write
from glassformer.models import TransformerModel
from glassformer.tokenization import (
    TOKENIZER_FILE,
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    find_gpt2_ranks,
    load_tokenizer,
)
from glassformer.training.config import NO_PRESET, DataConfig, TrainingConfig
from glassformer.training.devices import choose_device
from glassformer.training.evaluation import Evaluation, evaluate
from glassformer.training.objectives import LanguageModelling
from glassformer.training.run_folder import RunFolder
from glassformer.training.tensorboard_log import require_tensorboard
from glassformer.training.trainer import Sample, Trainer, TrainingResult, seed_everything


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    sample: Sample | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Train a language model as the config says, in ``config.run_folder``.

    Args:
        config: the run.
        resume: go on with the run that is in the folder.
        overwrite: remove the run that is in the folder and start anew.
        sample: a text of the model, taken with each evaluation.
        console: for progress.

    Raises:
        ValueError: a wrong choice, text that cannot be used, or a run folder that exists and is neither to be
            resumed nor overwritten. A run folder is made, or removed, only when all else is in order.
        NonFiniteError: see ``Trainer.run``.
        OSError: something cannot be read or written.
    """
    RunFolder.check(config, resume=resume, overwrite=overwrite)
    with torch.device("meta"):  # a model that cannot be built is known before the text is read
        build_model(config, ByteTokenizer())
    tokenizer, files = prepare_data(config.data, console)
    seed_everything(config.seed)
    model = build_model(config, tokenizer)
    try:
        batches = Batches(files.train, config.batch_size, config.data.seq_len, config.seed)
    except ValueError as error:
        raise ValueError(f"{config.data.source}, training split: {error}") from error
    rehearse(model, batches, config, sample)
    run = RunFolder.open(config, resume=resume, overwrite=overwrite)
    run.bind_data(files.key)
    trainer = Trainer(
        model,
        LanguageModelling(),
        batches,
        config,
        run,
        evaluate=held_out(files.validation, config) if len(files.validation) > 1 else None,
        sample=sample,
        console=console,
    )
    return trainer.run()


def rehearse(model: Any, batches: Batches, config: TrainingConfig, sample: Sample | None) -> None:
    """Find out what would stop a run before its folder is made or an old one removed.

    Raises:
        ValueError: the device is not there, the text is too long for the model, or sampling fails.
        ImportError: TensorBoard is asked for and not installed.
    """
    choose_device(config.device)
    if config.tensorboard:
        require_tensorboard()
    with torch.no_grad():
        LanguageModelling()(model, batches.batch(0)[:1])
        if sample is not None:
            sample(model)


def prepare_data(config: DataConfig, console: Console | None = None) -> tuple[Tokenizer, TokenFiles]:
    """The tokenizer and the token files, found where they were made before."""
    tokenizer = make_tokenizer(config)
    files = build_token_files(
        config.source,
        tokenizer,
        config.folder,
        fractions=config.fractions,
        seed=config.split_seed,
        progress=ConsoleProgress(console),
    )
    return tokenizer, files


def make_tokenizer(config: DataConfig) -> Tokenizer:
    """What ``config.tokenizer`` names: a kind, a folder with ``tokenizer.json``, or a .tiktoken file.

    Raises:
        ValueError: neither.
    """
    path = Path(config.tokenizer)
    if config.tokenizer not in TOKENIZERS and path.exists():
        return BPETokenizer.from_tiktoken(path) if path.suffix == ".tiktoken" else load_tokenizer(path)
    return choose(TOKENIZERS, config.tokenizer, "tokenizer (or folder of one)")(config)


def build_model(config: TrainingConfig, tokenizer: Tokenizer) -> TransformerModel:
    """A new model with the tokenizer's vocabulary, from a preset or from its sizes.

    Raises:
        ValueError: an unknown family, preset or keyword, or a size that is missing or does not fit.
    """
    family = choose(TransformerModel.families, config.model.family, "model family")
    keywords: dict[str, Any] = {"max_seq_len": config.data.seq_len} | config.model.keywords()
    for name in keywords:
        if name not in family.keywords():
            raise ValueError(f"{family.family} has no keyword {name!r}{suggestion(name, family.keywords())}")
    keywords["vocab_size"] = tokenizer.vocab_size
    if config.model.preset != NO_PRESET:
        model: TransformerModel = family.from_preset(config.model.preset, **keywords)
    else:
        _check_complete(family, keywords)
        model = family(**keywords)
    model.tokenizer = tokenizer
    return model


def held_out(split: TokenFile, config: TrainingConfig) -> Callable[[TransformerModel], dict[str, float]]:
    """What to call for a model's figures on the whole of a split."""

    def figures(model: TransformerModel) -> dict[str, float]:
        return evaluate_split(model, split, config).metrics()

    return figures


def evaluate_split(model: TransformerModel, split: TokenFile, config: TrainingConfig) -> Evaluation:
    """A model's figures on the whole of a split, in windows of the training's length."""
    batches = windows(split, config.data.seq_len, config.evaluation.batch_size)
    return evaluate(model, batches, num_bytes=split.num_bytes)


def _check_complete(family: type[TransformerModel], keywords: dict[str, Any]) -> None:
    parameters = inspect.signature(family).parameters
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in keywords]
    if missing:
        raise ValueError(f"without a preset, {', '.join('model.' + name for name in missing)} must be given")


def _characters(config: DataConfig) -> Tokenizer:
    """Of all splits: a character that only the validation text has must be encoded too."""
    corpus = Corpus(config.source, config.fractions, config.split_seed)
    return CharacterTokenizer.train(piece.text for piece in corpus.pieces())


def _trained_bpe(config: DataConfig) -> Tokenizer:
    """Trained on the training split alone; kept, since training it takes longer than reading it."""
    corpus = Corpus(config.source, config.fractions, config.split_seed)
    made_of = [corpus.digest, corpus.fractions, corpus.seed, config.vocab_size]
    key = hashlib.blake2b(json.dumps(made_of).encode(), digest_size=8).hexdigest()
    folder = Path(config.folder) / f"bpe-{key}"
    kept, checksum = folder / TOKENIZER_FILE, folder / "checksum"
    if kept.exists() and checksum.exists() and checksum.read_text(encoding="utf-8") == _digest(kept):
        return load_tokenizer(folder)
    tokenizer = BPETokenizer.train(corpus.texts("train"), config.vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    atomic_write(checksum, _digest(kept))
    return tokenizer


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


TOKENIZERS: dict[str, Callable[[DataConfig], Tokenizer]] = {
    "bpe": _trained_bpe,
    "byte": lambda config: ByteTokenizer(),
    "character": _characters,
    "gpt2": lambda config: BPETokenizer.from_tiktoken(find_gpt2_ranks()),
}
"""Tokenizers by the word in ``data.tokenizer``."""
