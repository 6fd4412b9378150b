"""Tab-separated files, line by line, strictly UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from glassformer.data.reading import read_text


def read_rows(path: Path, columns: str) -> Iterator[tuple[int, str, str]]:
    """Number and two columns of each line that is not blank.

    Args:
        path: the file.
        columns: what the two are, for messages: ``"source<TAB>target"``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that has not two columns with something in them, or is no UTF-8.

    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    for number, line in enumerate("".join(read_text(path)).split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        if len(cells) != 2:
            raise ValueError(
                f"{path}, line {number} has {len(cells)} column{'s' if len(cells) != 1 else ''}, not two: "
                f"{columns}"
            )
        left, right = (cell.strip() for cell in cells)
        if not left or not right:
            raise ValueError(f"{path}, line {number}: an empty {'first' if not left else 'second'} column")
        yield number, left, right
