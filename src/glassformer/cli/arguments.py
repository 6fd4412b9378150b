"""Command lines read into dataclasses, and their errors said in one line."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Self

import tyro


class UsageError(Exception):
    """A command line that cannot be understood; the message is one line."""


class Command:
    """A dataclass of options with a ``run`` method; the class ``FillMask`` is ``glassformer fill-mask``."""

    @classmethod
    def parse(cls, arguments: Sequence[str], default: Self | None = None) -> Self:
        """Read the options.

        Args:
            arguments: what follows the command's name.
            default: values of options that are not given.

        Raises:
            UsageError: an unknown option (with the nearest), a wrong value, or one that is missing.
        """
        program = f"glassformer {re.sub('(?<!^)(?=[A-Z])', '-', cls.__name__).lower()}"
        shown = io.StringIO()
        try:
            with redirect_stderr(shown):
                command = tyro.cli(cls, prog=program, args=list(arguments), default=default)
        except SystemExit as stop:
            if stop.code in (0, None):
                raise
            raise UsageError(f"{one_line(shown.getvalue())} (see {program} --help)") from None
        assert command is not None  # tyro's type allows for a default of None
        return command

    def run(self) -> int | None:
        """Do it. Returns the exit status; None is 0."""
        raise NotImplementedError


def one_line(box: str) -> str:
    """What an error box says: all but its first line (the title), its lines, and its pointers to the help."""
    lines = [re.sub(r"[│╰╯─]+|-{5,}", " ", line) for line in box.splitlines()[1:]]
    text = " ".join(" ".join(lines).split())
    text = re.sub(r" ?(For full helptext|Argument helptext).*", "", text)
    return re.sub(r" ?Perhaps you meant: (\S+).*", r"; did you mean \1?", text)
