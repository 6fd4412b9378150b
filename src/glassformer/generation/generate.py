"""generate: continue prompts, all at once; ``streaming.stream`` does the same token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, overload

from torch import Tensor

from glassformer.contracts import LanguageModel
from glassformer.generation.beam_search import beam_search
from glassformer.generation.context import Overflow
from glassformer.generation.prompts import Prompt, continued
from glassformer.generation.streaming import CommonOptions, GenerationOptions, SamplingOptions, stream


class GenerateOptions(GenerationOptions, total=False):
    """The keywords of ``generate``, for functions that only pass them on."""

    num_beams: int
    length_penalty: float
    early_stopping: bool


@overload
def generate(
    model: LanguageModel, prompt: Tensor, max_new_tokens: int, **options: Unpack[GenerateOptions]
) -> Tensor: ...


@overload
def generate(
    model: LanguageModel, prompt: Sequence[int], max_new_tokens: int, **options: Unpack[GenerateOptions]
) -> list[int]: ...


@overload
def generate(
    model: LanguageModel,
    prompt: Sequence[Sequence[int]],
    max_new_tokens: int,
    **options: Unpack[GenerateOptions],
) -> list[list[int]]: ...


def generate(
    model: LanguageModel,
    prompt: Prompt,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    stop_tokens: Sequence[int] = (),
    seed: int | None = None,
    num_return_sequences: int = 1,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    attention_mask: Tensor | None = None,
    pad_id: int | None = None,
    use_cache: bool = True,
    overflow: Overflow | None = None,
) -> Tensor | list[int] | list[list[int]]:
    """Continue prompts: what comes back has the form of what was put in.

    ====================  ===============================  =========================================
    prompt                result                           a row that met a stop token
    ====================  ===============================  =========================================
    tensor (batch, seq)   tensor (rows, seq + new), int64  is filled up with ``pad_id``
    tensor (seq,)         tensor (seq + new,), int64       ends with it
    list of lists         list of lists                    ends with it
    flat list             flat list                        ends with it
    ====================  ===============================  =========================================

    Here ``rows = batch * num_return_sequences``, the sequences of one prompt next to each other, and ``new``
    is ``max_new_tokens`` or, if all rows stopped before, less. Prompts of a list may differ in length; each
    gets what it would get alone (greedily, up to rounding).

    Past ``model.max_seq_len`` it depends on the position scheme, unless ``overflow`` says otherwise:

    ====================================  ========  ========================================================
    positions                             default   also possible
    ====================================  ========  ========================================================
    ALiBi, T5 relative bias, none         extend    slide, error
    rotary, sinusoidal                    slide     error, extend (beyond what the model was trained on)
    learned                               slide     error
    ====================================  ========  ========================================================

    - extend: the context goes on growing.
    - slide: when the context is full, its oldest half is dropped and the rest is read afresh, with positions
      from zero. The model never sees more than ``max_seq_len`` tokens, nor, once there are as many, less than
      half of that. Where the window stands depends only on how many tokens there are: it is the same for a
      long prompt, in a batch, and without a cache. Reading afresh happens every ``max_seq_len / 2`` tokens.
    - error: prompts and ``max_new_tokens`` that might not fit are refused before anything is computed.

    Args:
        model: any ``contracts.LanguageModel``. A module is put into evaluation mode for the time being.
        prompt: token ids, in one of the forms above; at least one token each.
        max_new_tokens: how many tokens to add at most; 0 gives the prompt back.
        temperature: 0 takes the likeliest token each time (greedy); otherwise logits are divided by it.
        top_k: sample from the ``top_k`` likeliest tokens; 0 is off, above the vocabulary is all of it.
        top_p: sample from the fewest likeliest tokens that hold this much probability, in (0, 1].
        min_p: sample from tokens at least this many times as likely as the likeliest, in [0, 1].
        repetition_penalty: divides positive logits of tokens that have occurred in the prompt or since, and
            multiplies negative ones; above 0, 1 is off. Filters run in the order repetition penalty,
            temperature, top-k, top-p, min-p.
        stop_tokens: ids at which a row ends; the id itself is part of the result.
        seed: makes sampling reproducible and leaves PyTorch's global random state alone. None uses that.
        num_return_sequences: continuations of each prompt, sampled independently, or with beams the best
            ones, best first; the prompt is read once.
        num_beams: above 1, the likeliest whole continuations are looked for, this many side by side (see
            ``beam_search``, which gives their scores too). Nothing is drawn then: the temperature stays at 1
            or is 0, and of the filters only the repetition penalty is there.
        length_penalty: with beams: above 0 longer continuations gain, below 0 shorter ones.
        early_stopping: with beams: end at the first ``num_beams`` that have ended.
        attention_mask: with a tensor ``(batch, seq)``: 1 or True for a real token, padding on the left. What
            ids the padding has does not matter, and they come back as they were.
        pad_id: what fills up a tensor behind a stop token; the first of ``stop_tokens`` by default.
        use_cache: keep keys and values. Without, all is computed again for each token, to the same result.
        overflow: "slide", "extend" or "error"; None as in the table above.

    Raises:
        ValueError: an empty prompt, an id outside the vocabulary, a number outside its range, several
            sequences from a flat prompt, prompts that do not fit under ``overflow="error"``, or options of
            sampling together with beams.
        TypeError: ids that are no integers.
    """
    common: CommonOptions = {
        "repetition_penalty": repetition_penalty,
        "stop_tokens": stop_tokens,
        "num_return_sequences": num_return_sequences,
        "attention_mask": attention_mask,
        "pad_id": pad_id,
        "use_cache": use_cache,
        "overflow": overflow,
    }
    sampling: SamplingOptions = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seed": seed,
    }
    if num_beams != 1:
        _check_nothing_is_drawn(sampling)
        ids, _ = beam_search(
            model,
            prompt,
            max_new_tokens,
            num_beams=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            **common,
        )
        return ids
    if length_penalty != 1 or early_stopping:
        raise ValueError("length_penalty and early_stopping are for beam search: give num_beams above 1 too")
    steps = list(stream(model, prompt, max_new_tokens, **common, **sampling))
    return continued(prompt, steps, num_return_sequences, stop_tokens)


def _check_nothing_is_drawn(sampling: SamplingOptions) -> None:
    off = {"temperature": (0, 1), "top_k": (None, 0), "top_p": (None, 1), "min_p": (None, 0), "seed": (None,)}
    for name, value in sampling.items():
        if value not in off[name]:
            raise ValueError(f"{name}={value} is for sampling; beam search draws nothing: leave it out")
