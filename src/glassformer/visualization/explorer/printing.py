"""Bytes as text that an HTML page carries as it is: 13 bits in two of 91 printable characters.

    n bytes take about 1.231 n characters; base64 takes 1.333 n

The 91 are those of ASCII's 95 printable characters that neither HTML, nor an attribute in double quotes, nor
JSON has to escape. 91 x 91 = 8281 pairs are enough for the 8192 values of 13 bits. After the last bit there
is a one, and zeros fill up the last pair. (Henke 2006, basE91, packs 13 or 14 bits a pair; with 13 always,
decoding is one short loop.)
"""

from __future__ import annotations

import numpy as np

ALPHABET = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"&<\\')
BITS = 13

_WEIGHTS = (1 << np.arange(BITS - 1, -1, -1)).astype(np.uint16)
_CODES = np.frombuffer(ALPHABET.encode("ascii"), dtype=np.uint8)
_PLACES = np.zeros(128, dtype=np.uint16)
_PLACES[_CODES] = np.arange(len(_CODES))


def printed(data: bytes) -> str:
    """Bytes as text: every 13 bits, the first one the highest, are the pair ``(value // 91, value % 91)``."""
    bits = np.append(np.unpackbits(np.frombuffer(data, dtype=np.uint8)), np.uint8(1))
    values = np.pad(bits, (0, -len(bits) % BITS)).reshape(-1, BITS) @ _WEIGHTS
    pairs = np.stack(np.divmod(values, len(ALPHABET)), axis=-1)
    return str(_CODES[pairs].tobytes(), "ascii")


def unprinted(text: str) -> bytes:
    """The bytes again."""
    places = _PLACES[np.frombuffer(text.encode("ascii"), dtype=np.uint8)].reshape(-1, 2)
    values = places[:, 0] * len(ALPHABET) + places[:, 1]
    bits = (values[:, None] // _WEIGHTS % 2).astype(np.uint8)
    return np.packbits(bits).tobytes().rstrip(b"\0")[:-1]  # the one after the last bit, and what follows
