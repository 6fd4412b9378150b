"""Figures of a model's attention in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from glassformer.analysis import HeadAnalysisSettings, HeadReport, analyze_heads, preprocess_image
from glassformer.analysis.image_inputs import ImageSource
from glassformer.attention import attentions_of, record_attention
from glassformer.eval_mode import eval_mode
from glassformer.models import TransformerModel
from glassformer.visualization.explorer import Explorer, explore
from glassformer.visualization.figures.head_map import head_map_of_model
from glassformer.visualization.figures.heat_maps import draw_head, draw_heads
from glassformer.visualization.figures.image_maps import draw_image_heads, image_caption
from glassformer.visualization.figures.logit_lens import logit_lens_of_text
from glassformer.visualization.figures.rollout import rollout_of_input
from glassformer.visualization.figures.style import check_writable, save_figure
from glassformer.visualization.model_input import (
    Text,
    check_finite,
    check_index,
    compute_attention,
    model_title,
)


class AttentionVisualizer:
    """Draws the attention heads of a model and what follows from them. The model is not changed.

    Methods whose names begin with ``plot`` return a matplotlib ``Figure``, and save it if ``save_path`` is
    given: as .png, .svg or .pdf. They raise an ``OSError`` before any work if it cannot be written.

    Texts are encoded with the special tokens of the model's tokenizer. An encoder-decoder has three kinds of
    attention: ``"encoder"`` (source to source), ``"decoder"`` (target to target) and ``"cross"`` (target to
    source). Rows of cross-attention are labeled with the token that is predicted.

    The heads of a pruned model keep the numbers that they had before pruning.

    Args:
        model: A model, with its tokenizer. Without one, texts are read as bytes if the vocabulary allows it.
        name: What the model is called in titles.
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
        """Draw every head of a layer as a heat map of queries (rows) and keys (columns).

        Args:
            text: A text, or token ids ``(seq,)`` or ``(1, seq)``; for a BERT, also a tuple of two sentences.
            layer: Index of the layer.
            save_path: File of the figure.
            kind: Kind of attention; required for an encoder-decoder.
            target_text: Target of an encoder-decoder. Default: what the model generates.

        Raises:
            ValueError: The layer or kind does not exist, the text is empty, or the suffix is unknown.
            TypeError: The model takes no text, or has no decoder and a target is given.
        """
        _check_path(save_path)
        attention = compute_attention(self.model, text, layer, None, kind, target_text)
        title = f"{self._layer(layer, kind)}: where each head looks"
        labels = self._with_model(attention.labels, kind)
        return _saved(draw_heads(attention.weights, title=title, heads=attention.heads, **labels), save_path)

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
        """Draw one large head, with numbers if the text is short. See ``plot_attention_heads``."""
        _check_path(save_path)
        attention = compute_attention(self.model, text, layer, [head], kind, target_text)
        title = f"{self._layer(layer, kind)}, head {head}: where each token looks"
        labels = self._with_model(attention.labels, kind)
        return _saved(draw_head(attention.weights[0], title=title, **labels), save_path)

    def plot_cross_attention(
        self,
        text: Text,
        layer: int,
        save_path: str | Path | None = None,
        *,
        target_text: Text | None = None,
    ) -> Figure:
        """Draw every cross-attention head of a layer. See ``plot_attention_heads``."""
        return self.plot_attention_heads(text, layer, save_path, kind="cross", target_text=target_text)

    def plot_rollout(
        self,
        example: Text | ImageSource,
        position: int | None = None,
        save_path: str | Path | None = None,
        *,
        target_text: Text | None = None,
        faithfulness: bool | None = None,
    ) -> Figure:
        """Attribute the model's answer to its input by attention rollout through all layers.

        A second column shows gradient-weighted rollout if the answer has gradients. Each comes with the score
        of its deletion test (``analysis.faithfulness``). Attributions of an image are laid over it.

        Args:
            example: A text, token ids, or an image.
            position: The token at whose position the answer is given; negative ones count from the end.
                Default: the last one, the first mask token, or the mean of all for a model without a head.
            save_path: File of the figure.
            target_text: Target of an encoder-decoder; the attributions are to its source.
            faithfulness: Whether to run the deletion test, which takes hundreds of forward passes. Default:
                only if it takes a few seconds.

        Raises:
            ValueError: The position does not exist, the text is empty, or a masked language model gets a text
                without a mask token and no position.
            TypeError: The model cannot read the example, or has no positions to choose from.
        """
        _check_path(save_path)
        figure = rollout_of_input(self.model, example, position, target_text, faithfulness, self.name)
        return _saved(figure, save_path)

    def plot_logit_lens(
        self,
        text: Text,
        save_path: str | Path | None = None,
        *,
        target_text: Text | None = None,
        positions: Sequence[int] | None = None,
        layers: Sequence[int] | None = None,
        follow: Sequence[int | str] | None = None,
    ) -> Figure:
        """Draw the tokens that the model would predict at each position if it stopped after each layer.

        Args:
            text: A text, or token ids.
            save_path: File of the figure.
            target_text: Target of an encoder-decoder, whose positions are drawn.
            positions: Positions to draw. Default: the last ones that fit on a page, 16 at most.
            layers: See ``analysis.logit_lens``: 0 is the embedding, i the output of layer i - 1.
            follow: Tokens whose probabilities after each layer are drawn too, as ids or as texts.

        Raises:
            ValueError: A layer, position or token does not exist, or the text is empty.
            TypeError: The model predicts no tokens.
        """
        _check_path(save_path)
        figure = logit_lens_of_text(self.model, text, target_text, positions, layers, self.name, follow)
        return _saved(figure, save_path)

    def plot_head_map(self, report: HeadReport | str | Path, save_path: str | Path | None = None) -> Figure:
        """Draw the attention pattern that each head is labeled with.

        Args:
            report: The result of ``analyze_head_patterns``, or a ``heads.json`` file that it was saved to.
            save_path: File of the figure.

        Raises:
            ValueError: Not a report, or one about a model with other heads.
            OSError: The file does not exist.
        """
        _check_path(save_path)
        return _saved(head_map_of_model(self.model, report, self.name), save_path)

    def plot_vit_attention(
        self, image: ImageSource, layer: int, save_path: str | Path | None = None
    ) -> Figure:
        """Draw the attention of the class token to the patches of an image, for every head of a layer.

        Args:
            image: See ``analysis.preprocess_image``: a file, an array, or a tensor of pixel values.
            layer: Index of the layer.
            save_path: File of the figure.

        Raises:
            ValueError: The layer does not exist, or the image has the wrong shape.
            TypeError: The model takes no images, or this is no image.
            OSError: The file holds no image.
        """
        _check_path(save_path)
        layer = check_index(layer, "layer")
        encoded = preprocess_image(self.model, image)
        with torch.no_grad(), eval_mode(self.model), record_attention(self.model, [layer]) as recording:
            self.model(encoded.pixel_values)
        check_finite(recording[layer], f"The attention of layer {layer}")
        weights = recording[layer][0, :, 0].float().cpu().numpy()  # (head, key): the class token is query 0
        rows, columns = encoded.grid
        figure = draw_image_heads(
            weights[:, -rows * columns :].reshape(-1, rows, columns),
            encoded.to_rgb(),
            heads=recording.map(layer).heads,
            title=f"Layer {layer}: where the class token looks",
            caption=image_caption(image, encoded),
            notes=[self._title(), *encoded.notes],
        )
        return _saved(figure, save_path)

    def explore(
        self, text: Text | None = None, save_path: str | Path | None = None, **options: Any
    ) -> Explorer:
        """Make an interactive page of every head of every layer, which notebooks display.

        Args:
            text: A text, or token ids; None if an image is given.
            save_path: An .html file.
            options: Further arguments of ``visualization.explorer.explore``.
        """
        return explore(self.model, text, save_path, **{"name": self.name, **options})

    def analyze_head_patterns(
        self,
        dataset: Iterable[str | Sequence[int]],
        save_path: str | Path | None = None,
        settings: HeadAnalysisSettings | None = None,
    ) -> HeadReport:
        """Measure the attention patterns of every head on a data set, and draw a map of their labels.

        Args:
            dataset: Texts, or sequences of token ids. A head is labeled only on the evidence of at least 60.
            save_path: File of the figure, which ``plot_head_map`` draws again from the result.
            settings: Patterns, margin, seed and so on; for an encoder-decoder with its ``kind``.

        Returns:
            The measurements and labels.

        Raises:
            ValueError: The data set or a text is empty; see also ``plot_attention_heads``.
        """
        _check_path(save_path)
        report = analyze_heads(self.model, dataset, settings)
        if save_path is not None:
            self.plot_head_map(report, save_path)
        return report

    def _title(self, kind: str | None = None) -> str:
        return model_title(self.model, kind, self.name)

    def _layer(self, layer: int, kind: str | None) -> str:
        """A layer in a title, with the kind of its attention if the model has several."""
        several = kind is not None and len(attentions_of(self.model)) > 1
        return f"Layer {layer}, {kind} attention" if several else f"Layer {layer}"

    def _with_model(self, labels: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
        """The labels of a figure, with the model as the first note."""
        return {**labels, "notes": [self._title(kind), *labels["notes"]]}


def _check_path(path: str | Path | None) -> None:
    if path is not None:
        check_writable(path)


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        save_figure(figure, path)
    return figure
