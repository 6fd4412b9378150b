"""Ablate each head of a small model, and see which ones matter for its prediction."""

import torch

from glassformer import GPTModel
from glassformer.analysis import ablate, prune_heads

# Train a model to repeat a sequence of eight random tokens.
torch.manual_seed(0)
model = GPTModel(vocab_size=16, d_model=64, num_layers=2, num_heads=2, positions="rotary")
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)


def loss_of(model: GPTModel, batch_size: int, seed: int) -> torch.Tensor:
    """Mean loss of the second half of repeated sequences."""
    half = torch.randint(0, 16, (batch_size, 8), generator=torch.Generator().manual_seed(seed))
    tokens = torch.cat((half, half), dim=1)
    logits = model(tokens[:, :-1])[:, 7:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 8:].flatten())


for step in range(400):
    loss = loss_of(model, 64, step)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()

model.eval()
with torch.no_grad():
    print(f"loss with all heads: {float(loss_of(model, 256, -1)):.3f}")
    for layer in range(2):
        for head in range(2):
            with ablate(model, [(layer, head)]):
                print(f"loss without head {layer}.{head}: {float(loss_of(model, 256, -1)):.3f}")
smaller = prune_heads(model, [(1, 1)])
print(f"{model.num_parameters():,} parameters, {smaller.num_parameters():,} without head 1.1")
