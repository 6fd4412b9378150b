"""The models that ``training_step.py`` compares, all of the same size and with the same optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.models import GPTModel
from glassformer.training.config import OptimizerConfig
from glassformer.training.language_modeling import LanguageModeling
from glassformer.training.optimizer import adamw


@dataclass(frozen=True)
class Sizes:
    num_layers: int = 6
    d_model: int = 512
    num_heads: int = 8
    d_ff: int = 2048
    vocab_size: int = 8192
    batch_size: int = 8
    seq_len: int = 256

    @property
    def tokens(self) -> int:
        return self.batch_size * self.seq_len

    @property
    def flops(self) -> int:
        """Floating-point operations of one step, by the formula in ``training_step.py``."""
        layer = 4 * self.d_model**2 + 2 * self.d_model * self.d_ff
        matrices = self.num_layers * layer + self.vocab_size * self.d_model
        attention = self.num_layers * self.d_model * self.seq_len
        return 6 * (matrices + attention) * self.tokens


SMOKE = Sizes(num_layers=1, d_model=32, num_heads=2, d_ff=64, vocab_size=64, batch_size=2, seq_len=16)

Loss = Callable[[Tensor], Tensor]
"""Mean loss of ids ``(batch, seq + 1)``."""


def glassformer(sizes: Sizes) -> tuple[nn.Module, Loss]:
    model = GPTModel(
        sizes.vocab_size,
        sizes.d_model,
        sizes.num_layers,
        sizes.num_heads,
        d_ff=sizes.d_ff,
        max_seq_len=sizes.seq_len,
    )
    objective = LanguageModeling()
    return model, lambda batch: objective(model, batch)


def hugging_face(sizes: Sizes, activation: str = "gelu_new") -> tuple[nn.Module, Loss]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=sizes.vocab_size,
        n_positions=sizes.seq_len,
        n_embd=sizes.d_model,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
        n_inner=sizes.d_ff,
        activation_function=activation,
        attn_implementation="sdpa",
        use_cache=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).train()
    return model, lambda batch: model(batch[:, :-1], labels=batch[:, :-1]).loss  # the model shifts the labels


def x_transformers(sizes: Sizes) -> tuple[nn.Module, Loss]:
    from x_transformers import Decoder, TransformerWrapper

    model = TransformerWrapper(
        num_tokens=sizes.vocab_size,
        max_seq_len=sizes.seq_len,
        tie_embedding=True,
        attn_layers=Decoder(
            dim=sizes.d_model,
            depth=sizes.num_layers,
            heads=sizes.num_heads,
            attn_dim_head=sizes.d_model // sizes.num_heads,
            attn_flash=True,
            ff_mult=sizes.d_ff // sizes.d_model,
        ),
    )
    return model, lambda batch: _cross_entropy(model(batch[:, :-1]), batch[:, 1:])


class TorchEncoder(nn.Module):
    """Causal ``nn.TransformerEncoder`` with the embeddings and the tied head of GPT-2."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            sizes.d_model,
            sizes.num_heads,
            sizes.d_ff,
            dropout=0.0,
            activation=F.gelu,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(sizes.d_model)
        self.encoder = nn.TransformerEncoder(layer, sizes.num_layers, norm, enable_nested_tensor=False)
        self.tokens = nn.Embedding(sizes.vocab_size, sizes.d_model)
        self.positions = nn.Embedding(sizes.seq_len, sizes.d_model)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.mask = nn.Transformer.generate_square_subsequent_mask(sizes.seq_len)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight
        return F.linear(self.encoder(x, mask=self.mask, is_causal=True), self.tokens.weight)


def torch_encoder(sizes: Sizes) -> tuple[nn.Module, Loss]:
    model = TorchEncoder(sizes)
    return model, lambda batch: _cross_entropy(model(batch[:, :-1]), batch[:, 1:])


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class NanoGPT(nn.Module):
    """The model of nanoGPT (Karpathy 2022) in plain PyTorch: GPT-2 with one matrix for q, k and v."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocab_size, sizes.d_model)
        self.positions = nn.Embedding(sizes.seq_len, sizes.d_model)
        self.blocks = nn.ModuleList(NanoGPTBlock(sizes) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(sizes.d_model)
        self.head = nn.Linear(sizes.d_model, sizes.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(parameter, std=0.02 / (2 * sizes.num_layers) ** 0.5)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class NanoGPTBlock(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.num_heads = sizes.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(sizes.d_model), nn.LayerNorm(sizes.d_model)
        self.qkv = nn.Linear(sizes.d_model, 3 * sizes.d_model)
        self.out = nn.Linear(sizes.d_model, sizes.d_model)
        self.up = nn.Linear(sizes.d_model, sizes.d_ff)
        self.down = nn.Linear(sizes.d_ff, sizes.d_model)

    def forward(self, x: Tensor) -> Tensor:
        # three tensors (batch, head, seq, d_head)
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        output: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return output


def nanogpt(sizes: Sizes) -> tuple[nn.Module, Loss]:
    model = NanoGPT(sizes)
    return model, lambda batch: _cross_entropy(model(batch[:, :-1]), batch[:, 1:])


OURS, THEIRS = "glassformer", "Hugging Face GPT-2"
CONTENDERS: dict[str, Callable[[Sizes], tuple[nn.Module, Loss]]] = {
    OURS: glassformer,
    THEIRS: hugging_face,
    "Hugging Face, fused GELU": lambda sizes: hugging_face(sizes, "gelu_pytorch_tanh"),
    "nanoGPT": nanogpt,
    "x-transformers": x_transformers,
    "nn.TransformerEncoder": torch_encoder,
}


PACKAGES = {
    OURS: "glassformer",
    THEIRS: "transformers",
    "Hugging Face, fused GELU": "transformers",
    "nanoGPT": "torch",
    "x-transformers": "x_transformers",
    "nn.TransformerEncoder": "torch",
}
"""The package that each contender needs."""

Step = Callable[[torch.dtype], None]
"""A training step under autocast to a data type; float32 is without autocast."""


def training_step(name: str, sizes: Sizes) -> Step:
    """One training step of a contender on a batch of random ids."""
    torch.manual_seed(0)
    model, loss = CONTENDERS[name](sizes)
    optimizer = adamw(model, OptimizerConfig(learning_rate=1e-4))
    batch = torch.randint(sizes.vocab_size, (sizes.batch_size, sizes.seq_len + 1))

    def step(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss(batch)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
