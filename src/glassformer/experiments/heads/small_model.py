"""A small GPT that is trained on grammar, repeated words and prose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.experiments.heads.mixture import write_mixture
from glassformer.experiments.training import EpochWindows, run_config, train
from glassformer.models import GPTModel
from glassformer.training import DataConfig, Schedule, prepare_data


def train_small(settings: Mapping[str, Any], folder: Path) -> GPTModel:
    """Train a GPT on the mixture, with rotary positions, RMSNorm and tied embeddings, without biases."""
    s = settings
    source = folder.parent.parent / "tokens" / f"mixture-{s['num_words']}.jsonl"
    write_mixture(source, s["source"], s["num_words"], seed=0)
    data = DataConfig(
        source=str(source),
        tokenizer="bpe",
        vocab_size=s["vocab_size"],
        seq_len=s["seq_len"],
        folder=str(source.parent),
    )
    config = run_config(
        folder / "training",
        steps=s["steps"],
        batch_size=s["batch_size"],
        seed=s["seed"],
        learning_rate=s["learning_rate"],
        schedule=Schedule("cosine", s["warmup_steps"]),
        data=data,
    )
    tokenizer, files = prepare_data(config.data)
    batches = EpochWindows(files.train, config.batch_size, s["seq_len"], s["seed"])
    batches.batch(s["steps"] - 1)  # raises if the text is too short

    def build() -> GPTModel:
        return GPTModel(
            vocab_size=tokenizer.vocab_size,
            d_model=s["d_model"],
            num_layers=s["num_layers"],
            num_heads=s["num_heads"],
            max_seq_len=s["seq_len"],
            positions="rotary",
            norm="rms",
            bias=False,
            tie_embeddings=True,
            dropout=0.0,
        )

    model = train(build, config, batches, data_key=files.key)
    model.tokenizer = tokenizer
    return model.eval()
