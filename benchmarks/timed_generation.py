"""Greedy generation whose tokens are timed, with glassformer and with Hugging Face."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from timing import Quartiles, quartiles
from torch import Tensor

from glassformer.generation import stream
from glassformer.models import GPTModel

OURS, THEIRS = "glassformer", "Hugging Face"


class TimedTokens(NamedTuple):
    """New tokens of one call, with their times."""

    ids: Tensor
    """``(batch, new)``."""
    seconds: list[float]
    """Time from the call to the first token, then from each token to the next."""

    @property
    def prefill(self) -> float:
        return self.seconds[0]

    @property
    def per_token(self) -> float:
        return sum(self.seconds[1:]) / (len(self.seconds) - 1)


Generate = Callable[[], TimedTokens]
"""Generates all tokens once, and times them."""


def second_run_as_lists(run: Generate) -> Callable[[], tuple[list[list[int]], list[float]]]:
    """Return a function that returns ids and seconds, for another process.

    It generates twice, because memory that was freed before a pause is slow to get again.
    """

    def lists() -> tuple[list[list[int]], list[float]]:
        run()
        ids, seconds = run()
        return ids.tolist(), seconds

    return lists


def from_lists(run: Callable[[], tuple[list[list[int]], list[float]]]) -> Generate:
    """Return a function that makes the result of the other process one of this one."""

    def tokens() -> TimedTokens:
        ids, seconds = run()
        return TimedTokens(torch.tensor(ids), seconds)

    return tokens


class TimingStreamer:
    """Records tokens and their times; also a streamer for Hugging Face's ``generate``."""

    def __init__(self) -> None:
        self.tokens: list[Tensor] = []
        self.times = [time.perf_counter()]

    def put(self, value: Tensor) -> None:
        """Record the next token of each row; the prompt, a 2-D tensor, is ignored."""
        if value.dim() == 2:
            return
        self.times.append(time.perf_counter())
        self.tokens.append(value)

    def end(self) -> None:
        """Do nothing; Hugging Face calls this at the end."""

    def result(self) -> TimedTokens:
        """Return the recorded tokens."""
        return TimedTokens(torch.stack(self.tokens, dim=1), intervals(self.times))


def intervals(times: Sequence[float]) -> list[float]:
    """Return the time from each point in time to the next."""
    return [after - before for before, after in pairwise(times)]


def milliseconds(seconds: Sequence[float]) -> Quartiles:
    """Return quartiles in milliseconds."""
    return quartiles([1e3 * value for value in seconds])


def glassformer(model: GPTModel, prompt: Tensor, new: int) -> Generate:
    """Return a function that generates with glassformer."""

    def run() -> TimedTokens:
        streamer = TimingStreamer()
        for tokens in stream(model, prompt, new, temperature=0):
            streamer.put(tokens)
        return streamer.result()

    return run


def hugging_face(model: Any, prompt: Tensor, new: int) -> Generate:
    """Return a function that generates with Hugging Face."""
    mask = torch.ones_like(prompt)

    def run() -> TimedTokens:
        streamer = TimingStreamer()
        model.generate(
            prompt,
            attention_mask=mask,
            max_new_tokens=new,
            do_sample=False,
            use_cache=True,
            streamer=streamer,
        )
        return streamer.result()

    return run
