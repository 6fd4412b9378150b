"""Metadata of GGUF files: the keys of an architecture, and what several architectures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassformer.pretrained.checkpoint_format import require, resolve_d_ff, resolve_d_head
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.formats.decoder_layout import require_biases
from glassformer.pretrained.weight_table import TensorReader

FACTORS = "rope_freqs.weight"
"""Tensor of factors by which the rotary frequencies are divided."""


class Metadata:
    """The metadata of one architecture, whose keys begin with its name.

    Args:
        config: all metadata.
        name: of the architecture.
    """

    def __init__(self, config: ConfigReader, name: str) -> None:
        self.config, self.name = config, name

    def key(self, key: str) -> str:
        """The whole key."""
        return f"{self.name}.{key}"

    def get_int(self, key: str, *default: Any) -> Any:
        """An int; see ``ConfigReader``."""
        return self.config.get_int(self.key(key), *default)

    def get_float(self, *keys: str, default: Any = None) -> Any:
        """A number, or the default."""
        return self.config.get_float(*map(self.key, keys), default=default)

    def get_bool(self, key: str, default: bool) -> bool:
        """True or false."""
        return self.config.get_bool(self.key(key), default)

    def expect(self, key: str, *allowed: Any) -> Any:
        """One of the values that are implemented."""
        return self.config.expect(self.key(key), *allowed)


# ---- reading


def read_rms(m: Metadata) -> dict[str, Any]:
    """Return the keywords of RMSNorm and of gated feed-forward networks."""
    return {
        "norm": "rms",
        "norm_eps": m.config.get_float(m.key("attention.layer_norm_rms_epsilon")),
        "bias": False,
        "activation": "swiglu",
    }


def read_layer_norm(m: Metadata) -> dict[str, Any]:
    """Return the keywords of layer norms."""
    return {"norm": "layer", "norm_eps": m.config.get_float(m.key("attention.layer_norm_epsilon"))}


def has_tensor(tensors: TensorReader, name: str) -> bool:
    """Return whether the first layer has a tensor."""
    return f"blk.0.{name}" in tensors.shapes


def read_positions(m: Metadata, tensors: TensorReader, d_head: int, partial: bool = False) -> dict[str, Any]:
    """Rotary positions, with one factor for all frequencies, and one for each of Llama 3.1.

    Raises:
        ValueError: a kind of scaling that is not implemented, or factors of another shape.
    """
    positions = {"kind": "rotary", "theta": m.get_float("rope.freq_base", default=1e4)}
    d_rotary = m.get_int("rope.dimension_count", d_head) if partial else d_head
    m.expect("rope.dimension_count", d_rotary)
    if d_rotary != d_head:
        positions["d_rotary"] = d_rotary
    kind = m.expect("rope.scaling.type", "linear", "none")
    linear = m.get_float("rope.scaling.factor", "rope.scale_linear", default=1.0)
    factor = 1.0 if kind == "none" or not linear else linear  # zero is no scaling, as in llama.cpp
    if FACTORS in tensors.shapes:
        factors = (read_factors(tensors, FACTORS, d_rotary) * factor).tolist()
        return {**positions, "scaling": {"kind": "per_pair", "factors": factors}}
    return positions if factor == 1.0 else {**positions, "scaling": {"kind": "linear", "factor": factor}}


def read_factors(tensors: TensorReader, name: str, d_rotary: int) -> Any:
    """Return a tensor with a factor for each pair of dimensions; raise ValueError if its shape is another."""
    if tensors.shapes[name] != (d_rotary // 2,):
        shape = tensors.shapes[name]
        raise ValueError(f"{tensors.source}: {name} has shape {shape}, expected ({d_rotary // 2},)")
    return tensors.read(name)


def head_width(m: Metadata) -> int:
    """Width of a head, which keys and values share."""
    default = m.get_int("embedding_length") // m.get_int("attention.head_count")
    d_head: int = m.get_int("attention.key_length", default)
    m.expect("attention.value_length", d_head)
    return d_head


# ---- writing


def write_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of the sizes."""
    d_head = resolve_d_head(config)
    require(config, tie_embeddings=(True, False), dropout=config["dropout"])  # in the tensors; without effect
    return {
        "context_length": config["max_seq_len"],
        "embedding_length": config["d_model"],
        "block_count": config["num_layers"],
        "feed_forward_length": resolve_d_ff(config),
        "attention.head_count": config["num_heads"],
        "attention.head_count_kv": config["num_kv_heads"] or config["num_heads"],
        "attention.key_length": d_head,
        "attention.value_length": d_head,
        "vocab_size": config["vocab_size"],
    }


def write_rotary(
    config: Mapping[str, Any], positions: Any = None, *, partial: bool = False
) -> dict[str, Any]:
    """Return the metadata of rotary positions.

    Args:
        config: keywords of a model.
        positions: in place of those of the config.
        partial: whether the architecture can rotate a part of each head.

    Raises:
        ValueError: other positions.
    """
    spec = config["positions"] if positions is None else positions
    if not isinstance(spec, str | Mapping):
        raise ValueError(f"positions must be the same in all layers, got {spec!r:.200}")
    spec = {"kind": spec} if isinstance(spec, str) else dict(spec)
    d_head = resolve_d_head(config)
    d_rotary, scaling = spec.get("d_rotary") or d_head, dict(spec.get("scaling") or {"kind": "none"})
    if spec["kind"] != "rotary" or spec.get("pairing", "half") != "half":
        raise ValueError(f'positions must be rotary with the pairing "half", got {spec!r:.200}')
    if d_rotary != d_head and not partial:
        raise ValueError(f"d_rotary must be all {d_head} dimensions of a head, got {d_rotary}")
    if scaling["kind"] not in ("none", "linear"):
        raise ValueError(f"rotary scaling must be linear or none, got {scaling['kind']!r}")
    found = {"rope.freq_base": float(spec.get("theta", 10_000.0)), "rope.dimension_count": d_rotary}
    if scaling["kind"] == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}
    return found


def write_rms(config: Mapping[str, Any], norm: str = "rms", activation: str = "swiglu") -> dict[str, Any]:
    """Return the metadata of sizes and norms, of gated feed-forward networks without biases."""
    require(config, norm=norm, residual="pre", activation=activation)
    require_biases(config, ff_bias=False)
    return {**write_sizes(config), "attention.layer_norm_rms_epsilon": float(config["norm_eps"])}


def write_layer_norm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of sizes and layer norms."""
    require(config, norm="layer")
    require({"d_head": resolve_d_head(config)}, d_head=config["d_model"] // config["num_heads"])
    require_biases(config, norm_bias=True)
    return {**write_sizes(config), "attention.layer_norm_epsilon": float(config["norm_eps"])}
