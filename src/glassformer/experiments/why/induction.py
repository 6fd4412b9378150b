"""Induction heads: they appear suddenly in two layers and never in one (Olsson et al. 2022)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.attention import record_attention
from glassformer.backends import use_backends
from glassformer.experiments.training import train
from glassformer.experiments.why.byte_models import training_config, training_flops
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
    stored,
)
from glassformer.experiments.why.induction_data import RepeatedTokens, is_repeated, unigram_loss
from glassformer.models import GPTModel
from glassformer.training import CheckpointConfig, Schedule
from glassformer.training.checkpoints import Checkpoints
from glassformer.training.devices import seed_everything

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVALUATION_SEED = 2**31
"""Added to the seed of rows that no model is trained on."""
FORMED = 0.5
"""Prefix-matching score from which a head counts as an induction head."""
RISE = (0.25, 0.75)
"""Shares of the final score between which its rise is timed."""
DENSE, SPARSE = "dense", "sparse"
"""Run folders with all checkpoints, and with the last alone."""
LAYERS = {"one layer": 1, "two layers": 2}


def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Train models of one and two layers, and measure them at dense checkpoints of the same run.

    Args:
        settings: ``vocab_size``, ``seq_len``, ``periods``, ``batch_size``, ``steps``, ``warmup_steps``,
            ``checkpoint_every``, ``d_model``, ``num_heads``, ``learning_rates`` by number of layers, and
            ``num_evaluated`` rows.
        seed: of weights and rows. Seed 0 also trains without dense checkpoints.
        folder: for the run folders; checkpoints are removed after they were measured.

    Returns:
        By number of layers ``steps`` of the checkpoints, ``loss`` on repeated tokens and ``scores``, the
        prefix-matching score of the best head of each layer, at each of them; ``same_weights``, whether the
        run without dense checkpoints ended with the same weights, or None. ``unigram`` has the losses by
        counts of earlier tokens.
    """
    rows, periods = _batches(settings, settings["num_evaluated"], seed + EVALUATION_SEED).rows(0)
    low, high = settings["periods"]
    found: Value = {}
    for name, num_layers in LAYERS.items():
        run = folder / f"{num_layers}-layers"
        found[name] = stored(run.with_suffix(".json"), partial(_run, settings, seed, run, num_layers))
        for done in (run / DENSE, run / SPARSE):  # only now: a kill must not leave a part of a run
            shutil.rmtree(done, ignore_errors=True)
    return found | {
        "unigram": {
            "all": unigram_loss(rows, periods, settings["vocab_size"]),
            "near": unigram_loss(rows, periods, settings["vocab_size"], (low, high)),
        }
    }


def _run(settings: Mapping[str, Any], seed: int, folder: Path, num_layers: int) -> Value:
    """Train with dense checkpoints, and measure them."""
    model = train_induction(settings, seed, folder / DENSE, num_layers, settings["checkpoint_every"])
    checkpoints = Checkpoints(folder / DENSE / "checkpoints")
    steps, losses, scores = [0], [], []
    untrained = build(settings, seed, num_layers)
    for step in (0, *checkpoints.steps()):
        at_step = untrained if step == 0 else GPTModel.from_pretrained(checkpoints.path(step))
        measured = measure(at_step.to(model.device).eval(), settings, seed)
        losses.append(measured["loss"])
        scores.append(measured["scores"])
        if step:
            steps.append(step)
    same = None
    if seed == 0:
        other = train_induction(settings, seed, folder / SPARSE, num_layers, 0)
        same = digest(other) == digest(model)
    return {"steps": steps, "loss": losses, "scores": scores, "same_weights": same}


def train_induction(
    settings: Mapping[str, Any], seed: int, folder: Path, num_layers: int, checkpoint_every: int
) -> GPTModel:
    """Train a model and keep all checkpoints; 0 is only the last."""
    rate = settings["learning_rates"][str(num_layers)]
    config = training_config(settings, seed, folder, rate, Schedule("constant", settings["warmup_steps"]))
    checkpoints = CheckpointConfig(every=checkpoint_every, keep=settings["steps"])
    return train(
        partial(_model, settings, num_layers),
        replace(config, checkpoints=checkpoints),
        _batches(settings, settings["batch_size"], seed),
        data_key=f"repeated tokens, seed {seed}",
    )


def build(settings: Mapping[str, Any], seed: int, num_layers: int) -> GPTModel:
    """The model before training, as ``train`` builds it."""
    seed_everything(seed)
    return _model(settings, num_layers)


def _model(settings: Mapping[str, Any], num_layers: int) -> GPTModel:
    return GPTModel(
        vocab_size=settings["vocab_size"],
        d_model=settings["d_model"],
        num_layers=num_layers,
        num_heads=settings["num_heads"],
        max_seq_len=settings["seq_len"],
        positions="rotary",
    )


def _batches(settings: Mapping[str, Any], batch_size: int, seed: int) -> RepeatedTokens:
    low, high = settings["periods"]
    return RepeatedTokens(settings["vocab_size"], settings["seq_len"], (low, high), batch_size, seed)


