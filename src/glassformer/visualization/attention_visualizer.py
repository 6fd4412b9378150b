"""AttentionVisualizer: from a model and a text, or an image, to a picture, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from glassformer.analysis import HeadReport, Settings, analyze_heads, read_image
from glassformer.analysis.images import Picture
from glassformer.attention import record_attention
from glassformer.generation.streaming import evaluating
from glassformer.models import TransformerModel
from glassformer.visualization.arguments import Text, check_finite, whole_number
from glassformer.visualization.explorer import Explorer, explore, silent
from glassformer.visualization.head_map import picture_of_head_map
from glassformer.visualization.heat_maps import draw_head, draw_heads
from glassformer.visualization.image_maps import caption_of_image, draw_image_heads
from glassformer.visualization.logit_lens_map import picture_of_lens
from glassformer.visualization.looking import look, name_of
from glassformer.visualization.pictures import check_writable, save_picture
from glassformer.visualization.rollout_bars import picture_of_rollout


class AttentionVisualizer:
    """Draws what a model's attention heads look at. The model keeps its fast kernels, and stays as it is.

    Every method returns a matplotlib ``Figure``, and writes it where ``save_path`` says: .png, .svg or .pdf.

    Texts are read with the marks that the model's tokenizer adds around them. An encoder-decoder attends in
    three ways: ``kind="encoder"`` is the source on itself, ``"decoder"`` the target on itself, and
    ``"cross"`` the target on the source. Rows of cross-attention bear the token that is written there.

    Args:
        model: with a tokenizer; without one, texts are read as bytes where the vocabulary allows it.
        name: what pictures and pages call the model, before its family and size.
    """

    def __init__(self, model: TransformerModel, name: str | None = None) -> None:
        self.model, self.name = model, name

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
        sides, weights, allowed = look(self.model, text, layer, None, kind, target_text)
        figure = draw_heads(
            weights,
            sides.queries.labels,
            sides.keys.labels,
            title=f"{name_of(self.model, kind, self.name)}, layer {layer}: where each head looks",
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
        sides, weights, allowed = look(self.model, text, layer, [head], kind, target_text)
        figure = draw_head(
            weights[0],
            sides.queries.labels,
            sides.keys.labels,
            title=f"{name_of(self.model, kind, self.name)}, layer {layer}, head {head}: where it looks",
            caption=sides.caption,
            notes=sides.notes,
            allowed=allowed,
            row=sides.row,
        )
        return self._saved(figure, save_path)

    def plot_cross_attention(
        self,
        text: Text,
        layer: int,
        save_path: str | Path | None = None,
        *,
        target_text: Text | None = None,
    ) -> Figure:
        """Every head of a layer in which the target looks at the source; rows bear what is written there.

        Arguments and errors as ``plot_attention_heads``; a model that writes no target is a ValueError.
        """
        return self.plot_attention_heads(text, layer, save_path, kind="cross", target_text=target_text)

    def plot_rollout(
        self,
        example: Text | Picture,
        position: int | None = None,
        save_path: str | Path | None = None,
        *,
        target_text: Text | None = None,
        faithfulness: bool | None = None,
    ) -> Figure:
        """What the model's answer was made of, by attention followed through all layers.

        Rollout, and beside it the one that is weighted by gradients where the model says something that has
        any; each with the score of its deletion test (``analysis.deletion``). An image gets them laid over.

        Args:
            example: what the model reads: a text, token ids, or an image.
            position: the token whose answer it is; below zero counts from the end. Default: the last, the
                first mask of a text with masks, or the mean of all where the model has no head.
            save_path: where to write the picture.
            target_text: what an encoder-decoder writes; its source is what bars are for.
            faithfulness: whether there is a deletion test, of hundreds of readings. Default: as thorough a
                test as takes some seconds, if any does.

        Raises:
            ValueError: a position that does not exist, an empty text, a single token to be deleted, a text
                without a mask for a model that guesses masks.
            TypeError: what the model does not read, or a position where it has none to choose.
            OSError: the place cannot be written to; known before the work.
        """
        self._check(save_path)
        figure = picture_of_rollout(self.model, example, position, target_text, faithfulness, self.name)
        return self._saved(figure, save_path)

    def plot_logit_lens(
        self,
        text: Text,
        save_path: str | Path | None = None,
        *,
        target_text: Text | None = None,
        positions: Sequence[int] | None = None,
        layers: Sequence[int] | None = None,
    ) -> Figure:
        """What the model would say at each position if it stopped after each layer.

        Args:
            text: what the model reads, or token ids.
            save_path: where to write the picture.
            target_text: what an encoder-decoder writes; its positions are drawn.
            positions: that are drawn. Default: the last ones that fit on a page, 16 at most.
            layers: as ``analysis.logit_lens`` numbers them: 0 is what enters the first.

        Raises:
            ValueError: a layer or position that does not exist, or an empty text.
            TypeError: a model without a head over a vocabulary.
            OSError: the place cannot be written to; known before the work.
        """
        self._check(save_path)
        figure = picture_of_lens(self.model, text, target_text, positions, layers, self.name)
        return self._saved(figure, save_path)

    def plot_head_map(self, report: HeadReport | str | Path, save_path: str | Path | None = None) -> Figure:
        """The names that an analysis gave to this model's heads.

        Args:
            report: what ``analyze_head_patterns`` returned, or the ``heads.json`` that it was saved as.
            save_path: where to write the picture.

        Raises:
            ValueError: no report, or one of a model with other heads.
            OSError: no such file, or the place cannot be written to.
        """
        self._check(save_path)
        return self._saved(picture_of_head_map(self.model, report, self.name), save_path)

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
        layer = whole_number(layer, "a layer")
        reading = read_image(self.model, image)
        with torch.no_grad(), evaluating(self.model), record_attention(self.model, [layer]) as recording:
            self.model(reading.pixel_values)
        check_finite(recording[layer], f"layer {layer}'s attention")
        weights = recording[layer][0, :, 0].float().cpu().numpy()  # (head, key): the class token looks
        rows, columns = reading.grid
        figure = draw_image_heads(
            weights[:, -rows * columns :].reshape(-1, rows, columns),
            reading.shown(),
            title=f"{name_of(self.model, None, self.name)}, layer {layer}: where the class token looks",
            caption=caption_of_image(image, reading),
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
        heads_report: HeadReport | str | Path | None = None,
        analyses: bool = True,
        faithfulness: bool | None = None,
        force: bool = False,
        told: Callable[[str], object] = silent,
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
            name=self.name,
            heads_report=heads_report,
            analyses=analyses,
            faithfulness=faithfulness,
            force=force,
            told=told,
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
            save_picture(picture_of_head_map(self.model, report, self.name), save_path)
        return report

    @staticmethod
    def _check(save_path: str | Path | None) -> None:
        if save_path is not None:
            check_writable(save_path)

    @staticmethod
    def _saved(figure: Figure, save_path: str | Path | None) -> Figure:
        if save_path is not None:
            save_picture(figure, save_path)
        return figure
