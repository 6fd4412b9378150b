"""Contenders in processes of their own, so that libraries share no allocator and no threads.

A second library with a thread pool of its own slows PyTorch down in the same process, also while it does
nothing: on two cores of an Intel Xeon, decoding took 1.3 times as long after ``import ctranslate2``.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

Functions = Mapping[str, Callable[[], Any]]
"""Functions by name; what they return can be pickled."""


class OwnProcess:
    """Functions that run in a process of their own; as a context manager, it ends the process on exit.

    Args:
        build: makes the functions there; a function of a module.
        arguments: of ``build``.

    """

    def __init__(self, build: Callable[..., Functions], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_end = context.Pipe()
        self._arguments = arguments
        self._process = context.Process(target=_answer, args=(child_end, build, arguments), daemon=True)
        self._process.start()
        child_end.close()
        self._receive()  # until the functions are made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()

    def function(self, name: str) -> Callable[[], Any]:
        """Return a function that calls the one of that name."""
        return partial(self._call, name)

    def _call(self, name: str) -> Any:
        return self._receive(name)

    def _receive(self, request: str | None = None) -> Any:
        try:
            if request is not None:
                self._connection.send(request)
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise SystemExit(
                f"a process ended with {self._process.exitcode}; it was started for {self._arguments!r:.200}"
            ) from None


def _answer(connection: Connection, build: Callable[..., Functions], arguments: tuple[Any, ...]) -> None:
    functions = build(*arguments)
    connection.send(None)
    with suppress(EOFError, BrokenPipeError):  # the connection is closed at the end
        while True:
            connection.send(functions[connection.recv()]())
