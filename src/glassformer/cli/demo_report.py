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
from glassformer.visualization.model_input import token_labels
from glassformer.visualization.report import Section, write_report

TEXT = "The people of the United States have the right to vote, and the people will vote."
NUM_SENTENCES = 400
"""Held-out sentences on which head patterns are measured."""
NAME = "the demo's GPT"
MAX_SAMPLES = 4
MAX_SHOWN_CHARACTERS, MAX_SHOWN_TOKENS = 1000, 60
"""Of the held-out text whose tokens are shown."""


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
    corpus = Corpus(config.data.source, config.data.fractions, config.data.split_seed)
    held_out = next(iter(corpus.texts("validation")), TEXT)
    sections = [
        _text(model, held_out, num_tokens),
        _learning(run.metrics.rows(), bits, final, result.step),
        _samples(run.samples.rows()),
        _heads(visualizer, report, run.path),
        _explorer(visualizer, report, run.path),
        _next_steps(run.path, config),
        _environment(run.path, config),
    ]
    minutes = (time.monotonic() - began) / 60
    return write_report(
        run.path / "report.html",
        "A small GPT, seen through",
        "From the text that it read to what its attention heads look at, in six steps. Everything on this "
        f"page was made in {minutes:.1f} minutes on one machine.",
        {
            "parameters": f"{model.num_parameters():,}",
            "training steps": f"{result.step:,}",
            "held-out bits per byte": f"{final:.3f}",
            "best n-gram model": f"{min(bits.values()):.3f}",
        },
        sections,
    )


def _text(model: TransformerModel, held_out: str, num_tokens: int) -> Section:
    """What the model reads."""
    tokenizer: Any = model.tokenizer
    ids = tokenizer.encode(held_out[:MAX_SHOWN_CHARACTERS])[:MAX_SHOWN_TOKENS]
    return (
        Section("1. The text")
        .text(
            f"A language model reads tokens: words and frequent parts of words, of which it knows "
            f"{tokenizer.vocab_size:,}. Its training text has {num_tokens:,} of them. After each token "
            "it gives every token of its vocabulary a probability of being the next one; training makes the "
            "right one more probable."
        )
        .tokens(
            token_labels(model, tokenizer, ids),
            f"The beginning of a text that was held out of training, as the model reads it: "
            f"{count_of(len(ids), 'token')} (· is a space)",
        )
    )


def _analyze(model: TransformerModel, data: DataConfig) -> HeadReport:
    """Measure head patterns on held-out sentences."""
    held_out = Corpus(data.source, data.fractions, data.split_seed).texts("validation")
    texts = sample_texts(sentences(held_out), NUM_SENTENCES, 0) or [TEXT]
    report = analyze_heads(model, texts, HeadAnalysisSettings(patterns=("tokens", "offsets", "copying")))
    return replace(report, model=f"{NAME} over {count_of(len(texts), 'sentence')}")


def _learning(metrics: list[dict[str, Any]], bits: Mapping[str, float], final: float, steps: int) -> Section:
    first = next(row["validation_bits_per_byte"] for row in metrics if "validation_bits_per_byte" in row)
    best = min(bits, key=bits.__getitem__)
    if final < bits[best]:
        verdict = (
            f"That is less than the {bits[best]:.2f} of the {best} model, so it uses more of the text than "
            "the last token."
        )
    else:
        verdict = f"The {best} model needs {bits[best]:.2f}: train for more steps to see this one pass it."
    return (
        Section("2. How it learned")
        .text(
            "Bits per byte say how well the next token is predicted: how many bits the model needs, on "
            f"average, for each byte of text that it was not trained on. It began with {first:.2f} and has "
            f"{final:.2f} after {count_of(steps, 'step')}. {verdict}"
        )
        .figure(
            draw_loss_curve(metrics, bits),
            "Bits per byte over training steps; lower is better. The dashed lines are models that only "
            "count: how often each token occurs (unigram), and how often it follows the one before "
            "it (bigram).",
        )
    )


