"""Position schemes that differ between layers (Gemma 3, ModernBERT, SmolLM3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from glassformer.positions.scheme import PositionScheme


class PositionsByLayer(PositionScheme):
    """A scheme for each layer, of those that rotate queries and keys or do nothing.

    Args:
        schemes: one for each layer; layers may share one.

    Raises:
        ValueError: if a scheme adds positions to embeddings or a bias to scores, which is done once for all
            layers.

    """

    def __init__(self, schemes: Sequence[PositionScheme]) -> None:
        super().__init__()
        for scheme in schemes:
            if scheme.has_bias or type(scheme).embed is not PositionScheme.embed:
                raise ValueError(
                    'positions of single layers must be "rotary" or "none", which concern one layer each, '
                    f"not {type(scheme).__name__}"
                )
        distinct = list(dict.fromkeys(schemes))
        self.schemes = nn.ModuleList(distinct)
        self.indices = [distinct.index(scheme) for scheme in schemes]
        """Index of each layer's scheme."""
        self.extrapolates = all(scheme.extrapolates for scheme in distinct)
        limits = [scheme.max_cached_len for scheme in distinct if scheme.max_cached_len is not None]
        self.max_cached_len = min(limits, default=None)

    def of_layer(self, layer: int) -> PositionScheme:
        """The scheme of a layer."""
        return self.schemes[self.indices[layer]]  # type: ignore[return-value]
