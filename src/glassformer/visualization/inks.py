"""Numbers in cells: one way to write them, and ink that stands out from the ground."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import to_rgb

DARK = "#1a1a1a"


def written(value: float) -> str:
    """A weight, share or probability in few letters: ``.25``, ``.031``, ``<.001``, ``1.00``, ``0``."""
    if value == 0:
        return "0"
    if value < 0.0005:
        return "<.001"
    return f"{value:.{2 if value >= 0.0995 else 3}f}".removeprefix("0")


def probability(value: float) -> str:
    """The same in a sentence: ``p = .25``, ``p < .001``."""
    said = written(value)
    return f"p < {said[1:]}" if said[0] == "<" else f"p = {said}"


def ink_on(ground: str | Sequence[float]) -> str:
    """White or nearly black, whichever has more contrast with a colour."""
    light = _luminance(ground)
    return "white" if 1.05 / (light + 0.05) > (light + 0.05) / (_luminance(DARK) + 0.05) else DARK


def _luminance(colour: str | Sequence[float]) -> float:
    """Relative luminance of a colour of sRGB, as WCAG 2 defines it."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour if isinstance(colour, str) else tuple(colour)[:3])  # type: ignore[arg-type]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
