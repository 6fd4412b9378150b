"""The same GPT-2 in glassformer and in Hugging Face's library."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from glassformer.models import GPTModel


class Setting(NamedTuple):
    vocab_size: int = 50257
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    prompt: int = 512
    new: int = 64


SMOKE = Setting(vocab_size=64, d_model=32, num_layers=2, num_heads=2, prompt=16, new=8)


def models(setting: Setting) -> tuple[GPTModel, Any]:
    """Return both models, with the same random weights.

    Token 0 has a logit of 0, so that it is never the most probable: it is the end token of some engines, and
    they do not generate it before the end.
    """
    torch.manual_seed(0)
    max_seq_len = 2 * setting.prompt
    ours = GPTModel(
        setting.vocab_size,
        setting.d_model,
        setting.num_layers,
        setting.num_heads,
        max_seq_len=max_seq_len,
    )
    with torch.no_grad():
        ours.token_embedding.weight[0].zero_()
    config = GPT2Config(
        vocab_size=setting.vocab_size,
        n_positions=max_seq_len,
        n_embd=setting.d_model,
        n_layer=setting.num_layers,
        n_head=setting.num_heads,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,  # so that no row ends
    )
    theirs = GPT2LMHeadModel(config)
    copy_weights(ours, theirs)
    return ours.eval(), theirs.eval()


@torch.no_grad()
def copy_weights(ours: GPTModel, theirs: Any) -> None:
    """Copy our weights to Hugging Face's model (matrices are ``(in, out)``; q, k and v are concatenated)."""
    body = theirs.transformer
    body.wte.weight.copy_(ours.token_embedding.weight)
    body.wpe.weight.copy_(ours.get_parameter("positions.embedding.weight"))
    body.ln_f.load_state_dict(ours.norm.state_dict())
    for number, block in enumerate(body.h):
        own = ours.get_submodule(f"blocks.{number}").state_dict()
        block.ln_1.load_state_dict({"weight": own["norm1.weight"], "bias": own["norm1.bias"]})
        block.ln_2.load_state_dict({"weight": own["norm2.weight"], "bias": own["norm2.bias"]})
        for kind in ("weight", "bias"):
            qkv = torch.cat([own[f"attention.{name}_proj.{kind}"] for name in "qkv"])
            getattr(block.attn.c_attn, kind).copy_(qkv.mT if kind == "weight" else qkv)
        for layer, name in (
            (block.attn.c_proj, "attention.out_proj"),
            (block.mlp.c_fc, "feed_forward.up_proj"),
            (block.mlp.c_proj, "feed_forward.down_proj"),
        ):
            layer.weight.copy_(own[f"{name}.weight"].mT)
            layer.bias.copy_(own[f"{name}.bias"])


def weights_read(setting: Setting) -> int:
    """Number of weights that every new token needs: those of all linear layers and of the head.

    A layer has 4 d_model^2 of them in attention, and 8 d_model^2 in the feed-forward network.
    """
    return (setting.vocab_size + 12 * setting.num_layers * setting.d_model) * setting.d_model
