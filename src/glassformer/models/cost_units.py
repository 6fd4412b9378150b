"""What is counted of a component, and how much passes through it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cost:
    """One component: its counts for all its copies, and the formula of each for one copy and one sequence."""

    component: str
    copies: int = 1
    parameters: int = 0
    parameter_formula: str = ""
    flops: int = 0
    """Of a forward pass."""
    flop_formula: str = ""
    memory: int = 0
    """Bytes kept for the backward pass."""
    memory_formula: str = ""
    """In numbers of float32; an index counts as two."""

    def times(self, copies: int) -> Cost:
        """The same component ``copies`` times."""
        return replace(
            self,
            copies=self.copies * copies,
            parameters=self.parameters * copies,
            flops=self.flops * copies,
            memory=self.memory * copies,
        )


@dataclass(frozen=True)
class Size:
    """How much passes through a component: ``batch`` sequences of ``n`` tokens, ``width`` bytes a number."""

    n: int
    batch: int
    width: int
    layers: int = 0
    """Of the stack that the component is in."""
    heads: tuple[int, ...] = ()
    """That self-attention has in each of them."""
    letter: str = "n"
    """What ``n`` is called in formulas."""
    memory_len: int = 0
    """Tokens that cross-attention reads; formulas call them n."""
    causal: bool = True
    """Whether the future is hidden."""
    window: bool = False
    """Whether the distant past is hidden too: the mask is a table then."""
    biased: bool = False
    """Whether a bias is added to the scores; the mask then becomes part of it."""
    learned_bias: bool = False
    """Whether it is learned: PyTorch then forms the weights and keeps them."""
    pools: bool = False
    """Whether the head reads one vector for the whole sequence."""
    vocab_size: int | None = None
    patches: int = 0
    """Of an image."""

    @property
    def tokens(self) -> int:
        """Tokens in all sequences."""
        return self.n * self.batch

    @property
    def sum_width(self) -> int:
        """Bytes of a number where sums are formed: at least those of float32."""
        return max(self.width, 4)

    @property
    def masked(self) -> bool:
        """Whether any pair of tokens is hidden from each other, as far as the kernel can tell."""
        return self.window or (self.causal and self.n > 1)
