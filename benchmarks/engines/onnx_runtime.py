"""GPT-2 in ONNX Runtime: one graph of its fused operators, with caches that are updated in place.

``GroupQueryAttention`` writes new keys and values into the given cache if its input and output are the same
memory, which ``IOBinding`` ensures; nothing is allocated or copied for a token but its id. int8 is
``quantize_dynamic`` with one scale for each output channel, and signed weights, which is its default. On
processors without VNNI the weights have 7 bits, as ONNX Runtime's documentation advises ("When to use
reduce-range and per-channel quantization?"): sums of two products of 8 bits can saturate there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from timed_generation import Generate, TimedTokens, TimingStreamer
from torch import Tensor

FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
KINDS = ("key", "value")
NUMPY_TYPES = {torch.float32: np.float32, torch.int32: np.int32, torch.int64: np.int64}


class _Graph:
    """Nodes and constants of an ONNX graph under construction."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._state = state

    def constant(self, name: str, value: Tensor | np.ndarray[Any, Any]) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self._state[name])

    def node(self, kind: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        outputs = outputs or (name,)
        self.nodes.append(helper.make_node(kind, inputs, outputs, name, **attributes))
        return outputs[0]

    def add_and_norm(self, x: str, change: str, layer: str, norm: str, epsilon: float) -> tuple[str, str]:
        """Return x + change + the bias of a layer, and the same normalized."""
        total = f"sum_{len(self.nodes)}"
        normed = self.node(
            "SkipLayerNormalization",
            *(x, change),
            *map(self.weight, (f"{norm}.weight", f"{norm}.bias", f"{layer}.bias")),
            outputs=(f"normed_{len(self.nodes)}", "", "", total),
            domain=FUSED,
            epsilon=epsilon,
        )
        return total, normed

    def product(self, x: str, layer: str) -> str:
        return self.node("MatMul", x, self.weight(f"{layer}.weight"))


def build(model: Any) -> Any:
    """Return the ONNX model of a Hugging Face GPT-2 with a cache; its output is that of the last token."""
    config, epsilon = model.config, model.config.layer_norm_epsilon
    heads, d_head = config.n_head, config.n_embd // config.n_head
    state = {name: value.detach() for name, value in model.transformer.state_dict().items()}
    graph = _Graph(state)
    x = graph.node(
        "Add",
        graph.node("Gather", graph.weight("wte.weight"), "input_ids"),
        graph.node("Gather", graph.weight("wpe.weight"), "position_ids"),
    )
    first = [graph.weight(f"h.0.ln_1.{kind}") for kind in ("weight", "bias")]
    normed = graph.node("LayerNormalization", x, *first, epsilon=epsilon)
    for n in range(config.n_layer):
        block = f"h.{n}"
        next_norm = f"h.{n + 1}.ln_1" if n + 1 < config.n_layer else "ln_f"
        qkv = graph.product(normed, f"{block}.attn.c_attn")
        qkv = graph.node("Add", qkv, graph.weight(f"{block}.attn.c_attn.bias"))
        attention = graph.node(
            "GroupQueryAttention",
            *(qkv, "", "", f"past_key_{n}", f"past_value_{n}", "last_position", "total_length"),
            outputs=(f"attention_{n}", f"present_key_{n}", f"present_value_{n}"),
            domain=FUSED,
            num_heads=heads,
            kv_num_heads=heads,
        )
        change = graph.product(attention, f"{block}.attn.c_proj")
        x, normed = graph.add_and_norm(x, change, f"{block}.attn.c_proj", f"{block}.ln_2", epsilon)
        hidden = graph.product(normed, f"{block}.mlp.c_fc")
        hidden = graph.node("FastGelu", hidden, graph.weight(f"{block}.mlp.c_fc.bias"), domain=FUSED)
        change = graph.product(hidden, f"{block}.mlp.c_proj")
        x, normed = graph.add_and_norm(x, change, f"{block}.mlp.c_proj", next_norm, epsilon)
    last = graph.node("Gather", normed, graph.constant("last", np.array(-1)), axis=1)
    graph.node("MatMul", last, graph.constant("lm_head", state["wte.weight"].T), outputs=("logits",))

    info, names = (
        helper.make_tensor_value_info,
        [f"{kind}_{n}" for n in range(config.n_layer) for kind in KINDS],
    )
    cache = ["batch", heads, "capacity", d_head]
    inputs = [
        info("input_ids", TensorProto.INT64, ["batch", "length"]),
        info("position_ids", TensorProto.INT64, ["batch", "length"]),
        info("last_position", TensorProto.INT32, ["batch"]),
        info("total_length", TensorProto.INT32, [1]),
        *(info(f"past_{name}", TensorProto.FLOAT, cache) for name in names),
    ]
    outputs = [
        info("logits", TensorProto.FLOAT, ["batch", config.vocab_size]),
        *(info(f"present_{name}", TensorProto.FLOAT, cache) for name in names),
    ]
    made = helper.make_graph(graph.nodes, "gpt2", inputs, outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def file(model: Any, weights: str, folder: Path) -> Path:
    """Return the ONNX file of a model, which is written if it is not there."""
    plain, path = folder / "gpt2-float32.onnx", folder / f"gpt2-{weights}.onnx"
    if not plain.exists():
        onnx.save(build(model), plain)
    if not path.exists():
        quantize_dynamic(
            plain,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=not torch.cpu._is_vnni_supported(),
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},  # unknown behind fused operators
        )
    return path


class Decoder:
    """A session with preallocated caches.

    Args:
        path: file of the model.
        config: Hugging Face's configuration of it.
        prompt: ``(batch, seq)``.
        new: number of new tokens.
        threads: number of threads.

    """

    def __init__(self, path: Path, config: Any, prompt: Tensor, new: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        batch_size, length = prompt.shape
        shape = (batch_size, config.n_head, length + new, config.n_embd // config.n_head)
        self._cache = {f"{kind}_{n}": torch.zeros(shape) for n in range(config.n_layer) for kind in KINDS}
        self._logits = torch.zeros(batch_size, config.vocab_size)
        self._last_position = torch.zeros(batch_size, dtype=torch.int32)
        self._total_length = torch.zeros(1, dtype=torch.int32)
        self._ids = {seq: torch.zeros(batch_size, seq, dtype=torch.int64) for seq in (length, 1)}
        self._positions = {seq: torch.arange(seq).repeat(batch_size, 1) for seq in (length, 1)}
        self._bindings = {seq: self._bind(seq) for seq in (length, 1)}

    def _bind(self, seq: int) -> Any:
        inputs = {
            "input_ids": self._ids[seq],
            "position_ids": self._positions[seq],
            "last_position": self._last_position,
            "total_length": self._total_length,
            **{f"past_{name}": tensor for name, tensor in self._cache.items()},
        }
        outputs = {"logits": self._logits, **{f"present_{name}": t for name, t in self._cache.items()}}
        binding = self._session.io_binding()
        for bind, tensors in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, tensor in tensors.items():
                bind(name, "cpu", 0, NUMPY_TYPES[tensor.dtype], list(tensor.shape), tensor.data_ptr())
        return binding

    def step(self, ids: Tensor, past: int) -> Tensor:
        """Return the most probable tokens ``(batch,)`` after ``past`` tokens and ids ``(batch, seq)``."""
        seq = ids.size(1)
        self._ids[seq].copy_(ids)
        if past:
            self._positions[seq].fill_(past)
        self._last_position.fill_(past + seq - 1)
        self._total_length.fill_(past + seq)
        self._session.run_with_iobinding(self._bindings[seq])
        return self._logits.argmax(-1)


def contender(model: Any, weights: str, prompt: Tensor, new: int, threads: int, folder: Path) -> Generate:
    """Return a function that generates with ONNX Runtime."""
    decoder = Decoder(file(model, weights, folder), model.config, prompt, new, threads)

    def run() -> TimedTokens:
        streamer = TimingStreamer()
        streamer.put(tokens := decoder.step(prompt, 0))
        for past in range(prompt.size(1), prompt.size(1) + new - 1):
            streamer.put(tokens := decoder.step(tokens[:, None], past))
        return streamer.result()

    return run
