"""Which text goes to which split."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import SPLITS, Corpus, SilentProgress
from glassformer.data.splits import ends_of_splits

TEXTS = [f"text number {i}, and some more words" for i in range(100)]


def split(corpus: Corpus) -> dict[str, list[str]]:
    """The texts of each split, one entry a document."""
    found: dict[str, list[str]] = defaultdict(list)
    for piece in corpus.pieces():
        found[piece.split] += [piece.text] if piece.begins else []
        found[piece.split][-1] += "" if piece.begins else piece.text
    return found


def test_documents_are_dealt_out_whole_by_the_fractions() -> None:
    parts = split(Corpus(TEXTS))
    assert {name: len(texts) for name, texts in parts.items()} == {"train": 88, "validation": 6, "test": 6}
    assert sorted(sum(parts.values(), [])) == sorted(TEXTS)  # noqa: RUF017 (three short lists)


def test_the_split_depends_on_the_texts_and_the_seed_only(tmp_path: Path) -> None:
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i}.txt").write_text(text)
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    expected = {name: set(texts) for name, texts in split(Corpus(TEXTS)).items()}
    for source in (shuffled, tmp_path, [*TEXTS, ""]):
        assert {name: set(texts) for name, texts in split(Corpus(source)).items()} == expected
    assert {name: set(texts) for name, texts in split(Corpus(TEXTS, seed=1)).items()} != expected


def test_equal_documents_stay_together() -> None:
    parts = split(Corpus(TEXTS * 3))
    sets = [set(texts) for texts in parts.values()]
    assert sum(map(len, sets)) == len(TEXTS)


def test_documents_that_are_all_equal_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"no document is left for train and validation: too many of the 5"):
        Corpus(["same"] * 5)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_every_split_with_a_fraction_gets_a_document(count: int) -> None:
    assert set(split(Corpus(TEXTS[:count]))) == set(SPLITS)
    assert set(split(Corpus(TEXTS[:count], (0.9, 0.1, 0)))) == {"train", "validation"}
    assert set(split(Corpus(TEXTS[:count], (1, 0, 0)))) == {"train"}


@given(st.lists(st.integers(1, 100), min_size=3, max_size=3), st.integers(3, 1000))
def test_ranks_follow_the_fractions(weights: list[int], count: int) -> None:
    fractions = [weight / sum(weights) for weight in weights]
    ends = ends_of_splits(fractions, count)
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    assert sum(sizes) == count
    assert min(sizes) >= 1
    assert all(abs(size - fraction * count) <= 4 for size, fraction in zip(sizes, fractions, strict=True))


def test_one_document_is_cut_by_position() -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(1003))
    corpus = Corpus([text])
    assert corpus.by_position
    assert split(corpus) == {"train": [text[:902]], "validation": [text[902:952]], "test": [text[952:]]}
    assert split(Corpus([text], (0.9, 0.1, 0))) == {"train": [text[:902]], "validation": [text[902:]]}


def test_fewer_documents_than_splits_are_each_cut_by_position() -> None:
    parts = split(Corpus(["a" * 100, "b" * 200], (0.5, 0.25, 0.25)))
    assert parts["train"] == ["a" * 50, "b" * 100]
    assert parts["test"] == ["a" * 25, "b" * 50]


def test_a_long_document_comes_in_pieces_and_only_its_last_one_ends_it() -> None:
    text = "some words " * 30_000
    seen = list(Corpus([text]).pieces())
    assert "".join(piece.text for piece in seen) == text
    assert max(len(piece.text) for piece in seen) < 2**17
    assert [piece.begins for piece in seen if piece.split == "train"][:2] == [True, False]
    assert [piece.ends for piece in seen] == [False] * (len(seen) - 1) + [True]


def test_the_text_of_one_split() -> None:
    corpus = Corpus(TEXTS)
    assert list(corpus.texts("validation")) == split(corpus)["validation"]
    with pytest.raises(ValueError, match="no split 'valid'; the splits are train, validation, test"):
        corpus.texts("valid")


def test_the_digest_is_of_the_texts_in_their_order() -> None:
    assert Corpus(["a", "b", "c"]).digest == Corpus(["a", "b", "c"], seed=3).digest
    assert len({Corpus(texts).digest for texts in (["a", "b", "c"], ["b", "a", "c"], ["ab", "c"])}) == 3


def test_empty_documents_count_for_nothing() -> None:
    corpus = Corpus(["", *TEXTS, ""])
    assert corpus.num_documents == 100
    assert corpus.num_bytes == sum(map(len, TEXTS))


def test_an_empty_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=rf"{tmp_path / 'empty.txt'} is empty"):
        Corpus(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match=rf"{tmp_path} is empty"):
        Corpus(tmp_path)
    with pytest.raises(ValueError, match="the list of texts is empty"):
        Corpus([])


@pytest.mark.parametrize(
    "fractions", [(0.9, 0.1), (0.9, 0.2, 0.1), (1.1, -0.1, 0), (0, 0.5, 0.5), (float("nan"), 0, 0)]
)
def test_fractions_must_be_shares(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected three shares"):
        Corpus(TEXTS, fractions)


def test_a_lone_surrogate_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2 has a lone surrogate, '\\ud800'"):
        Corpus(tmp_path)


@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_a_source_that_changes_while_it_is_read_is_noticed(tmp_path: Path, change: str) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.txt").write_text(f"the text of {name}")
    corpus = Corpus(tmp_path)
    match change:
        case "more":
            (tmp_path / "e.txt").write_text("new")
        case "fewer":
            (tmp_path / "d.txt").unlink()
        case "other":
            (tmp_path / "b.txt").write_text("the text of x")
    with pytest.raises(ValueError, match="changed while it was read"):
        list(corpus.pieces())


def test_progress_hears_how_much_was_read() -> None:
    heard = []

    class Ear(SilentProgress):
        def update(self, task: str, done: int, total: int | None) -> None:
            heard.append((task, done, total))

    Corpus(["ab", "é", "c"], progress=Ear())
    assert heard == [("reading", 2, None), ("reading", 4, None), ("reading", 5, None), ("reading", 5, 5)]
