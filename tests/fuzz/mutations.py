"""Random damage to files: of bytes, of lines of text, of JSON values, and inside of containers."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

INTEGERS = (0, 1, 2, 255, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Integers at which a size or an index overflows."""
VALUES: tuple[Any, ...] = (
    *(sign * number for number in INTEGERS for sign in (1, -1)),
    *(10**30, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"), True, False, None),
    *("", " ", "0", "-1", "nan", "../../etc/passwd", "/dev/zero", "\x1b[31m", "\x00", "\u2028", "\ud800"),
    *("é" * 300, "x" * 10_000, [], {}, [[]], [None], {"": None}, [0] * 1000, ["a", "a"], {"a": {"a": 1}}),
)
"""Values that a reader of JSON does not expect in a place."""
LINES = (
    b"",
    b"\n",
    b"\r",
    b"\r\n",
    b"\t",
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x0b",
    b"\x1c",
)
"""Ends of lines, and bytes that are not text."""
DEPTH = 100_000
"""Nesting far beyond the limit of a recursive parser."""


def damage(content: bytes, random: Random) -> bytes:
    """Return a damaged copy of the content of a file."""
    kinds: list[Callable[[bytes, Random], bytes]] = [damage_bytes]
    if is_json(content):
        kinds += [damage_lines] + [damage_json] * 6
    elif content.startswith(b"PK"):
        kinds += [damage_zip] * 3
    elif content.startswith(b"\x78\x01"):
        kinds += [damage_zlib] * 3
    elif is_json(content[8 : 8 + int.from_bytes(content[:8], "little")]):
        kinds += [damage_safetensors] * 3
    elif b"\x00" not in content:
        kinds += [damage_lines]
    return random.choice(kinds)(content, random)


def is_json(content: bytes) -> bool:
    """Whether bytes are a JSON document."""
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def damage_zip(content: bytes, random: Random) -> bytes:
    """Damage a member of an archive and write the archive anew, so that its checksums are right."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        names = old.namelist()
        damaged = random.choice(names)
        for name in names:
            member = old.read(name)
            new.writestr(old.getinfo(name), damage_bytes(member, random) if name == damaged else member)
    return result.getvalue()


def damage_zlib(content: bytes, random: Random) -> bytes:
    """Damage what is compressed."""
    return zlib.compress(damage(zlib.decompress(content), random), 1)


def damage_safetensors(content: bytes, random: Random) -> bytes:
    """Damage the JSON header, with its right length before it."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = damage_json(content[8:end], random)
    return struct.pack("<Q", len(header)) + header + content[end:]


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Flip bits, overwrite integers, and remove, repeat, insert or move bytes, one to four times."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        # Headers are short beside tensors, so half of all places are near the start.
        start = (
            random.randrange(len(data) + 1)
            if random.random() < 0.5
            else random.randrange(min(len(data), 300) + 1)
        )
        end = min(len(data), start + random.choice((1, 2, 4, 8, 100, 10_000)))
        number = struct.pack("<Q", random.choice(INTEGERS))
        match random.choice(("flip", "integer", "byte", "remove", "repeat", "insert", "move", "truncate")):
            case "flip" if start < len(data):
                data[start] ^= 1 << random.randrange(8)
            case "integer":
                size = random.choice((2, 4, 8))
                data[start : start + size] = number[:size]
            case "byte" if start < len(data):
                data[start] = random.choice((0, 0x7F, 0x80, 0xFF))
            case "remove":
                del data[start:end]
            case "repeat":
                data[start:start] = data[start:end] * random.choice((1, 2, 50))
            case "insert":
                data[start:start] = random.randbytes(random.choice((1, 8, 1000)))
            case "move":
                part = data[start:end]
                del data[start:end]
                to = random.randrange(len(data) + 1)
                data[to:to] = part
            case "truncate":
                del data[start:]
    return bytes(data)


def damage_lines(content: bytes, random: Random) -> bytes:
    """Remove, repeat, swap, lengthen or split lines, one to three times."""
    lines = content.split(b"\n")
    for _ in range(random.randint(1, 3)):
        i, j = random.randrange(len(lines)), random.randrange(len(lines))
        match random.choice(("remove", "repeat", "swap", "lengthen", "split")):
            case "remove" if len(lines) > 1:
                del lines[i]
            case "repeat":
                lines[i:i] = [lines[i]] * random.choice((1, 2, 1000))
            case "swap":
                lines[i], lines[j] = lines[j], lines[i]
            case "lengthen":
                lines[i] += random.choice((b"x", b"[", b" ", b'"', b"\xf0\x9f\x98\x80")) * random.choice(
                    (1, 1000, DEPTH)
                )
            case "split":
                place = random.randrange(len(lines[i]) + 1)
                lines[i] = lines[i][:place] + random.choice(LINES) + lines[i][place:]
    return b"\n".join(lines)


def damage_json(content: bytes, random: Random) -> bytes:
    """Replace, remove, rename, repeat or nest values of a JSON document, one to three times."""
    document = json.loads(content)
    if random.random() < 0.02:
        return b"[" * DEPTH + content + b"]" * DEPTH
    for _ in range(random.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return json.dumps(random.choice(VALUES)).encode()
        parent, key = random.choice(places)
        match random.choice(("replace", "replace", "replace", "remove", "rename", "repeat", "other")):
            case "replace":
                parent[key] = deepcopy(random.choice(VALUES))  # later damage may be inside of it
            case "remove":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[random.choice((f"{key}_", str(key).upper(), "", str(2**31)))] = parent.pop(key)
            case "repeat" if isinstance(parent, list):
                parent[key:key] = [parent[key]] * random.choice((1, 2, 30))
            case "other":
                other, name = random.choice(places)
                parent[key] = json.loads(json.dumps(other[name])) if _has(other, name) else None
    return json.dumps(document).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key or index) of a JSON document; of a long list only some."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        container = pending.pop()
        if not isinstance(container, dict | list):
            continue
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        for key in [*keys[:40], *keys[40:][-3:]]:
            found.append((container, key))
            pending.append(container[key])
    return found


def _has(container: Any, key: Any) -> bool:
    return key in container if isinstance(container, dict) else key < len(container)
