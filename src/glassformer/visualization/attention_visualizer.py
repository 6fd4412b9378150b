"""AttentionVisualizer: from a model and a text to a picture, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from glassformer.analysis import HeadPatterns, Reading, head_patterns, read
from glassformer.attention import causal, record_attention
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.visualization.heat_maps import Weights, draw_head, draw_heads
from glassformer.visualization.pattern_maps import draw_patterns
from glassformer.visualization.pictures import check_writable, save_picture


class AttentionVisualizer:
    """Draws what a model's attention heads look at. The model keeps its fast kernels, and stays as it is.

    Every method returns a matplotlib ``Figure``, and writes it where ``save_path`` says: .png, .svg or .pdf.

    Args:
        model: with a tokenizer; without one, texts are read as bytes where the vocabulary allows it.
    """

    def __init__(self, model: TransformerModel) -> None:
        self.model = model

    def plot_attention_heads(
        self, text: str | Sequence[int], layer: int, save_path: str | Path | None = None
    ) -> Figure:
        """Every head of a layer as a heat map, rows looking at columns.

        Args:
            text: what the model reads, or token ids.
            layer: from 0.
            save_path: where to write the picture.

        Raises:
            ValueError: a layer that does not exist, an empty text, a suffix that stands for no format.
            OSError: the place cannot be written to; known before the work.
        """
        self._check(save_path)
        reading, weights = self._weights(text, layer, None)
        figure = draw_heads(
            weights,
            reading.labels,
            reading.labels,
            title=f"{self._name()}, layer {layer}: where each head looks",
            caption=self._caption(text, reading),
            notes=reading.notes,
            allowed=_visible(len(reading.ids)),
        )
        return self._saved(figure, save_path)

    def plot_head(
        self, text: str | Sequence[int], layer: int, head: int, save_path: str | Path | None = None
    ) -> Figure:
        """One head, large, with its weights written out where the text is short.

        Arguments and errors as ``plot_attention_heads``; a head that does not exist is a ValueError too.
        """
        self._check(save_path)
        reading, weights = self._weights(text, layer, [head])
        figure = draw_head(
            weights[0],
            reading.labels,
            reading.labels,
            title=f"{self._name()}, layer {layer}, head {head}: where it looks",
            caption=self._caption(text, reading),
            notes=reading.notes,
            allowed=_visible(len(reading.ids)),
        )
        return self._saved(figure, save_path)

    def analyze_head_patterns(
        self, dataset: Iterable[str | Sequence[int]], save_path: str | Path | None = None
    ) -> HeadPatterns:
        """Measure what every head looks at over a data set, and draw the maps of layers x heads.

        Args:
            dataset: texts, or sequences of token ids.
            save_path: where to write the picture.

        Returns:
            The numbers; ``visualization.draw_patterns`` draws them again.

        Raises:
            ValueError: an empty data set or text; as ``plot_attention_heads`` otherwise.
        """
        self._check(save_path)
        patterns = head_patterns(self.model, dataset)
        if save_path is not None:
            cut = f", {patterns.num_cut} of them cut" if patterns.num_cut else ""
            how = "; read as bytes: the model has no tokenizer" if patterns.as_bytes else ""
            caption = f"means over {patterns.num_queries:,} queries of {patterns.num_texts:,} texts{cut}{how}"
            title = f"{self._name()}: what each head looks at"
            save_picture(draw_patterns(patterns, title=title, caption=caption), save_path)
        return patterns

    def _weights(
        self, text: str | Sequence[int], layer: int, heads: Sequence[int] | None
    ) -> tuple[Reading, Weights]:
        """What the model reads, and the weights ``(head, query, key)`` of a layer."""
        with (
            torch.no_grad(),
            evaluating(self.model),
            record_attention(self.model, [layer], heads) as recording,
        ):
            reading = read(self.model, text)
            self.model(torch.tensor([reading.ids], device=self.model.device))
        return reading, recording[layer][0].float().cpu().numpy()

    def _name(self) -> str:
        config = self.model.config
        return f"{self.model.family.upper()}, {config['num_layers']} layers x {config['num_heads']} heads"

    @staticmethod
    def _caption(text: str | Sequence[int], reading: Reading) -> str:
        return f"“{' '.join(text.split())}”" if isinstance(text, str) else f"{len(reading.ids)} token ids"

    @staticmethod
    def _check(save_path: str | Path | None) -> None:
        if save_path is not None:
            check_writable(save_path)

    @staticmethod
    def _saved(figure: Figure, save_path: str | Path | None) -> Figure:
        if save_path is not None:
            save_picture(figure, save_path)
        return figure


def _visible(length: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """What a causal model may attend to."""
    visible: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = causal().dense(length, length).numpy()
    return visible
