"""Splits of a corpus and of grouped examples."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import SPLITS, Corpus, SilentProgress
from glassformer.data.splits import group_split, split_ends

TEXTS = [f"text number {i}, and some more words" for i in range(100)]


def split(corpus: Corpus) -> dict[str, list[str]]:
    """The texts of each split, one entry a document."""
    found: dict[str, list[str]] = defaultdict(list)
    for chunk in corpus.chunks():
        found[chunk.split] += [chunk.text] if chunk.is_first else []
        found[chunk.split][-1] += "" if chunk.is_first else chunk.text
    return found


def test_whole_documents_are_split_by_the_fractions() -> None:
    parts = split(Corpus(TEXTS))
    assert {name: len(texts) for name, texts in parts.items()} == {"train": 88, "validation": 6, "test": 6}
    assert sorted(sum(parts.values(), [])) == sorted(TEXTS)  # noqa: RUF017 (three short lists)


def test_the_split_depends_only_on_the_texts_and_the_seed(tmp_path: Path) -> None:
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
    ends = split_ends(fractions, count)
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    assert sum(sizes) == count
    assert min(sizes) >= 1
    assert all(abs(size - fraction * count) <= 4 for size, fraction in zip(sizes, fractions, strict=True))


def test_one_document_is_split_by_position() -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(1003))
    corpus = Corpus([text])
    assert corpus.by_position
    assert split(corpus) == {"train": [text[:902]], "validation": [text[902:952]], "test": [text[952:]]}
    assert split(Corpus([text], (0.9, 0.1, 0))) == {"train": [text[:902]], "validation": [text[902:]]}


def test_fewer_documents_than_splits_are_each_split_by_position() -> None:
    parts = split(Corpus(["a" * 100, "b" * 200], (0.5, 0.25, 0.25)))
    assert parts["train"] == ["a" * 50, "b" * 100]
    assert parts["test"] == ["a" * 25, "b" * 50]


def test_a_long_document_has_several_chunks_of_which_only_the_last_is_last() -> None:
    text = "some words " * 30_000
    seen = list(Corpus([text]).chunks())
    assert "".join(chunk.text for chunk in seen) == text
    assert max(len(chunk.text) for chunk in seen) < 2**17
    assert [chunk.is_first for chunk in seen if chunk.split == "train"][:2] == [True, False]
    assert [chunk.is_last for chunk in seen] == [False] * (len(seen) - 1) + [True]


def test_texts_of_one_split() -> None:
    corpus = Corpus(TEXTS)
    assert list(corpus.texts("validation")) == split(corpus)["validation"]
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'valid'"):
        corpus.texts("valid")


def test_the_digest_depends_on_the_texts_and_their_order() -> None:
    assert Corpus(["a", "b", "c"]).digest == Corpus(["a", "b", "c"], seed=3).digest
    assert len({Corpus(texts).digest for texts in (["a", "b", "c"], ["b", "a", "c"], ["ab", "c"])}) == 3


def test_empty_documents_are_not_counted() -> None:
    corpus = Corpus(["", *TEXTS, ""])
    assert corpus.num_documents == 100
    assert corpus.num_bytes == sum(map(len, TEXTS))


def test_an_empty_source_is_an_error(tmp_path: Path) -> None:
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
def test_invalid_fractions_are_errors(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fractions must be three numbers"):
        Corpus(TEXTS, fractions)


def test_a_lone_surrogate_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "\\ud800"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2 has a lone surrogate, '\\ud800'"):
        Corpus(tmp_path)


@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_a_source_that_changes_while_it_is_read_is_an_error(tmp_path: Path, change: str) -> None:
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
        list(corpus.chunks())


def test_progress_receives_the_number_of_bytes_read() -> None:
    updates = []

    class UpdateRecorder(SilentProgress):
        def update(self, task: str, done: int, total: int | None) -> None:
            updates.append((task, done, total))

    Corpus(["ab", "é", "c"], progress=UpdateRecorder())
    assert updates == [("reading", 2, None), ("reading", 4, None), ("reading", 5, None), ("reading", 5, 5)]


@given(
    groups=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60),
    seed=st.integers(0, 3),
    order=st.randoms(use_true_random=False),
)
def test_a_group_is_in_one_split_and_no_item_is_lost(groups, seed, order):
    items = list(enumerate(groups))
    fractions = (0.5, 0.25, 0.25) if len(set(groups)) >= 3 else (1.0, 0.0, 0.0)
    splits = group_split(items, lambda item: item[1], fractions, seed)
    where = {split: {group for _, group in part} for split, part in splits.items()}
    assert not where["train"] & where["validation"]
    assert not where["train"] & where["test"]
    assert not where["validation"] & where["test"]
    assert sorted(item for part in splits.values() for item in part) == items
    shuffled = random.Random(order.random()).sample(items, len(items))
    again = group_split(shuffled, lambda item: item[1], fractions, seed)
    assert {split: {group for _, group in part} for split, part in again.items()} == where


def test_group_split_follows_the_fractions_and_depends_on_the_seed():
    words = [f"word{number}" for number in range(1000)]
    splits = group_split(words, str, (0.8, 0.05, 0.15), 0)
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [
        799,
        50,
        151,
    ]  # one each, the others by the fractions
    assert group_split(words, str, (0.8, 0.05, 0.15), 1)["test"] != splits["test"]


def test_too_few_groups_are_an_error():
    with pytest.raises(ValueError, match="3 splits need at least 3 different examples, got 2"):
        group_split(["a", "b", "a"], str, (0.8, 0.1, 0.1))
    with pytest.raises(ValueError, match="fractions must be three numbers"):
        group_split(["a", "b", "a"], str, (0.8, 0.1, 0.2))
