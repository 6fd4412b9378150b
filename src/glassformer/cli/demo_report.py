"""The report of ``glassformer demo``: learning curve, samples and attention heads of the trained model."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from glassformer.analysis import HeadAnalysisSettings, HeadReport, analyze_heads
from glassformer.analysis.head_patterns import sample_texts, sentences
from glassformer.data import Corpus
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.config_files import to_toml
from glassformer.training.evaluation import Evaluation
from glassformer.training.run_folder import RunFolder
from glassformer.training.trainer import TrainingResult
from glassformer.visualization import AttentionVisualizer, draw_loss_curve
from glassformer.visualization.report import Section, write_report

TEXT = "The people of the United States have the right to vote, and the people will vote."
NUM_SENTENCES = 400
"""Held-out sentences on which head patterns are measured."""
NAME = "the demo's GPT"


def write_demo_report(
    config: TrainingConfig,
    result: TrainingResult,
    baselines: Mapping[str, Evaluation],
    num_tokens: int,
    began: float,
) -> Path:
    """Analyze the heads of a finished run and write ``report.html`` into its folder.

    Args:
        config: The configuration of the run.
        result: The result of the run.
        baselines: Evaluations of n-gram models on the held-out text, by name.
        num_tokens: Number of training tokens.
        began: The value of ``time.monotonic`` at the start of the demo.
    """
    run = RunFolder(config.run_folder)
    model = TransformerModel.from_pretrained(result.checkpoint)
    bits = {name: float(value.bits_per_byte or 0) for name, value in baselines.items()}
    final = float(result.metrics["validation_bits_per_byte"])
    visualizer = AttentionVisualizer(model, NAME)
    report = _analyze(model, config.data)
    report.save(run.path / "heads.json")
    sections = [
        _learning(run.metrics.rows(), bits, final),
        _samples(run.samples.rows(), result.step),
        _heads(visualizer, report, run.path),
        _explorer(visualizer, report, run.path),
        _next_steps(run.path, config),
        _environment(run.path, config),
    ]
    return write_report(
        run.path / "report.html",
        "A small GPT, seen through",
        f"{model.num_parameters():,} parameters, trained from scratch on {num_tokens:,} tokens of text.",
        {
            "held-out bits per byte": f"{final:.3f}",
            "best n-gram model": f"{min(bits.values()):.3f}",
            "steps": f"{result.step:,}",
            "from start to report": f"{(time.monotonic() - began) / 60:.1f} min",
        },
        sections,
    )


def _analyze(model: TransformerModel, data: DataConfig) -> HeadReport:
    """Measure head patterns on held-out sentences."""
    held_out = Corpus(data.source, data.fractions, data.split_seed).texts("validation")
    texts = sample_texts(sentences(held_out), NUM_SENTENCES, 0) or [TEXT]
    report = analyze_heads(model, texts, HeadAnalysisSettings(patterns=("tokens", "offsets", "copying")))
    return replace(report, model=f"{NAME} over {count_of(len(texts), 'sentence')}")


def _learning(metrics: list[dict[str, Any]], bits: Mapping[str, float], final: float) -> Section:
    rows = [(f"{name} model", f"{value:.3f}") for name, value in bits.items()]
    return (
        Section("How it learned")
        .text(
            "Bits per byte: how many bits the model needs, on average, for each byte of text that it was not "
            "trained on. The dashed lines are n-gram models, which only count how often each token occurs "
            "(unigram), and how often it follows the token before it (bigram). To be better, a model has to "
            "use more of the text before a token."
        )
        .figure(
            draw_loss_curve(metrics, bits),
            "Bits per byte over training steps: training batches, held-out text, and n-gram models",
        )
        .table(("model", "bits per byte of held-out text"), [*rows, ("this GPT", f"{final:.3f}")])
    )


def _samples(samples: list[dict[str, Any]], steps: int) -> Section:
    return (
        Section("What it generates")
        .text("The same prompt, continued by the model with random weights and by the trained one.")
        .sample("before training", samples[0]["text"])
        .sample(f"after {count_of(steps, 'step')}", samples[-1]["text"])
    )


def _heads(visualizer: AttentionVisualizer, report: HeadReport, folder: Path) -> Section:
    rows = [row for row in report.rows if (row["pattern"], row["measure"]) == ("previous", "rate")]
    strongest = max(rows, key=lambda row: row["score"])
    layer, head = int(strongest["layer"]), int(strongest["head"])
    num_sentences = int(strongest["num_items"])  # the half that is scored
    return (
        Section("What its heads attend to")
        .text(
            "In these heat maps a row is a token that attends (the query), and a column a token that it "
            f"attends to (the key). Darker is more attention. Layer {layer} is shown for its head {head}. "
            f"Over {num_sentences:,} held-out sentences, no other head has its largest weight on the "
            f"previous token as often: for {strongest['score']:.0%} of the tokens."
        )
        .figure(
            visualizer.plot_attention_heads(TEXT, layer, folder / f"attention-layer{layer}.png"),
            f"All heads of layer {layer} on one sentence",
        )
        .figure(
            visualizer.plot_head(TEXT, layer, head, folder / f"attention-layer{layer}-head{head}.png"),
            f"Head {head} of layer {layer}",
        )
        .text(
            "The map shows the attention pattern of each head, measured on the same sentences. A head is "
            "labeled if it exceeds every baseline: the best head of a model with random weights, a fixed "
            "offset, and shuffled labels. A label says where a head attends, not what it is for."
        )
        .figure(
            visualizer.plot_head_map(report, folder / "heads.png"),
            f"The attention pattern of each head over {num_sentences:,} held-out sentences",
        )
    )


def _explorer(visualizer: AttentionVisualizer, report: HeadReport, folder: Path) -> Section:
    explorer = visualizer.explore(TEXT, folder / "explorer.html", heads_report=report, live=True)
    return (
        Section("Explore every head")
        .link(
            "explorer.html",
            "The explorer",
            "Every head on one sentence, below and on a page of its own. Type another sentence into it: the "
            "page holds the model, and computes its attention.",
        )
        .page(explorer)
    )


def _next_steps(folder: Path, config: TrainingConfig) -> Section:
    run = shlex.quote(str(folder))
    train = f"glassformer train --config {run}/config.toml"
    return (
        Section("What to try next")
        .text("Generate text, draw another layer, or change one hyperparameter and train again:")
        .code(
            f"glassformer generate {run} 'Our economy'\n"
            f"glassformer visualize {run} 'We the people' --layer 0\n"
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
        .table(("environment", ""), rows)
        .text("The configuration of this run, for glassformer train --config.")
        .code(to_toml(config))
    )
