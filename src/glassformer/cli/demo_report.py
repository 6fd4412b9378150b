"""The report of the demo: how the model learned, what it writes, what its heads look at."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from glassformer.analysis import Settings, analyze_heads, head_patterns
from glassformer.analysis.sentences import draw, sentences
from glassformer.cli.visualize import opening_paragraphs
from glassformer.data import Corpus
from glassformer.models import TransformerModel
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.config_files import to_toml
from glassformer.training.evaluation import Evaluation
from glassformer.training.run_folder import RunFolder
from glassformer.training.trainer import TrainingResult
from glassformer.visualization import AttentionVisualizer, draw_loss_curve, draw_patterns, save_picture
from glassformer.visualization.report import Section, write_report

SENTENCE = "The people of the United States have the right to vote, and the people will vote."
PARAGRAPHS = 100
SENTENCES = 400
"""Over which heads are named."""
NAME = "the demo's GPT"


def write_demo_report(
    config: TrainingConfig,
    result: TrainingResult,
    baselines: Mapping[str, Evaluation],
    num_tokens: int,
    began: float,
) -> Path:
    """Draw the heads of a finished run and write ``report.html`` into its folder.

    Args:
        config: of the run.
        result: of the run.
        baselines: counting models on the held-out text.
        num_tokens: that the model learned from.
        began: when the demo began, by ``time.monotonic``.
    """
    run = RunFolder(config.run_folder)
    model = TransformerModel.from_pretrained(result.checkpoint)
    bits = {name: float(value.bits_per_byte or 0) for name, value in baselines.items()}
    final = float(result.metrics["validation_bits_per_byte"])
    sections = [
        _learning(run.metrics.rows(), bits, final),
        _writing(run.samples.rows(), result.step),
        _heads(model, config.data, run.path),
        _explorer(model, config.data, run.path),
        _following(run.path, config),
        _environment(run.path, config),
    ]
    return write_report(
        run.path / "report.html",
        "A small GPT, seen through",
        f"{model.num_parameters():,} parameters, trained from nothing on {num_tokens:,} tokens of text.",
        {
            "held-out bits per byte": f"{final:.3f}",
            "best counting model": f"{min(bits.values()):.3f}",
            "updates": f"{result.step:,}",
            "from start to report": f"{(time.monotonic() - began) / 60:.1f} min",
        },
        sections,
    )


def _learning(metrics: list[dict[str, Any]], bits: Mapping[str, float], final: float) -> Section:
    rows = [(f"{name} model: counts", f"{value:.3f}") for name, value in bits.items()]
    return (
        Section("How it learned")
        .text(
            "Bits per byte: how many bits the model needs, on average, for each byte of text that it has "
            "never seen. The dashed lines are models that only count: how often each token occurs (unigram), "
            "and how often it follows the one before (bigram). What lies below them takes a longer look back."
        )
        .figure(
            draw_loss_curve(metrics, bits),
            "Bits per byte over updates: training batches, held-out text, and the counting models",
        )
        .table(("model", "bits per byte of held-out text"), [*rows, ("this GPT", f"{final:.3f}")])
    )


def _writing(samples: list[dict[str, Any]], steps: int) -> Section:
    return (
        Section("What it writes")
        .text("The same beginning, continued by the model with random weights and by the trained one.")
        .sample("before training", samples[0]["text"])
        .sample(f"after {steps:,} updates", samples[-1]["text"])
    )


def _heads(model: TransformerModel, data: DataConfig, folder: Path) -> Section:
    visualizer = AttentionVisualizer(model, NAME)
    held_out = Corpus(data.source, data.fractions, data.split_seed).texts("validation")
    patterns = head_patterns(model, opening_paragraphs(held_out, PARAGRAPHS))
    strongest = max(patterns.rows(), key=lambda row: row["previous"])
    layer, head = int(strongest["layer"]), int(strongest["head"])
    scope = f"{patterns.num_queries:,} queries of {patterns.num_texts} held-out paragraphs"
    maps = draw_patterns(patterns, title="What each head looks at", caption=f"means over {scope}")
    save_picture(maps, folder / "heads.png")
    return (
        Section("What its heads look at")
        .text(
            "Each row of a map is a token that looks, each column one that is looked at. Darker is more "
            f"attention. Layer {layer} is shown because its head {head} looks at the previous token more "
            f"than any other: with {strongest['previous']:.0%} of its attention, on average."
        )
        .figure(
            visualizer.plot_attention_heads(SENTENCE, layer, folder / f"attention-layer{layer}.png"),
            f"All heads of layer {layer} on one sentence",
        )
        .figure(
            visualizer.plot_head(SENTENCE, layer, head, folder / f"attention-layer{layer}-head{head}.png"),
            f"Head {head} of layer {layer}, large",
        )
        .text(
            "Over many passages, six numbers for each head. They say where a head looks, not what it is for. "
            "None of the passages was trained on."
        )
        .figure(
            maps,
            f"Six patterns of attention for every layer and head: means over {scope}",
        )
    )


def _explorer(model: TransformerModel, data: DataConfig, folder: Path) -> Section:
    held_out = Corpus(data.source, data.fractions, data.split_seed).texts("validation")
    chosen = draw(sentences(held_out), SENTENCES, 0) or [SENTENCE]
    settings = Settings(patterns=("tokens", "offsets", "copying"))
    report = replace(analyze_heads(model, chosen, settings), model=f"{NAME} over {len(chosen):,} sentences")
    report.save(folder / "named-heads.json")
    visualizer = AttentionVisualizer(model, NAME)
    return (
        Section("Look around yourself")
        .text(
            f"A head has a name where it beats controls over {len(chosen):,} sentences that were not trained "
            "on: the best head of a model with random weights, a fixed offset, and shuffled labels."
        )
        .figure(
            visualizer.plot_head_map(report, folder / "named-heads.png"), "The heads that have earned a name"
        )
        .link("explorer.html", "The explorer", "Every head, on one sentence; here in a frame, there alone.")
        .page(visualizer.explore(SENTENCE, folder / "explorer.html", heads_report=report))
    )


def _following(folder: Path, config: TrainingConfig) -> Section:
    run = shlex.quote(str(folder))
    train = f"glassformer train --config {run}/config.toml"
    return (
        Section("What to try next")
        .text("Let it write, look at another layer, or change one thing and train again:")
        .code(
            f"glassformer generate {run} --prompt 'Our economy'\n"
            f"glassformer visualize {run} --text 'We the people' --layer 0\n"
            f"glassformer describe {run} --seq-len {config.data.seq_len}\n"
            f"{train} --run-folder runs/alibi --model.positions alibi\n"
            f"{train} --run-folder runs/swiglu --model.activation swiglu"
        )
    )


def _environment(folder: Path, config: TrainingConfig) -> Section:
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    rows = [(name, "-" if value is None else str(value)) for name, value in environment.items()]
    return (
        Section("The run")
        .table(("made with", ""), rows)
        .text("Every choice of this run; glassformer train --config takes this file.")
        .code(to_toml(config))
    )