def _samples(samples: list[dict[str, Any]]) -> Section:
    """The first, the last, and some samples between."""
    count = min(len(samples), MAX_SAMPLES)
    chosen = sorted({round(place * (len(samples) - 1) / max(1, count - 1)) for place in range(count)})
    section = Section("3. What it writes").text(
        "The same beginning, continued by the model before, during and after training. Each token is drawn "
        "from the predicted probabilities and then read as part of the text."
    )
    for sample in (samples[number] for number in chosen):
        label = f"after {count_of(sample['step'], 'step')}" if sample["step"] else "before training"
        section.sample(label, sample["text"])
    return section


def _heads(visualizer: AttentionVisualizer, report: HeadReport, folder: Path) -> Section:
    rows = [row for row in report.rows if (row["pattern"], row["measure"]) == ("previous", "rate")]
    strongest = max(rows, key=lambda row: row["score"])
    layer, head = int(strongest["layer"]), int(strongest["head"])
    num_sentences = int(strongest["num_items"])  # the half that is scored
    return (
        Section("4. Where its heads look")
        .text(
            "A prediction needs more than the last token. Attention heads fetch the rest: for each token (a "
            "row), a head gives weights to the tokens up to it (the columns). Darker is more. Over "
            f"{num_sentences:,} held-out sentences, no head looks at the previous token as often as head "
            f"{head} of layer {layer}: its largest weight is there for {strongest['score']:.0%} of the "
            "tokens."
        )
        .figure(
            visualizer.plot_head(TEXT, layer, head, folder / f"attention-layer{layer}-head{head}.png"),
            f"Head {head} of layer {layer} on one sentence",
        )
        .text("The other heads of the layer read the same sentence, each with weights of its own.")
        .figure(
            visualizer.plot_attention_heads(TEXT, layer, folder / f"attention-layer{layer}.png"),
            f"All heads of layer {layer}",
        )
        .text(
            "What do all heads do? Each was tested for a list of patterns on the same sentences, and has a "
            "label if it exceeds every baseline: the best head of a model with random weights, a fixed "
            "offset, and shuffled labels. A label says where a head looks, not what it is for."
        )
        .figure(
            visualizer.plot_head_map(report, folder / "heads.png"),
            f"The pattern of each head over {num_sentences:,} held-out sentences",
        )
    )


def _explorer(visualizer: AttentionVisualizer, report: HeadReport, folder: Path) -> Section:
    explorer = visualizer.explore(TEXT, folder / "explorer.html", heads_report=report, live=True)
    return (
        Section("5. Look for yourself")
        .link(
            "explorer.html",
            "The explorer",
            "Every head on one sentence, below and on a page of its own. Point at a word to see where it "
            "looks. Type another sentence: the page holds the model, and computes its attention.",
        )
        .page(explorer)
    )


def _next_steps(folder: Path, config: TrainingConfig) -> Section:
    run = shlex.quote(str(folder))
    train = f"glassformer train --config {run}/config.toml"
    commands = {
        "Let it write.": f"glassformer generate {run} 'Our economy'",
        "Type while you watch the heads, and turn some off.": f"glassformer serve {run} --names",
        "Which heads does it need?": f"glassformer ablate {run}",
        "What does it cost?": f"glassformer describe {run} --seq-len {config.data.seq_len}",
        "Change one thing and train again: other positions, another activation.": (
            f"{train} --run-folder runs/alibi --model.positions alibi\n"
            f"{train} --run-folder runs/swiglu --model.activation swiglu"
        ),
    }
    section = Section("6. What to try next")
    for why, command in commands.items():
        section.text(why).code(command)
    return section


def _environment(folder: Path, config: TrainingConfig) -> Section:
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    rows = [(name, "-" if value is None else str(value)) for name, value in environment.items()]
    return (
        Section("The run: environment and configuration", folded=True)
        .table(("environment", ""), rows)
        .text("The configuration of this run, for glassformer train --config.")
        .code(to_toml(config))
    )
