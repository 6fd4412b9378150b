"""Block-sparse attention: exact attention over the blocks that a mask does not empty.

Section 3.3 of FlashAttention (Dao et al. 2022): the same two passes over fewer tiles. With a sliding window
(Mistral; Jiang et al. 2023) and the patterns of Longformer (Beltagy et al. 2020) and BigBird (Zaheer et al.
2020), a query attends to a number of keys that does not depend on the length, so that time and memory are
linear in it.
"""

from __future__ import annotations

from glassformer.attention.kernels.flash import FlashAttention
from glassformer.attention.kernels.tile_scores import TILE_AREA
from glassformer.attention.kernels.tiles import TileSizes
from glassformer.integers import check_at_least


class BlockSparseAttention(FlashAttention):
    """softmax(Q K^T * scale + bias) V over the blocks of keys that are not empty, for any mask.

    The blocks of keys to which a block of queries attends are gathered, so that time and memory are
    proportional to their number. A mask without structure is exact too, and then computed in full.

    Args:
        dropout: probability of dropping an attention weight during training.
        scale: factor of the scores. Default: ``1 / sqrt(d_head)``.
        softcap: largest absolute value of a score; see ``ScaledDotProductAttention``.
        block_size: queries in a block. Smaller ones follow a mask more closely, larger ones are computed
            faster.
        key_block_size: keys in a block. Default: a quarter of ``block_size``.
        implementation: as for ``FlashAttention``. Triton has blocks of its own size.

    Raises:
        ValueError: if dropout is outside [0, 1), softcap is not positive, a size is below 1, or the
            implementation is unknown.

    """

    def __init__(
        self,
        dropout: float = 0.0,
        scale: float | None = None,
        softcap: float | None = None,
        *,
        block_size: int = 64,
        key_block_size: int | None = None,
        implementation: str = "auto",
    ) -> None:
        check_at_least(1, block_size=block_size)
        key_block_size = max(1, block_size // 4) if key_block_size is None else key_block_size
        check_at_least(1, key_block_size=key_block_size)
        super().__init__(dropout, scale, softcap, implementation=implementation)
        self.block_size, self.key_block_size = block_size, key_block_size

    def extra_repr(self) -> str:
        """The options, as ``print(model)`` shows them."""
        return f"block_size={self.block_size}, key_block_size={self.key_block_size}"

    def tile_sizes(self, q_len: int) -> TileSizes:
        """How the table of scores of ``q_len`` queries is divided."""
        queries = max(1, min(self.block_size, q_len))
        return TileSizes(self.block_size, self.key_block_size, max(self.key_block_size, TILE_AREA // queries))
