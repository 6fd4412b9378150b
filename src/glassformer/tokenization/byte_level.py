"""How byte-level BPE spells each byte as one visible character (GPT-2's table)."""

from __future__ import annotations


def _spelling() -> dict[int, str]:
    """The printable characters of Latin-1 stand for themselves; the other 68 bytes follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


_CHARACTER_OF_BYTE = _spelling()
_BYTE_OF_CHARACTER = {character: bytes([byte]) for byte, character in _CHARACTER_OF_BYTE.items()}


def spell(token: bytes) -> str:
    """Bytes as the vocabulary writes them."""
    return "".join(_CHARACTER_OF_BYTE[byte] for byte in token)


def unspell(token: str) -> bytes:
    """What the vocabulary's spelling stands for; a character that the table lacks stands for itself."""
    return b"".join(_BYTE_OF_CHARACTER.get(character) or character.encode("utf-8") for character in token)
