"""LoRA adapters: low-rank changes of matrices, merged into the model when it is loaded (Hu et al. 2022).

    W' = W + scale B A,   scale = alpha / r, or alpha / sqrt(r)             (section 4.1; Kalajdzievski 2023)

A folder of the package `peft` holds ``adapter_config.json`` and ``adapter_model.safetensors``. The base model
is loaded from the path or name in the config, and each tensor is changed while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from glassformer.files import read_json_object
from glassformer.integers import is_int
from glassformer.pretrained.config_reader import ConfigReader
from glassformer.pretrained.weight_table import TensorReader

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")
_WITHOUT_EFFECT = (
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout"),
    *("loftq_config", "megatron_config", "megatron_core", "peft_type", "peft_version", "revision"),
    *("task_type", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("ensure_weight_tying", "runtime_config", "qalora_group_size"),
)
"""Keys that change training, or whose effect the names of the tensors show."""


@dataclass(frozen=True)
class LowRankUpdate:
    """scale B A."""

    a: Tensor
    """``(r, in)``."""
    b: Tensor
    """``(out, r)``."""
    scale: float

    def matrix(self, is_transposed: bool) -> Tensor:
        """The change of a matrix ``(out, in)``, or ``(in, out)``."""
        change = self.scale * (self.b.float() @ self.a.float())
        return change.T if is_transposed else change


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter.

    Args:
        source: path of its config.
        base: path or name of the base model.
        revision: of the base model, if it is a name on the hub.
        updates: by the name of the module in the base model.
        is_transposed: whether the base model stores its matrices as ``(in, out)``, as GPT-2 does.
    """

    source: str
    base: str
    revision: str | None
    updates: Mapping[str, LowRankUpdate]
    is_transposed: bool


def read_adapter(folder: Path) -> Adapter:
    """Read a folder with ``adapter_config.json``.

    Raises:
        FileNotFoundError: no weights.
        ValueError: another kind of adapter than plain LoRA; the message names the key.
    """
    config = ConfigReader(read_json_object(folder / CONFIG), str(folder / CONFIG), _WITHOUT_EFFECT)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{config.source}: peft_type = {kind!r:.100} is not implemented, only 'LORA'")
    config.expect("init_lora_weights", True, False, "gaussian")  # others change the base model
    for key in ("use_dora", "use_qalora", "lora_bias"):
        config.expect(key, False)
    config.expect("bias", "none")
    for key in ("modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters"):
        config.expect(key, None, [], {})
    for key in ("alora_invocation_tokens", "corda_config", "eva_config", "arrow_config", "use_bdlora"):
        config.expect(key, None, False)
    alpha, rank = config.get_float("lora_alpha", default=8.0), config.get_int("r", 8)
    alphas, ranks = config.get_dict("alpha_pattern"), config.get_dict("rank_pattern")
    has_root = config.get_bool("use_rslora", False)
    is_transposed = config.get_bool("fan_in_fan_out", False)
    base = str(config.get("base_model_name_or_path"))
    config.check_unused_keys()
    if not (folder / WEIGHTS).exists():
        raise FileNotFoundError(f"{folder}: {WEIGHTS} is missing")
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from None
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{folder / WEIGHTS}: {name:.200} is not the matrix A or B of a layer")
        parts.setdefault(match["module"], {})[match["part"]] = tensor
    updates = {}
    for module, pair in parts.items():
        r, own_alpha = _matching(config, ranks, module, rank), _matching(config, alphas, module, alpha)
        if not is_int(r) or r < 1 or not isinstance(own_alpha, int | float):
            raise ValueError(
                f"{config.source}: {module} has the rank {r!r:.100} and alpha {own_alpha!r:.100}"
            )
        scale = own_alpha / (r**0.5 if has_root else r)
        sizes = {part: tuple(tensor.shape) for part, tensor in pair.items()}
        a, b = sizes.get("A", ()), sizes.get("B", ())
        if len(a) != 2 or len(b) != 2 or a[0] != r or b[1] != r:
            raise ValueError(f"{folder / WEIGHTS}: {module} needs matrices A and B of rank {r}, got {sizes}")
        updates[module] = LowRankUpdate(pair["A"], pair["B"], scale)
    revision = config.get("revision", default=None)
    return Adapter(config.source, base, revision, updates, is_transposed)


def _matching(config: ConfigReader, patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value whose key is the end of a module's name, as `peft` looks it up."""
    for pattern, value in patterns.items():
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                return value
        except re.error as error:
            raise ValueError(f"{config.source}: the pattern {pattern!r:.100} is invalid: {error}") from None
    return default


class AdaptedTensors:
    """The tensors of a base model with the changes of an adapter; a ``TensorReader``.

    Raises:
        ValueError: a module of the adapter that the base model does not have, or of another shape.
    """

    def __init__(self, base: TensorReader, adapter: Adapter) -> None:
        self.base, self.adapter = base, adapter
        self.source, self.shapes, self.dtypes = base.source, base.shapes, base.dtypes
        for module, update in adapter.updates.items():
            shape = (len(update.b), update.a.size(1))
            shape = shape[::-1] if adapter.is_transposed else shape
            if self.shapes.get(f"{module}.weight") != shape:
                found = self.shapes.get(f"{module}.weight")
                problem = "does not exist" if found is None else f"has shape {found}, not {shape}"
                raise ValueError(f"{adapter.source}: {module} {problem} in the base model, {base.source}")

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """A tensor of the base model, with the change of its module."""
        update = self.adapter.updates.get(name.removesuffix(".weight"))
        if update is None or not name.endswith(".weight"):
            return self.base.read(name, share_mapping=share_mapping)
        tensor = self.base.read(name)
        wide = torch.promote_types(tensor.dtype, torch.float32)
        return (tensor.to(wide) + update.matrix(self.adapter.is_transposed)).to(tensor.dtype)

    def release(self, name: str) -> None:
        """Free the memory of a tensor that is not needed again."""
        self.base.release(name)
