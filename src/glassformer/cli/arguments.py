"""Command-line parsing: options as dataclass fields, one-line errors, and renamed options."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from glassformer.choices import suggestion

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


METAVARS = {str: "TEXT", Path: "FILE", int: "INT", float: "FLOAT"}
"""Placeholders of values in the help, by type; an option with a better one gives it to ``option``."""


def option(metavar: str | None = None, *aliases: str, default_hint: str | None = "") -> Any:
    """Annotation of an option.

    Args:
        metavar: placeholder of its value in the help.
        aliases: further names, such as ``"-o"``.
        default_hint: what follows its description: by default nothing, for descriptions that say what the
            default is; None is ``(default: VALUE)``.
    """
    return tyro.conf.arg(metavar=metavar, aliases=aliases or None, help_behavior_hint=default_hint)


def argument(metavar: str, help: str | None = None) -> Any:
    """Annotation of a positional argument; ``metavar`` and ``help`` stand in the help."""
    return tyro.conf.arg(metavar=metavar, help=help, help_behavior_hint="")


Flag = Annotated[bool, option()]
"""``--name``, off by default."""
Switch = Annotated[tyro.conf.DisallowNone[bool | None], option()]
"""``--name`` or ``--no-name``; None if neither is given."""
WeightsOption = Annotated[
    Literal["float32", "bfloat16", "int8"] | None,
    tyro.conf.arg(
        help="Run on the CPU with packed weights: float32, or rounded to bfloat16 or int8, in about half or "
        "a quarter of the memory. Default: the weights as they are stored, on the best device.",
        help_behavior_hint="",
    ),
]
"""The format of the weights of a command that generates text."""
ModelArgument = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="MODEL",
        help="A model folder, a run folder (its best checkpoint), a .gguf file, or a name on the hub.",
    ),
]
"""The model of a command that works with models of the llama architecture too."""
ModelFolderArgument = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="MODEL",
        help="A model folder, a run folder (its best checkpoint), or a name on the hub.",
    ),
]
"""The model of a command that no .gguf file can be used with."""


class UsageError(ValueError):
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
                command = tyro.cli(cls, prog=program, args=arguments, default=default, registry=REGISTRY)
        except SystemExit as stop:
            if stop.code != 2:  # tyro's own is 2; others are 0 after --help, and those of signals
                raise
            raise UsageError(f"{one_line(errors.getvalue())} (see {program} --help)") from None
        assert command is not None  # tyro's type allows for a default of None
        return command

    def run(self) -> int | None:
        """Run the command. Returns the exit status; None is 0."""
        raise NotImplementedError


REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _placeholders(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Values of ``METAVARS`` types, optional or not; a number that is optional may be given as None."""
    alternatives = get_args(info.type)
    optional = len(alternatives) == 2 and NoneType in alternatives
    types = [choice for choice in alternatives if choice is not NoneType] if optional else [info.type]
    if optional and get_origin(types[0]) is Literal:
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"{{{','.join(get_args(types[0]))}}}",
            choices=get_args(types[0]),
            instance_from_str=lambda words: words[0],
            is_instance=lambda value: value is None or value in get_args(types[0]),
            str_from_instance=lambda value: [str(value)],
        )
    if types[0] not in METAVARS:
        return None
    number = optional and types[0] in (int, float)
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=METAVARS[types[0]],
        instance_from_str=lambda words: (
            None if number and words[0] == "None" else _convert(words[0], types[0])
        ),
        is_instance=lambda value: isinstance(value, types[0]) or (optional and value is None),
        str_from_instance=lambda value: [str(value)],
    )


def _convert(word: str, kind: Any) -> Any:
    """Convert a word of the command line to a type.

    Raises:
        ValueError: it is not a number of that type, or an integer that PyTorch does not take.
    """
    try:
        value = kind(word)
    except ValueError:
        raise ValueError(f"must be {'an integer' if kind is int else 'a number'}, got {word!r:.40}") from None
    if kind is int and abs(value) >= 2**63:
        raise ValueError(f"must be below 2**63 in absolute value, got {word:.40}")
    return value


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
    text = re.sub(r" ?Perhaps you meant: (\S+).*", r"; did you mean \1?", text)
    if missing := re.fullmatch(r"Missing from [^:]*: (\S+) .*\(required\)", text):
        return f"{missing[1]} is missing"
    if alone := re.match(r"Missing value for argument '([^/']+)", text):
        if not alone[1].startswith("-"):
            return f"an argument is missing: {alone[1]}"
        return f"{alone[1]} needs a value; one that begins with - is written {alone[1]}=-..."
    text = re.sub("^Error parsing (--[^ ]+): ", r"\1 ", text)
    if choice := re.match(r"invalid choice '(.*)' for argument '(.*?)'. Expected one of \((.*)\)", text):
        known = re.findall("'(.*?)'", choice[3])
        near = suggestion(choice[1], known)
        return f"{choice[2]} cannot be {choice[1]!r}{near} (there are: {', '.join(known)})"
    if re.fullmatch(r"Unrecognized options: [^-].*", text):
        return f"{text}; a text of several words needs quotation marks"
    return text
