"""Random configs of decoders: equal to `transformers`, or refused by name; never different.

The suite tries some; ``python tests/pretrained/test_random_configs.py 2000`` tries as many as it is told.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import glassformer

IN_THE_SUITE = 40
TOLERANCE = 1e-5
"""Of the largest absolute logit."""
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LENGTHS = (9, 5, 2)
FULL, SLIDING = "full_attention", "sliding_attention"
ACTIVATIONS = ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "swish"]
"""And one that is not implemented, at times."""


def rope(random: Random, d_head: int, partial: bool = False) -> dict[str, Any]:
    """Rotary parameters of any kind."""
    theta = random.choice([100.0, 1e4, 5e5])
    kind = random.choice(["default", "default", "linear", "dynamic", "yarn", "llama3", "longrope"])
    found: dict[str, Any] = {"rope_type": kind, "rope_theta": theta}
    fraction = random.choice([0.25, 0.4, 0.5, 1.0]) if partial else 1.0
    if partial:
        found["partial_rotary_factor"] = fraction
    if kind != "default":
        found["factor"] = random.choice([1.5, 4.0])
    if kind in ("yarn", "llama3", "longrope"):
        found["original_max_position_embeddings"] = random.choice([6, 12, 24])
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": random.choice([2.0, 4.0])}
    if kind == "yarn" and random.random() < 0.5:
        found |= {"beta_fast": 16.0, "beta_slow": 2.0}
    if kind == "longrope":
        pairs = int(d_head * fraction) // 2
        found |= {f"{name}_factor": [1 + random.random() for _ in range(pairs)] for name in ("short", "long")}
    return found


def llama_like(random: Random, wide: bool = True, partial: bool = False) -> dict[str, Any]:
    """The keys that most decoders share."""
    heads = random.choice([1, 2, 4, 6])
    kv_heads = random.choice([n for n in range(1, heads + 1) if heads % n == 0])
    d_head = random.choice([4, 6, 8, 10])
    found = {
        "vocab_size": random.randint(11, 40),
        "hidden_size": heads * d_head,
        "num_hidden_layers": random.randint(1, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": random.randint(1, 30),
        "max_position_embeddings": random.choice([16, 32]),
        "hidden_act": random.choice([*ACTIVATIONS, random.choice([*ACTIVATIONS, "mish"])]),
        "tie_word_embeddings": random.random() < 0.5,
        "rope_parameters": rope(random, d_head, partial),
        "attention_dropout": 0.0,
    }
    if wide:
        found["head_dim"] = random.choice([d_head, d_head, 4, 12])
        found["rope_parameters"] = rope(random, found["head_dim"], partial)
    return found


def layer_types(random: Random, count: int) -> list[str]:
    return [random.choice([FULL, SLIDING]) for _ in range(count)]


def flags(random: Random, *names: str) -> dict[str, bool]:
    return {name: random.random() < 0.5 for name in names}


def maybe(random: Random, **values: Any) -> dict[str, Any]:
    """Some of the keys."""
    return {key: value for key, value in values.items() if random.random() < 0.5}


def llama(random: Random) -> dict[str, Any]:
    return {**llama_like(random), **flags(random, "attention_bias", "mlp_bias")}


def mistral(random: Random) -> dict[str, Any]:
    return {**llama_like(random), "sliding_window": random.choice([None, 1, 3, 50])}


def qwen(random: Random) -> dict[str, Any]:
    shared = llama_like(random)
    count = shared["num_hidden_layers"]
    return {
        **shared,
        **flags(random, "use_sliding_window"),
        "sliding_window": random.choice([1, 4]),
        "max_window_layers": random.randint(0, 3),
        **maybe(random, layer_types=layer_types(random, count)),
    }


def qwen3(random: Random) -> dict[str, Any]:
    return {**qwen(random), **flags(random, "attention_bias")}


def smollm3(random: Random) -> dict[str, Any]:
    shared = llama_like(random)
    count = shared["num_hidden_layers"]
    return {
        **shared,
        **flags(random, "attention_bias", "mlp_bias", "use_sliding_window"),
        **maybe(random, no_rope_layers=[random.randint(0, 1) for _ in range(count)]),
        "no_rope_layer_interval": random.randint(1, 3),
        "sliding_window": random.choice([None, 3]),
    }


def gemma(random: Random) -> dict[str, Any]:
    return {**llama_like(random), **flags(random, "attention_bias")}


def gemma2(random: Random) -> dict[str, Any]:
    shared = llama_like(random)
    shared["hidden_activation"] = shared.pop("hidden_act")
    return {
        **shared,
        **flags(random, "attention_bias"),
        "query_pre_attn_scalar": random.choice([5, 64, 256]),
        "sliding_window": random.choice([2, 4]),
        "attn_logit_softcapping": random.choice([None, 0.5, 50.0]),
        "final_logit_softcapping": random.choice([None, 1.5, 30.0]),
        **maybe(random, layer_types=layer_types(random, shared["num_hidden_layers"])),
    }


def gemma3(random: Random) -> dict[str, Any]:
    found = gemma2(random)
    ropes = {kind: rope(random, found["head_dim"]) for kind in (FULL, SLIDING)}
    return {
        **found,
        "rope_parameters": ropes,
        "attn_logit_softcapping": random.choice([None, None, None, 5.0]),
    }


def phi(random: Random) -> dict[str, Any]:
    return {**llama_like(random, wide=False, partial=True), **flags(random, "qk_layernorm")}


def phi3(random: Random) -> dict[str, Any]:
    found = llama_like(random, wide=False, partial=True)
    parameters = found["rope_parameters"]
    if parameters["rope_type"] not in ("default", "longrope"):
        parameters = {key: parameters[key] for key in ("rope_theta", "partial_rotary_factor")}
        parameters["rope_type"] = "default"
    parameters.pop("original_max_position_embeddings", None)
    return {
        **found,
        "rope_parameters": parameters,
        "original_max_position_embeddings": random.choice([4, 12, 16]),
        "sliding_window": random.choice([None, 3]),
    }


def olmo(random: Random) -> dict[str, Any]:
    clip = random.choice([None, None, None, 2.0])
    return {
        **llama_like(random, wide=False),
        **flags(random, "attention_bias"),
        "clip_qkv": clip,
    }


def olmo2(random: Random) -> dict[str, Any]:
    return {**llama_like(random, wide=False), **flags(random, "attention_bias")}


def granite(random: Random) -> dict[str, Any]:
    return {
        **llama_like(random, wide=False),
        **flags(random, "attention_bias", "mlp_bias"),
        "embedding_multiplier": random.choice([1.0, 12.0]),
        "logits_scaling": random.choice([1.0, 8.0, 0.3]),
        "residual_multiplier": random.choice([1.0, 0.22]),
        "attention_multiplier": random.choice([1.0, 0.1]),
    }


def stablelm(random: Random) -> dict[str, Any]:
    names = ("use_qkv_bias", "qk_layernorm", "use_parallel_residual")
    return {**llama_like(random, wide=False, partial=True), **flags(random, *names)}


def starcoder2(random: Random) -> dict[str, Any]:
    windows = [None, 1, 3, 50]
    return {
        **llama_like(random, wide=False),
        **flags(random, "use_bias"),
        "sliding_window": random.choice(windows),
    }


def gptj(random: Random) -> dict[str, Any]:
    heads, d_head = random.choice([1, 2, 4]), random.choice([4, 6, 8])
    return {
        "vocab_size": random.randint(11, 40),
        "n_embd": heads * d_head,
        "n_layer": random.randint(1, 3),
        "n_head": heads,
        "n_inner": random.choice([None, 7]),
        "n_positions": 16,
        "rotary_dim": random.choice(range(2, d_head + 1, 2)),
        "activation_function": random.choice(ACTIVATIONS),
        "tie_word_embeddings": random.random() < 0.5,
    }


def gpt_neo(random: Random) -> dict[str, Any]:
    heads, count = random.choice([1, 2, 4]), random.randint(1, 3)
    return {
        "vocab_size": random.randint(11, 40),
        "hidden_size": heads * random.choice([4, 6]),
        "num_layers": count,
        "num_heads": heads,
        "intermediate_size": random.choice([None, 7]),
        "max_position_embeddings": 16,
        "attention_types": [[[random.choice(["global", "local"]) for _ in range(count)], 1]],
        "window_size": random.choice([1, 3, 30]),
        "activation_function": random.choice(ACTIVATIONS),
        "tie_word_embeddings": random.random() < 0.5,
    }


def opt(random: Random) -> dict[str, Any]:
    heads = random.choice([1, 2, 4])
    width = heads * random.choice([4, 6])
    names = ("do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine")
    return {
        "vocab_size": random.randint(11, 40),
        "hidden_size": width,
        "num_hidden_layers": random.randint(1, 3),
        "num_attention_heads": heads,
        "ffn_dim": random.randint(1, 30),
        "max_position_embeddings": 16,
        "word_embed_proj_dim": random.choice([width, width, 5]),
        "activation_function": random.choice(ACTIVATIONS),
        "tie_word_embeddings": random.random() < 0.7,
        "_remove_final_layer_norm": random.random() < 0.1,
        "dropout": 0.0,
        **flags(random, *names),
    }


def bloom(random: Random) -> dict[str, Any]:
    heads = random.choice([1, 2, 3, 4, 6, 12])
    return {
        "vocab_size": random.randint(11, 40),
        "hidden_size": heads * random.choice([4, 6]),
        "n_layer": random.randint(1, 3),
        "n_head": heads,
        "apply_residual_connection_post_layernorm": random.random() < 0.1,
        "tie_word_embeddings": random.random() < 0.7,
    }


def falcon(random: Random) -> dict[str, Any]:
    shared = llama_like(random, wide=False)
    kv_heads = shared.pop("num_key_value_heads")
    shared.pop("intermediate_size")
    is_new = random.random() < 0.5
    found = {
        **shared,
        **flags(random, "bias", "multi_query"),
        "new_decoder_architecture": is_new,
        "parallel_attn": is_new or random.random() < 0.5,
        "activation": shared.pop("hidden_act"),
        "ffn_hidden_size": random.randint(1, 30),
        "alibi": random.random() < 0.1,
    }
    found.pop("hidden_act", None)
    if is_new:
        found |= {"num_kv_heads": kv_heads, "num_ln_in_parallel_attn": random.choice([None, 1, 2])}
    return found


LAYOUTS = {
    "Llama": llama,
    "Mistral": mistral,
    "Qwen2": qwen,
    "Qwen3": qwen3,
    "SmolLM3": smollm3,
    "Gemma": gemma,
    "Gemma2": gemma2,
    "Gemma3": gemma3,
    "Phi": phi,
    "Phi3": phi3,
    "Olmo": olmo,
    "Olmo2": olmo2,
    "Granite": granite,
    "StableLm": stablelm,
    "Starcoder2": starcoder2,
    "GPTJ": gptj,
    "GPTNeo": gpt_neo,
    "OPT": opt,
    "Bloom": bloom,
    "Falcon": falcon,
}


def make(name: str, values: dict[str, Any], seed: int) -> nn.Module:
    config_class = getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")
    config = config_class(**values, attn_implementation="eager", **TOKENS)
    model: nn.Module = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            width = parameter.shape[-1] if parameter.dim() > 1 else 16
            parameter.add_(torch.randn(parameter.shape, generator=generator) / width**0.5)
    return model


def outcome(seed: int, folder: Path) -> tuple[str, str]:
    """``equal``, ``refused`` or ``no peer``, and the layout or the message.

    Raises:
        AssertionError: different logits.
    """
    random = Random(seed)
    name = random.choice(list(LAYOUTS))
    values = LAYOUTS[name](random)
    try:
        peer = make(name, dict(values), seed)
    except Exception as error:  # a config that transformers does not take either
        return "no peer", f"{name}: {type(error).__name__}"
    peer.save_pretrained(folder)
    try:
        ours: Any = glassformer.from_pretrained(folder)
    except ValueError as error:
        return "refused", f"{name}: {error}"
    vocabulary = values["vocab_size"]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocabulary, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    if random.random() < 0.5:
        mask = mask.flip(1)
    different = _differences(peer, ours, ids, mask)
    if different:  # norms of small numbers amplify what is rounded, also in the peer: it is less in float64
        different = _differences(peer.double(), ours.double(), ids, mask)
    assert not different, (seed, name, different, values)
    return "equal", name


def _differences(peer: nn.Module, ours: nn.Module, ids: Tensor, mask: Tensor) -> list[float]:
    """Differences of logits, relative to the largest, that are above the tolerance."""
    found = []
    for row, real, logits in zip(ids, mask, ours(ids * mask, mask), strict=True):
        expected: Tensor = peer(row[real][None], use_cache=False).logits[0]
        scale = max(1.0, float(expected.abs().max()))
        found.append(float((logits[real] - expected).abs().max()) / scale)
    return [difference for difference in found if difference > TOLERANCE]


def prepare() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_random_configs_are_equal_or_refused_by_name(tmp_path: Path) -> None:
    found = Counter()
    for seed in range(IN_THE_SUITE):
        kind, what = outcome(seed, tmp_path / str(seed))
        found[kind] += 1
        if kind == "refused":
            assert "config.json" in what, what
    assert found["equal"] > IN_THE_SUITE / 2


def main(count: int) -> None:
    """Try configs, and print what became of them."""
    prepare()
    found: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    different = []
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            try:
                kind, what = outcome(seed, Path(folder))
            except AssertionError as error:
                kind, what = "DIFFERENT", str(error)
                different.append(what)
            except Exception as error:
                kind, what = "CRASH", f"{seed}: {type(error).__name__}: {error}"
                different.append(what)
        found[kind] += 1
        if kind != "equal":
            messages[f"{kind}: {what.replace(folder, '')[:160]}"] += 1
    print(dict(found))
    for message, number in messages.most_common():
        print(number, message)
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
