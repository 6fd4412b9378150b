"""The ``.tiktoken`` format: byte-pair vocabularies as ranked tokens, and the merges they imply."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import itertools
from pathlib import Path

MAX_TOKEN_BYTES = 512
"""Maximum length of a token; published ones have up to 128 bytes. Recovering merges takes quadratic time."""


def find_gpt2_ranks() -> Path:
    """Return the path of ``gpt2.tiktoken`` in the installed package ``openai-whisper``, without importing it.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("whisper")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "assets" / "gpt2.tiktoken"
        if path.is_file():
            return path
    raise FileNotFoundError(
        "GPT-2's ranks were not found: install the package that contains them with "
        "'pip install --no-deps openai-whisper', or give the path of a file gpt2.tiktoken"
    )


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read the rank of each token from lines of ``<base64 of the token> <rank>``.

    Raises:
        ValueError: a malformed line or a token of more than 512 bytes (the message names the line), or
            missing ranks or single bytes.
    """
    ranks: dict[bytes, int] = {}
    lines = Path(path).read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token = base64.b64decode(encoded, validate=True)
            ranks[token] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(
                f"{path}, line {number}: expected '<base64> <rank>', found {line[:60]!r}"
            ) from None
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(
                f"{path}, line {number}: a token may have {MAX_TOKEN_BYTES} bytes, got {len(token):,}"
            )
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError(
            f"{path}: the ranks of its {len(ranks)} tokens are not 0 to {len(ranks) - 1}, each once"
        )
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ValueError(f"{path}: {len(missing)} single bytes have no rank, the first is {missing[0]:#04x}")
    return ranks


def merges_from_ranks(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Recover the merges of a byte-pair vocabulary, in the order of their ranks.

    The token of rank r was made by merging two earlier tokens: those that remain of its bytes after all
    merges of rank below r were applied, lowest rank first.

    Raises:
        ValueError: a token is not the merge of two earlier ones, so this is not a byte-pair vocabulary.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) < 2:
            continue
        parts = _apply_merges_below(rank, token, ranks)
        if len(parts) != 2:
            raise ValueError(f"token {token!r} of rank {rank} is not a merge of two tokens of lower rank")
        merges.append((parts[0], parts[1]))
    return merges


def _apply_merges_below(rank: int, token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Split a token into bytes and apply all merges of lower rank."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while True:
        candidates = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
        best = min(candidates, default=rank)
        if best >= rank:
            return parts
        i = candidates.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
