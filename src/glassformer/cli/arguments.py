"""Command-line parsing: options as dataclass fields, one-line errors, renamed options, and checks."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Self

import tyro

RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "ablate": {"--suites": "--tasks"},
    "analyze": {"--keep-parts": "--keep-partial-results"},
    "train": {
        "--task.corrupt": "--task.corruption-rate",
        "--task.mean-span": "--task.mean-span-length",
        "--evaluation.generated": "--evaluation.num-generated",
    },
}
"""For each command, the new name of each old option."""
RENAMED_VALUES: dict[str, dict[str, dict[str, str]]] = {
    "train": {"--task.kind": {"language-modelling": "language-modeling"}},
}
"""For each command and (new) option, the new name of each old value."""


class UsageError(Exception):
    """An invalid command line; the message is one line."""


class Command:
    """Base class of a subcommand: a dataclass of options with a ``run`` method.

    The name of the subcommand is that of the class: ``FillMask`` is ``glassformer fill-mask``.
    """

    @classmethod
    def parse(cls, arguments: Sequence[str], default: Self | None = None) -> Self:
        """Parse the options.

        Args:
            arguments: the command line after the name of the subcommand.
            default: values of the options that are not given.

        Raises:
            UsageError: an unknown option (with the most similar one), an invalid value, or a missing option.
        """
        name = re.sub("(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        program = f"glassformer {name}"
        arguments = replace_renamed(name, arguments)
        errors = io.StringIO()
        try:
            with redirect_stderr(errors):
                command = tyro.cli(cls, prog=program, args=arguments, default=default)
        except SystemExit as stop:
            if stop.code in (0, None):
                raise
            raise UsageError(f"{one_line(errors.getvalue())} (see {program} --help)") from None
        assert command is not None  # tyro's type allows for a default of None
        return command

    def run(self) -> int | None:
        """Run the command. Returns the exit status; None is 0."""
        raise NotImplementedError


def replace_renamed(command: str, arguments: Sequence[str]) -> list[str]:
    """Replace old options and values by their new names, with a warning on stderr for each.

    ``--old value``, ``--old=value``, ``--no-old`` and underscores instead of hyphens are recognized.

    Args:
        command: name of the subcommand.
        arguments: the command line after it.
    """
    options, values = RENAMED_OPTIONS.get(command, {}), RENAMED_VALUES.get(command, {})
    options = {**options, **{f"--no-{old[2:]}": f"--no-{new[2:]}" for old, new in options.items()}}

    def new_name(old: str, names: dict[str, str]) -> str:
        if old in names:
            print(f"glassformer {command}: {old} is now called {names[old]}", file=sys.stderr)
        return names.get(old, old)

    result: list[str] = []
    option = ""  # the one whose value comes next
    for argument in arguments:
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            option = new_name(option.replace("_", "-"), options)
            result.append(f"{option}={new_name(value, values.get(option, {}))}" if equals else option)
        else:
            result.append(new_name(argument, values.get(option, {})))
            option = ""
    return result


def one_line(error_box: str) -> str:
    """The message of tyro's error box on one line, without its title, its frame and its hints to the help."""
    lines = [re.sub(r"[│╰╯─]+|-{5,}", " ", line) for line in error_box.splitlines()[1:]]
    text = " ".join(" ".join(lines).split())
    text = re.sub(r" ?(For full helptext|Argument helptext).*", "", text)
    return re.sub(r" ?Perhaps you meant: (\S+).*", r"; did you mean \1?", text)


def check_exclusive(command: Any, option: str, others: Sequence[str]) -> None:
    """Check that no option is given together with one that excludes it.

    Args:
        command: the dataclass of options.
        option: the option that is given.
        others: names of fields that it excludes; a value other than None or False counts as given.

    Raises:
        ValueError: names the two options.
    """
    for other in others:
        value = getattr(command, other)
        if value is not None and value is not False:
            raise ValueError(
                f"{option} and --{other.replace('_', '-')} cannot be used together: leave one out"
            )


def check_image(path: Path) -> None:
    """Check that a file exists and has the header of an image.

    Raises:
        OSError: it does not.
    """
    from PIL import Image

    with Image.open(path):
        pass
