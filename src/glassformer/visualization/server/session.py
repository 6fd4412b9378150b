"""Predictions and attention of one model, with and without ablated heads.

A request carries the whole state: the text, the generated tokens and the ablated heads. The session only
caches the last texts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from glassformer.analysis.ablation import Head, ReferenceOutputs, ablate, parse_heads, reference_outputs
from glassformer.analysis.head_patterns import HeadReport
from glassformer.attention import attentions_of
from glassformer.attention.pruned_attention import original_heads
from glassformer.deprecation import renamed_arguments
from glassformer.eval_mode import eval_mode
from glassformer.generation.sampling import Sampler
from glassformer.models import TransformerModel
from glassformer.terminal import count_of
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.explorer import collect_contents, page_html
from glassformer.visualization.explorer.schema import Contents, with_head_labels
from glassformer.visualization.model_input import quote_start, token_labels
from glassformer.visualization.server.backends import Predictor, TokenLimit, TruncatedText, choose_backend
from glassformer.visualization.server.schema import PredictionRequest

NUM_PREDICTIONS = 12
"""Number of most probable tokens in a response."""
NUM_CACHED = 4
"""Number of predictors, and of mean outputs, that are kept: of two compared texts with and without heads."""
MAX_ANALYSIS_COST = 10**12
"""Parameters x layers x tokens up to which attention comes with all analyses. The logit lens projects to
the vocabulary after every layer; this much takes SmolLM2-135M about a minute on one core."""

Value = TypeVar("Value")
Heads: TypeAlias = dict[str, list[Head]]
"""Heads by kind of attention."""


class ModelSession:
    """A model that answers requests, one at a time.

    Args:
        model: a model of texts.
        name: name of the model on the page.
        max_tokens: maximum number of tokens of a text; ``max_seq_len`` of the model limits it too.
        mean_texts: texts over which the mean output of a head is taken. Default: the text of the request.
        heads_report: labels of heads, from an analysis of the model.

    Raises:
        TypeError: a model of images.
        ValueError: ``max_tokens`` below 1, or a model without a tokenizer whose vocabulary is too small for
            bytes.
    """

    @renamed_arguments(longest="max_tokens", texts="mean_texts", names="heads_report")
    def __init__(
        self,
        model: TransformerModel,
        *,
        name: str,
        max_tokens: int = 512,
        mean_texts: Sequence[str] | None = None,
        heads_report: HeadReport | None = None,
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        if model.main_input_name != "input_ids":
            raise TypeError(
                f"a {type(model).__name__} takes images, and this page takes text: "
                "use glassformer explore --image"
            )
        self.model, self.name = model, name
        self.mean_texts, self.heads_report = mean_texts, heads_report
        max_seq_len = int(model.config["max_seq_len"])
        self.limit = TokenLimit(min(max_tokens, max_seq_len), max_seq_len)
        self.tokenizer = model.tokenizer or ByteTokenizer()
        self.backend = choose_backend(model, self.limit)
        self.heads = {
            kind: [original_heads(attention) for attention in layers]
            for kind, layers in attentions_of(model).items()
        }
        """For each kind of attention and layer, the numbers of its heads."""
        end_tokens = {*model.stop_tokens, self.tokenizer.end_of_text, getattr(model, "end_token", None)}
        self.end_tokens = {token for token in end_tokens if token is not None}
        self._predictors: OrderedDict[Any, Predictor] = OrderedDict()
        self._references: OrderedDict[Any, ReferenceOutputs] = OrderedDict()

    def describe(self) -> dict[str, Any]:
        """Describe the model for the page."""
        report, texts = self.heads_report, self.mean_texts
        return {
            "name": self.name,
            "family": type(self.model).__name__.removesuffix("Model"),
            "parameters": self.model.num_parameters(),
            "heads": self.heads,
            "predicts": self.backend.predicts,
            "example": self.backend.example,
            "has_chat_template": self.backend.has_chat_template,
            "is_encoder_decoder": self.model.is_encoder_decoder,
            "max_tokens": self.limit.max_tokens,
            "limit": str(self.limit),
            "max_analysis_tokens": max(1, MAX_ANALYSIS_COST // self._cost_per_token),
            "mean_over": "this text" if texts is None else count_of(len(texts), "text"),
            "labels": [] if report is None else [self._head_label(report, row) for row in report.names],
        }

    @torch.no_grad()
    def predict(self, request: PredictionRequest) -> dict[str, Any]:
        """Tokens of the text and predictions with all heads and without the ablated ones.

        Raises:
            ValueError: an empty text, or a token or head that does not exist.
        """
        encoded, ablated = self._validate(request)
        attention = {"attention": self.attention(request)} if request.attention else {}
        with eval_mode(self.model):
            if self.backend.predicts:
                response = self._response(request, encoded, *self._logits(request, encoded, ablated))
                return response | attention
            cosines = {"cosines": self._cosines(request, encoded, ablated)}
            return self._response(request, encoded, None, None) | cosines | attention

    @torch.no_grad()
    def step(self, request: PredictionRequest) -> dict[str, Any]:
        """Sample a token without the ablated heads and predict again.

        The ``token`` of the result is None if there is no place for another one.

        Raises:
            ValueError: as ``predict``, or a model without a language modeling head.
        """
        if not self.backend.predicts:
            raise ValueError(
                f"this {type(self.model).__name__} has no language modeling head and cannot generate tokens"
            )
        encoded, ablated = self._validate(request)
        sampler = Sampler(temperature=request.temperature, top_k=request.top_k)
        with eval_mode(self.model):
            before, after = self._logits(request, encoded, ablated)
            if after is None:
                return {"token": None, **self._response(request, encoded, before, after)}
            token = int(sampler(after[None], torch.tensor([encoded.ids], device=after.device)))
            request = replace(request, generated=(*request.generated, token))
            response = self._response(request, encoded, *self._logits(request, encoded, ablated))
        return {"token": token, "ended": token in self.end_tokens, **response}

    def attention(self, request: PredictionRequest) -> dict[str, Any]:
        """Contents of the explorer for the text and the generated tokens, without the ablated heads.

        Without generated tokens, the target of an encoder-decoder is its most probable first token: a whole
        one would take long to generate.

        Raises:
            ValueError: as ``predict``, or contents that would be too large.
        """
        return self._contents(request).as_json()

    def explore(self, request: PredictionRequest) -> str:
        """The same contents as a page of their own, which works offline.

        Raises:
            ValueError: as ``attention``.
        """
        contents = self._contents(request)
        if request.ablated_heads:  # the page of the server lists them
            contents.notes.insert(
                0, f"ablated heads ({request.ablation}): {', '.join(request.ablated_heads)}"
            )
        return page_html(contents)

    def _contents(self, request: PredictionRequest) -> Contents:
        encoded, ablated = self._validate(request)
        generated = list(request.generated[: self.backend.max_generated(encoded.ids)])
        length, notes = len(encoded.ids) + len(generated), list(encoded.notes)
        target, outputs = generated or self._first_token(request, encoded, ablated), list[Any]()
        affordable = length * self._cost_per_token <= MAX_ANALYSIS_COST
        if request.analyses and not affordable:
            notes.append(
                f"no logit lens, rollout or score decomposition: they would take too long for {length:,} "
                f"tokens; the limit for this model is {MAX_ANALYSIS_COST // self._cost_per_token:,} tokens"
            )
        with self._ablate(ablated, request, encoded):
            contents = collect_contents(
                self.model,
                **self.backend.explorer_inputs(encoded.ids, target),
                name=self.name,
                analyses=request.analyses and affordable,
                faithfulness=False,
                on_output=outputs.append,
            )
        is_whole = self.backend.predicts and len(generated) == len(request.generated)
        if is_whole and not self.model.is_encoder_decoder:
            # The predictions need no other forward pass.
            self._predictor(request, encoded, frozenset(request.ablated_heads)).use_output(
                generated, outputs[0]
            )
        if len(generated) < len(request.generated):
            notes.append(
                f"only {len(generated)} of {count_of(len(request.generated), 'generated token')} fit"
            )
        text = quote_start(" ".join(request.text.split()))
        if count := len(generated):
            text += f" and {count_of(count, 'generated token')}"
        contents = replace(contents, text=text, notes=notes + contents.notes)
        return contents if self.heads_report is None else with_head_labels(contents, self.heads_report)

    def _first_token(self, request: PredictionRequest, encoded: TruncatedText, ablated: Heads) -> list[int]:
        """The most probable first token of an encoder-decoder's target; empty for other models."""
        if not self.model.is_encoder_decoder:
            return []
        with torch.no_grad(), eval_mode(self.model):
            logits = self._logits(request, encoded, ablated)[1]
        return [] if logits is None else [int(logits.argmax())]

    def _validate(self, request: PredictionRequest) -> tuple[TruncatedText, Heads]:
        """Encode the text and parse the heads; check that all tokens and heads exist."""
        vocab_size = int(self.model.config["vocab_size"])
        for token in (*request.generated, *request.tokens):
            if token >= vocab_size:
                raise ValueError(f"token ids must be from 0 to {vocab_size - 1}, got {token}")
        ablated: Heads = {}
        for name in request.ablated_heads:
            kind, colon, head = name.rpartition(":")
            kind = kind if colon else next(iter(self.heads))
            ablated.setdefault(kind, []).extend(parse_heads(head))
        for kind, heads in ablated.items():
            with ablate(self.model, heads, kind=kind):
                pass  # raises for a head that does not exist
        encode = self.backend.encode_chat if request.chat else self.backend.encode
        return encode(request.text), ablated

    def _logits(
        self, request: PredictionRequest, encoded: TruncatedText, ablated: Heads
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits with all heads, and without the ablated ones."""
        generated = list(request.generated)
        before = self._predictor(request, encoded, frozenset()).logits(generated)
        if not ablated or before is None:
            return before, before
        with self._ablate(ablated, request, encoded):
            predictor = self._predictor(request, encoded, frozenset(request.ablated_heads))
            return before, predictor.logits(generated)

    def _predictor(
        self, request: PredictionRequest, encoded: TruncatedText, ablated: frozenset[str]
    ) -> Predictor:
        """The cached predictor if there is one for the text and the ablated heads, else a new one."""
        key = (tuple(encoded.ids), ablated, request.ablation if ablated else "")
        return _cached(self._predictors, key, lambda: self.backend.predictor(encoded.ids))

    @contextmanager
    def _ablate(self, ablated: Heads, request: PredictionRequest, encoded: TruncatedText) -> Iterator[None]:
        use_mean = request.ablation == "mean"
        references = {kind: self._reference(kind, encoded) for kind in ablated} if use_mean else {}
        with ExitStack() as stack:
            for kind, heads in ablated.items():
                stack.enter_context(
                    ablate(self.model, heads, request.ablation, kind=kind, reference=references.get(kind))
                )
            yield

    def _reference(self, kind: str, encoded: TruncatedText) -> ReferenceOutputs:
        """Mean outputs of the heads of one kind of attention; those of the last texts are cached."""
        own_text = self.mean_texts is None
        texts: Sequence[Any] = [encoded.ids] if self.mean_texts is None else self.mean_texts
        key = (kind, tuple(encoded.ids) if own_text else None)
        return _cached(
            self._references, key, lambda: reference_outputs(self.model, texts, kind, num_samples=1)
        )

    def _cosines(self, request: PredictionRequest, encoded: TruncatedText, ablated: Heads) -> list[float]:
        """Cosine of each token's last hidden state before and after ablation; empty without ablated heads."""
        if not ablated:
            return []
        before = self.backend.last_hidden_states(encoded.ids)
        with self._ablate(ablated, request, encoded):
            after = self.backend.last_hidden_states(encoded.ids)
        cosines = torch.cosine_similarity(before.double(), after.double(), dim=-1)
        if not bool(cosines.isfinite().all()):
            raise ValueError("the model's hidden states are not finite: its weights are damaged or diverged")
        return [float(cosine) for cosine in cosines.clamp(-1, 1)]

    @property
    def _cost_per_token(self) -> int:
        return self.model.num_parameters() * max(len(layers) for layers in self.heads.values())

    def _response(
        self,
        request: PredictionRequest,
        encoded: TruncatedText,
        before: Tensor | None,
        after: Tensor | None,
    ) -> dict[str, Any]:
        cut = {"at": encoded.cut_at, "count": len(encoded.truncated)} if encoded.truncated else None
        response: dict[str, Any] = {
            "tokens": token_labels(self.model, self.tokenizer, encoded.ids),
            "notes": list(encoded.notes),
            "truncation": cut,
            "generated": [{"id": token, "label": self._token_label(token)} for token in request.generated],
        }
        if before is None or after is None:
            message = self.backend.full_message(encoded) if self.backend.predicts else ""
            return {**response, "predictions": [], "wanted": [], "divergence": None, "message": message}
        p, q = (logits.double().log_softmax(-1).cpu() for logits in (before, after))
        if not bool(torch.isfinite(p).any() and torch.isfinite(q).any()):
            raise ValueError("the model's logits are not finite: its weights are damaged or diverged")
        k = min(NUM_PREDICTIONS, len(p))
        best = {token for log_probs in (p, q) for token in log_probs.topk(k).indices.tolist()}
        order = sorted(best, key=lambda token: -float(torch.maximum(p, q)[token]))[:NUM_PREDICTIONS]
        predictions, wanted = (
            [
                {
                    "id": token,
                    "label": self._token_label(token),
                    "before": float(p[token].exp()),
                    "after": float(q[token].exp()),
                }
                for token in tokens
            ]
            for tokens in (order, request.tokens)
        )
        divergence = float((p.exp() * (p - q)).nansum().clamp(min=0))  # 0 log 0 is 0
        result = {"predictions": predictions, "wanted": wanted, "divergence": divergence, "message": ""}
        return {**response, **result}

    def _token_label(self, token: int) -> str:
        return token_labels(self.model, self.tokenizer, [token])[0]

    def _head_label(self, report: HeadReport, row: Any) -> dict[str, Any]:
        kind = str(report.settings.get("kind") or next(iter(self.heads)))
        return {"kind": kind, "layer": int(row["layer"]), "head": int(row["head"]), "label": str(row["name"])}


def _cached(values: OrderedDict[Any, Value], key: Any, make: Callable[[], Value]) -> Value:
    """The value of a key, made if it is not there; the values used last are kept."""
    if key not in values:
        values[key] = make()
        if len(values) > NUM_CACHED:
            values.popitem(last=False)
    values.move_to_end(key)
    return values[key]
