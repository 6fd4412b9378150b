"""Build a model, and compare attention with its formula."""

import math

import torch

from glassformer import GPTModel, ScaledDotProductAttention
from glassformer.attention import causal

# softmax(Q K^T / sqrt(d_k)) V, for one sequence of five tokens
torch.manual_seed(0)
q, k, v = torch.randn(3, 1, 5, 8)  # (batch, seq, d_k) each
scores = q @ k.transpose(-2, -1) / math.sqrt(8)
scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
expected = scores.softmax(-1) @ v

output, weights = ScaledDotProductAttention()(q, k, v, mask=causal())
assert torch.allclose(output, expected, atol=1e-6)
print("attention weights of the last token:", [round(w, 2) for w in weights[0, -1].tolist()])

# A model is built from the same parts; each choice is one keyword. See help(GPTModel).
model = GPTModel(vocab_size=256, d_model=64, num_layers=2, num_heads=4, positions="rotary", norm="rms")
print(f"{model.num_parameters():,} parameters")
logits = model(torch.randint(0, 256, (1, 16)))  # (batch, seq, vocab_size)
print("logits:", tuple(logits.shape))
print(model.blocks[0])
