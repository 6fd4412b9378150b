"""Tokens for the eye."""

from __future__ import annotations

import pytest

from glassformer.tokenization import visible


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (b"the", "the"),
        (b" the", "·the"),
        (b"\n", "↵"),
        (b"\t\r\n", "⇥␍↵"),
        (b"", "∅"),
        (b"\x00", r"\x00"),
        ("é".encode(), "é"),
        (b"\xe2\x80", r"\xe2\x80"),
        (b" \xf0\x9f", r"·\xf0\x9f"),
        ("\u0301".encode(), "◌\u0301"),
        ("\u200d".encode(), r"\u200d"),
        ("\xa0".encode(), r"\xa0"),
        ("·dot".encode(), r"\xb7dot"),
        (" · ".encode(), r"·\xb7·"),
        ("col·lecció".encode(), "col·lecció"),
    ],
)
def test_labels(token: bytes, label: str) -> None:
    assert visible(token) == label
