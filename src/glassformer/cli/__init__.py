"""The ``glassformer`` command: each subcommand is a small class in its own file, loaded when it is called."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from glassformer.choices import suggestion

COMMANDS = {
    "demo": ("Demo", "train a small GPT on real text in a few minutes and open it up in a report"),
    "train": ("Train", "train a model for any of six tasks, with checkpoints that resume to the bit"),
    "generate": ("Generate", "let a model continue a text"),
    "fill-mask": ("FillMask", "let a model guess what [MASK] hides in a text"),
    "translate": ("Translate", "let an encoder-decoder write a target for a source, by beam search"),
    "classify": ("Classify", "say which class a text or an image belongs to"),
    "visualize": ("Visualize", "draw what each attention head looks at, in a text or an image"),
    "analyze": ("Analyze", "measure what every attention head looks at, beside controls, and name them"),
    "ablate": ("Ablate", "take heads away and measure which capabilities of a language model that hurts"),
    "prune": ("Prune", "take heads out of a model for good and save the smaller one"),
    "explore": ("Explore", "write every head of a model into one page that opens offline, and open it"),
    "serve": ("Serve", "try a model out in the browser: type, step through tokens, switch heads off"),
    "tokenize": ("Tokenize", "turn text into token files, or show how a text is cut into tokens"),
    "describe": ("Describe", "what a model costs: parameters, FLOPs and memory of each part, with formulas"),
}
"""Each command's class, in the file of the command's name (with _ for -), and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it worked, 2 for what the user can mend, 130 after Ctrl-C.

    Args:
        arguments: as typed; by default those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from glassformer import __version__

        print(f"glassformer {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        return _refuse(
            "glassformer", f"there is no command {name!r}{suggestion(name, COMMANDS)} (see --help)"
        )
    return _run(name, rest)


def overview() -> str:
    """What ``glassformer --help`` prints."""
    lines = [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: glassformer COMMAND [options]",
            "",
            "Transformers you can see through.",
            "",
            *lines,
            "",
            "glassformer COMMAND --help shows a command's options; glassformer --version the version.",
        ]
    )


def _run(name: str, arguments: Sequence[str]) -> int:
    from glassformer.cli.arguments import UsageError

    command: Any = None
    try:
        command = getattr(import_module(f"glassformer.cli.{name.replace('-', '_')}"), COMMANDS[name][0])
        status: int = command.parse(arguments).run() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (UsageError, ValueError, TypeError, ArithmeticError, OSError, ImportError) as error:
        return _refuse(f"glassformer {name}", _as_options(str(error), command))


def _as_options(message: str, command: Any) -> str:
    """What a message says of the library's arguments, said of the command's options: ``give --kind``."""
    names = {field.name for field in fields(command)} if command else set()
    return re.sub(
        r"\bgive (\w+)=", lambda m: f"give --{m[1].replace('_', '-')} " if m[1] in names else m[0], message
    )


def _refuse(program: str, message: str) -> int:
    """One line on the error stream."""
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return 2
