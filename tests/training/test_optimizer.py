"""AdamW as published, with weight decay on matrices only."""

import pytest
import torch

from glassformer.training import LanguageModeling, OptimizerConfig, adamw
from glassformer.training.optimizer import decay_groups


def test_matrices_and_embeddings_decay_and_vectors_do_not(tiny_model):
    model = tiny_model()
    decayed, plain = decay_groups(model, 0.1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0
    assert {"token_embedding.weight", "blocks.0.attention.q_proj.weight"} <= {
        names[p] for p in decayed["params"]
    }
    assert {"norm.weight", "norm.bias", "blocks.1.attention.q_proj.bias"} <= {
        names[p] for p in plain["params"]
    }


def test_every_parameter_is_included_once(tiny_model):
    model = tiny_model(tie_embeddings=True)
    grouped = [p for group in decay_groups(model, 0.1) for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))
    assert sum(p is model.lm_head.weight for p in grouped) == 1


def test_frozen_parameters_are_excluded(tiny_model):
    model = tiny_model()
    model.requires_grad_(False)
    model.norm.weight.requires_grad_(True)
    assert [g["params"] for g in decay_groups(model, 0.1)] == [[model.norm.weight]]
    model.norm.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        adamw(model, OptimizerConfig())


def test_fused_steps_equal_the_formula(tiny_model):
    """Loshchilov and Hutter (2019), algorithm 2, written out."""
    config = OptimizerConfig(learning_rate=0.01, weight_decay=0.3, beta1=0.8, beta2=0.9, epsilon=1e-6)
    model = tiny_model().double()
    optimizer = adamw(model, config)
    assert optimizer.defaults["fused"]
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    m = {name: torch.zeros_like(p) for name, p in expected.items()}
    v = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t in (1, 2, 3):
        optimizer.zero_grad()
        LanguageModeling()(model, torch.randint(11, (2, 9))).backward()
        for name, p in model.named_parameters():
            m[name] = 0.8 * m[name] + 0.2 * p.grad
            v[name] = 0.9 * v[name] + 0.1 * p.grad**2
            if p.dim() >= 2:
                expected[name] *= 1 - 0.01 * 0.3
            expected[name] -= 0.01 * (m[name] / (1 - 0.8**t)) / ((v[name] / (1 - 0.9**t)).sqrt() + 1e-6)
        optimizer.step()
    torch.testing.assert_close(dict(model.named_parameters()), expected, rtol=1e-9, atol=1e-12)
