"""Text and JSON Lines files, read strictly as UTF-8."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.data.text_files import READ_BYTES, read_jsonl, read_text


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    return path


def test_a_character_across_two_chunks_is_decoded(tmp_path: Path) -> None:
    text = "a" * (READ_BYTES - 1) + "é" + "b" * READ_BYTES
    chunks = list(read_text(write(tmp_path, text.encode())))
    assert len(chunks) == 3
    assert "".join(chunks) == text


def test_newlines_are_kept_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    assert "".join(read_text(write(tmp_path, b"\xef\xbb\xbfa\r\nb\n"))) == "a\r\nb\n"


@pytest.mark.parametrize("before", [0, 7, READ_BYTES - 1, READ_BYTES, READ_BYTES + 3])
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"\xe9t\xe9", "is not UTF-8 text: byte 0xe9"),
        (b"\x00\x01", "is binary, not text: it has a NUL byte"),
        (b"\xe2\x82", "is not UTF-8 text: byte 0xe2"),  # cut off at the end of the file
    ],
)
def test_the_error_gives_the_offset_of_the_invalid_byte(
    tmp_path: Path, before: int, bad: bytes, problem: str
) -> None:
    path = write(tmp_path, b"a" * before + bad)
    with pytest.raises(ValueError, match=rf"{path} {problem} at offset {before:,}$"):
        list(read_text(path))


def test_utf16_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"byte 0xff at offset 0; it looks like UTF-16"):
        list(read_text(write(tmp_path, b"\xff\xfe" + "hello".encode("utf-16-le"))))


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, b'\xef\xbb\xbf{"text": "a\\nb"}\n\n{"id": 1, "text": "\xc3\xa9"}')
    assert list(read_jsonl(path)) == [(1, {"text": "a\nb"}), (3, {"id": 1, "text": "é"})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "a"', "line 2 is not valid JSON"),
        (b'{"text": "\xe9"}', "line 2 is not UTF-8: byte 0xe9 at offset 10"),
    ],
)
def test_a_line_that_is_not_json_is_an_error(tmp_path: Path, line: bytes, problem: str) -> None:
    path = write(tmp_path, b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(ValueError, match=rf"{path}, {problem}"):
        list(read_jsonl(path))


def test_a_binary_file_that_is_not_utf_8_either_is_reported_as_binary(tmp_path):
    (tmp_path / "program").write_bytes(b"\x7fELF\x02\x01\x01\x00\x00\xd0\xff")
    with pytest.raises(ValueError, match="program is binary, not text: it has a NUL byte at offset 7"):
        list(read_text(tmp_path / "program"))
