"""AttentionVisualizer: from a model and a text, or an image, to a picture, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from glassformer.analysis import (
    EncoderDecoder,
    HeadReport,
    Pair,
    Reading,
    Settings,
    analyze_heads,
    read,
    read_image,
    read_pair,
)
from glassformer.analysis.images import Picture
from glassformer.attention import attentions_of, record_attention
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.visualization.explorer import Explorer, explore
from glassformer.visualization.head_map import draw_head_map
from glassformer.visualization.heat_maps import Weights, draw_head, draw_heads
from glassformer.visualization.image_maps import draw_image_heads
from glassformer.visualization.pictures import check_writable, save_picture

Text = str | Sequence[int]
Allowed = npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Sides:
    """Who looks at whom: what stands beside the rows and columns of a picture."""

    queries: Reading
    keys: Reading
    caption: str
    notes: tuple[str, ...]
    row: str = "query: looks"
    """What a row is."""


class AttentionVisualizer:
    """Draws what a model's attention heads look at. The model keeps its fast kernels, and stays as it is.

    Every method returns a matplotlib ``Figure``, and writes it where ``save_path`` says: .png, .svg or .pdf.

    Texts are read with the marks that the model's tokenizer adds around them. An encoder-decoder attends in
    three ways: ``kind="encoder"`` is the source on itself, ``"decoder"`` the target on itself, and
    ``"cross"`` the target on the source. Rows of cross-attention bear the token that is written there.

    Args:
        model: with a tokenizer; without one, texts are read as bytes where the vocabulary allows it.
    """

    def __init__(self, model: TransformerModel) -> None:
        self.model = model

    def plot_attention_heads(
        self,
        text: Text,
        layer: int,
        save_path: str | Path | None = None,
        *,
        kind: str | None = None,
        target_text: Text | None = None,
    ) -> Figure:
        """Every head of a layer as a heat map, rows looking at columns.

        Args:
            text: what the model reads, or token ids.
            layer: from 0.
            save_path: where to write the picture.
            kind: of attention; to be given where the model has several.
            target_text: what an encoder-decoder writes; by default what it writes by itself.

        Raises:
            ValueError: a layer or kind that does not exist, an empty text, a suffix that is no format.
            TypeError: a model that reads no text, or a target for one that writes none.
            OSError: the place cannot be written to; known before the work.
        """
        self._check(save_path)
        sides, weights, allowed = self._look(text, layer, None, kind, target_text)
        figure = draw_heads(
            weights,
            sides.queries.labels,
            sides.keys.labels,
            title=f"{self._name(kind)}, layer {layer}: where each head looks",
            caption=sides.caption,
            notes=sides.notes,
            allowed=allowed,
            row=sides.row,
        )
        return self._saved(figure, save_path)

    def plot_head(
        self,
        text: Text,
        layer: int,
        head: int,
        save_path: str | Path | None = None,
        *,
        kind: str | None = None,
        target_text: Text | None = None,
    ) -> Figure:
        """One head, large, with its weights written out where the text is short.

        Arguments and errors as ``plot_attention_heads``; a head that does not exist is a ValueError too.
        """
        self._check(save_path)
        sides, weights, allowed = self._look(text, layer, [head], kind, target_text)
        figure = draw_head(
            weights[0],
            sides.queries.labels,
            sides.keys.labels,
            title=f"{self._name(kind)}, layer {layer}, head {head}: where it looks",
            caption=sides.caption,
            notes=sides.notes,
            allowed=allowed,
            row=sides.row,
        )
        return self._saved(figure, save_path)

    def plot_vit_attention(self, image: Picture, layer: int, save_path: str | Path | None = None) -> Figure:
        """Every head of a layer: the class token's weights on the patches, laid over the image.

        Args:
            image: as ``analysis.read_image`` takes it: a file, an array, or a tensor of pixel values.
            layer: from 0.
            save_path: where to write the picture.

        Raises:
            ValueError: a layer that does not exist, an image of another shape.
            TypeError: a model that reads no images, or what is no image.
            OSError: a file that holds no image, or a place that cannot be written to.
        """
        self._check(save_path)
        reading = read_image(self.model, image)
        with torch.no_grad(), evaluating(self.model), record_attention(self.model, [layer]) as recording:
            self.model(reading.pixel_values)
        weights = recording[layer][0, :, 0].float().cpu().numpy()  # (head, key): the class token looks
        rows, columns = reading.grid
        figure = draw_image_heads(
            weights[:, -rows * columns :].reshape(-1, rows, columns),
            reading.shown(),
            title=f"{self._name(None)}, layer {layer}: where the class token looks",
            notes=reading.notes,
        )
        return self._saved(figure, save_path)

    def explore(
        self,
        text: Text | None = None,
        save_path: str | Path | None = None,
        *,
        image: Picture | None = None,
        target_text: Text | None = None,
        kind: str | None = None,
        layers: Sequence[int] | None = None,
        heads_report: str | Path | None = None,
        analyses: bool = True,
        faithfulness: bool | None = None,
        force: bool = False,
    ) -> Explorer:
        """Every head of every layer in one page that opens offline; a notebook shows it where it stands.

        Arguments and errors as ``visualization.explorer.explore``.
        """
        return explore(
            self.model,
            text,
            save_path,
            image=image,
            target_text=target_text,
            kind=kind,
            layers=layers,
            heads_report=heads_report,
            analyses=analyses,
            faithfulness=faithfulness,
            force=force,
        )

    def analyze_head_patterns(
        self,
        dataset: Iterable[Text],
        save_path: str | Path | None = None,
        settings: Settings | None = None,
    ) -> HeadReport:
        """Measure what every head looks at over a data set, beside controls, and draw the map of their names.

        Args:
            dataset: texts, or sequences of token ids; a name takes at least 60 of them.
            save_path: where to write the picture.
            settings: patterns, margin, seed, ...; an encoder-decoder needs a kind.

        Returns:
            The table and the names; ``visualization.draw_head_map`` draws them again.

        Raises:
            ValueError: an empty data set or text; as ``plot_attention_heads`` otherwise.
        """
        self._check(save_path)
        report = analyze_heads(self.model, dataset, settings)
        if save_path is not None:
            kind = report.settings["kind"]
            save_picture(draw_head_map(report, title=self._name(kind)), save_path)
        return report

    def _look(
        self, text: Text, layer: int, heads: Sequence[int] | None, kind: str | None, target: Text | None
    ) -> tuple[Sides, Weights, Allowed]:
        """Let the model read; the weights ``(head, query, key)`` of a layer, and what it may attend to."""
        with record_attention(self.model, [layer], heads, kind):
            pass  # refuses what does not exist before anything is computed
        model = self.model
        if isinstance(model, EncoderDecoder) and kind == "encoder":
            sides = self._sides_of_text(text)
            forward = partial(model.encode, self._batch(sides.keys))
        elif isinstance(model, EncoderDecoder) or target is not None:
            pair = read_pair(model, text, target)
            sides = self._sides_of_pair(pair, text, target, crosses=kind == "cross")
            forward = partial(model, self._batch(pair.source), self._batch(pair.target))
        else:
            sides = self._sides_of_text(text)
            forward = partial(model, self._batch(sides.keys))
        with (
            torch.no_grad(),
            evaluating(self.model),
            record_attention(self.model, [layer], heads, kind) as recording,
        ):
            forward()
        weights, allowed = recording[layer], recording.allowed[layer]
        visible = None if allowed is None else allowed.expand_as(weights)[0, 0].cpu().numpy()
        return sides, weights[0].float().cpu().numpy(), visible

    def _sides_of_text(self, text: Text) -> Sides:
        reading = read(self.model, text)
        return Sides(reading, reading, self._quoted(text, reading), reading.notes)

    def _sides_of_pair(self, pair: Pair, text: Text, target: Text | None, *, crosses: bool) -> Sides:
        said = self._quoted(target, pair.written)
        caption, notes = f"{self._quoted(text, pair.source)} → {said}", pair.source.notes + pair.written.notes
        if crosses:
            return Sides(pair.written, pair.source, caption, notes, "query: writes this")
        return Sides(pair.target, pair.target, caption, notes)

    def _batch(self, reading: Reading) -> Tensor:
        return torch.tensor([reading.ids], device=self.model.device)

    def _name(self, kind: str | None) -> str:
        kinds = attentions_of(self.model)
        layers = kinds[kind or next(iter(kinds))]
        family = type(self.model).__name__.removesuffix("Model")
        which = f" {kind} attention" if len(kinds) > 1 else ""
        return f"{family}{which}, {len(layers)} layers x {layers[0].num_heads} heads"

    def _quoted(self, text: Text | None, reading: Reading) -> str:
        tokenizer = self.model.tokenizer
        if text is None and tokenizer is not None:
            end = getattr(self.model, "end_token", None)
            known = [token for token in reading.ids if token != end and token < tokenizer.vocab_size]
            text = tokenizer.decode(known)
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
