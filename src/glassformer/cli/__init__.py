"""The ``glassformer`` command. Each subcommand is a dataclass in its own file, imported when it is run."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import fields
from importlib import import_module
from typing import Any

from glassformer.choices import suggestion
from glassformer.cli.errors import USER_ERROR, is_panic, print_error, print_line
from glassformer.cli.signals import exit_on_signals

COMMANDS = {
    "demo": ("Demo", "train a small GPT on real text in a few minutes and write a report about its heads"),
    "train": ("Train", "train a model for one of six tasks, with checkpoints that resume exactly"),
    "generate": ("Generate", "generate a continuation of a text"),
    "fill-mask": ("FillMask", "predict the [MASK] tokens of a text"),
    "translate": ("Translate", "generate a target for a source with an encoder-decoder, by beam search"),
    "classify": ("Classify", "classify a text or an image"),
    "visualize": ("Visualize", "draw the attention of each head for a text or an image"),
    "analyze": ("Analyze", "measure the attention patterns of every head, against baselines"),
    "ablate": ("Ablate", "ablate heads and measure the effect on a language model's behaviors"),
    "prune": ("Prune", "remove heads from a model and save the smaller model"),
    "explore": ("Explore", "write an interactive HTML page with the attention of every head"),
    "serve": ("Serve", "serve an interactive page: generate token by token, ablate heads"),
    "study": ("Study", "rerun an experiment with several seeds and judge the claims about it"),
    "tokenize": ("Tokenize", "tokenize text into token files, or show the tokens of a text"),
    "describe": ("Describe", "show parameters, FLOPs and memory of each part of a model, with formulas"),
}
"""Class and summary of each command; its file has the command's name, with _ for -."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line; by default that of the process.

    Returns:
        The exit status: 0 for success, 2 for a wrong command line or input, 1 for an internal error, and 130
        after Ctrl-C.
    """
    if sys.stdout is None:  # it was closed before the start, as for a daemon
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            return main(arguments)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name, *rest = arguments or ["help"]
    if name in ("-V", "--version"):
        from glassformer import __version__

        return _print(f"glassformer {__version__}")
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        return _print(overview())
    if name not in COMMANDS:
        message = f"unknown command {name!r}{suggestion(name, [*COMMANDS, 'help'])} (see glassformer help)"
        print_line("glassformer", message)
        return USER_ERROR
    with exit_on_signals():
        return _run(name, rest)


def overview() -> str:
    """Text of ``glassformer --help``."""
    lines = [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: glassformer COMMAND [arguments]",
            "",
            "Transformers you can see through.",
            "",
            *lines,
            "",
            "glassformer help COMMAND shows the arguments of a command, glassformer --version the version.",
        ]
    )


def _print(text: str) -> int:
    """Print a text, and return the exit status."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _discard_output()
    except OSError as error:  # such as a full disk
        _discard_output()
        return print_error("glassformer", error)
    return 0


def _discard_output() -> None:
    """Send the rest of the output nowhere: Python would fail to write it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(name: str, arguments: Sequence[str]) -> int:
    program = f"glassformer {name}"
    command: Any = None
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print_line(program, str(message))
            command = getattr(import_module(f"glassformer.cli.{name.replace('-', '_')}"), COMMANDS[name][0])
            status: int = command.parse(arguments).run() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # stdout was closed, for example by `head`
        _discard_output()
        return 0
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise  # SystemExit, after --help
        return print_error(program, error, _with_option_names(str(error), command))


def _with_option_names(message: str, command: Any) -> str:
    """Replace ``give kind=`` in a message of the library by ``give --kind`` if that is an option."""
    names = {field.name for field in fields(command)} if command else set()
    return re.sub(
        r"\bgive (\w+)=", lambda m: f"give --{m[1].replace('_', '-')} " if m[1] in names else m[0], message
    )