@torch.no_grad()
def measure(model: GPTModel, settings: Mapping[str, Any], seed: int) -> Value:
    """Loss on repeated tokens, and the prefix-matching score of the best head of each layer.

    The score is the weight on the tokens after earlier occurrences of the current one, averaged over queries
    that have such tokens (Olsson et al. 2022, "prefix matching").
    """
    rows, periods = _batches(settings, settings["num_evaluated"], seed + EVALUATION_SEED).rows(0)
    inputs, targets = rows[:, :-1].to(model.device), rows[:, 1:].to(model.device)
    with use_backends("torch"), record_attention(model) as recording:
        logits = model(inputs)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    target = follows_same_token(inputs)
    scores = []
    for weights in recording.values():
        on_target = (weights * target[:, None]).sum(-1).transpose(0, 1)  # (head, row, query)
        scores.append(float(on_target[:, target.any(-1)].mean(-1).max()))
    return {"loss": float(losses[is_repeated(rows, periods).to(losses.device)].mean()), "scores": scores}


def follows_same_token(ids: Tensor) -> Tensor:
    """Which keys come after an earlier occurrence of the query's token, ``(row, query, key)``.

    Unlike ``head_patterns.patterns.Induction``, it includes all earlier occurrences, since a block is
    repeated more than once.
    """
    same = (ids[:, :, None] == ids[:, None, :]).tril(-1)
    return F.pad(same[..., :-1], (1, 0))


def digest(model: nn.Module) -> str:
    """Hash of all weights, to the bit."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def best_scores(row: Value) -> list[float]:
    """The score of the best head of the model at each checkpoint."""
    return [max(scores) for scores in row["scores"]]


def rise(row: Value) -> float:
    """Share of the updates in which the score rises from a quarter to three quarters of the final one."""
    scores, steps = best_scores(row), row["steps"]
    first, last = (
        next(step for step, score in zip(steps, scores, strict=True) if score >= share * scores[-1])
        for share in RISE
    )
    return float((last - first) / steps[-1])


def analyze(values: Sequence[Value]) -> Evidence:
    """Scores and losses of one and two layers."""
    one, two = ([value[name] for value in values] for name in LAYERS)
    final = [best_scores(row)[-1] for row in two]
    by_claim = {
        "induction-two": final,
        "induction-one": [max(best_scores(row)) for row in one],
        "induction-unigram": [
            row["loss"][-1] - min(value["unigram"].values()) for row, value in zip(one, values, strict=True)
        ],
        "induction-loss": [a["loss"][-1] - b["loss"][-1] for a, b in zip(two, one, strict=True)],
    }
    untestable = {}
    if min(final) >= FORMED:
        by_claim["induction-sudden"] = [rise(row) for row in two]
    else:
        untestable["induction-sudden"] = (
            f"In some seed no head of two layers reaches a prefix-matching score of {FORMED}, so that there "
            "is no rise to be timed."
        )
    rows = {
        name: {
            "final loss": [value[name]["loss"][-1] for value in values],
            "final score": [best_scores(value[name])[-1] for value in values],
            "largest score": [max(best_scores(value[name])) for value in values],
        }
        for name in LAYERS
    }
    unigrams = {
        "all earlier tokens": {"loss": [value["unigram"]["all"] for value in values]},
        "tokens at distances that are periods": {"loss": [value["unigram"]["near"] for value in values]},
    }
    same = [row["same_weights"] for value in values for row in (value[name] for name in LAYERS)]
    compared = [flag for flag in same if flag is not None]
    note = (
        f"{sum(compared)} of {len(compared)} runs with dense checkpoints ended with the very weights of the "
        "run without them."
    )
    return Evidence(
        by_claim,
        [
            means_table("Repeated random tokens", rows, "model", "Loss on repeated tokens, in nats."),
            means_table("In-context unigrams", unigrams, "counts of"),
        ],
        {
            "steps": values[0]["two layers"]["steps"],
            "score": {name: [_rounded(best_scores(value[name])) for value in values] for name in LAYERS},
            "loss": {name: [_rounded(value[name]["loss"]) for value in values] for name in LAYERS},
            "unigram": mean([min(value["unigram"].values()) for value in values]),
        },
        untestable,
        [note] if compared else [],
    )


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [round(number, 3) for number in numbers]


def draw(data: Any) -> tuple[Figure, str]:
    """Score and loss by update, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    labels = {"score": "prefix-matching score", "loss": "loss on repeated tokens, nats"}
    for axis, (measure_name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for number, (name, curves) in enumerate(data[measure_name].items()):
            for seed, curve in enumerate(curves):
                axis.plot(
                    data["steps"], curve, color=f"C{number}", lw=1, alpha=0.7, label=None if seed else name
                )
        axis.set(xlabel="update", ylabel=label)
        axis.grid(alpha=0.3)
    axis.axhline(data["unigram"], color="0.3", ls="--", lw=1, label="in-context unigram")
    axis.legend(frameon=False)
    return figure, "Best head of the model, and loss, at dense checkpoints; a line is a seed."


def summarize(value: Value) -> dict[str, str | float | int]:
    """The final scores."""
    return {f"induction: {name}": round(best_scores(value[name])[-1], 4) for name in LAYERS}


def flops(settings: Mapping[str, Any]) -> float:
    """Of both models of a seed."""
    return sum(training_flops(settings, settings["vocab_size"], n) for n in LAYERS.values())


INDUCTION = Demonstration(make, analyze, draw, summarize, flops)
