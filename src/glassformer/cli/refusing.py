"""Options that contradict each other, and files that are not there: refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def refuse_beside(command: Any, option: str, others: Sequence[str]) -> None:
    """Refuse options that say nothing where another one is given.

    Args:
        command: whose fields they are.
        option: that was given.
        others: names of fields; one that is neither None nor False was given too.

    Raises:
        ValueError: names the two.
    """
    for other in others:
        value = getattr(command, other)
        if value is not None and value is not False:
            raise ValueError(f"{option} and --{other.replace('_', '-')} do not go together: leave one out")


def check_image(path: Path) -> None:
    """Make sure that a file is there, and begins like an image.

    Raises:
        OSError: it does not.
    """
    from PIL import Image

    with Image.open(path):
        pass
