"""Heads built by hand get their names, heads at random get none, and a killed analysis goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections import Counter

import numpy as np
import pytest
import torch

from glassformer.analysis import HeadReport, HeadStudy, Settings, analyze_heads
from glassformer.analysis import head_study as module
from glassformer.analysis.head_settings import GROUPS
from glassformer.analysis.head_study import untrained
from glassformer.analysis.repeated import repeated_sequences
from glassformer.analysis.text_items import TextReader
from glassformer.attention import choose_kind
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import CharacterTokenizer

TOKENS = ("tokens", "offsets", "copying")
QUICK = Settings(patterns=TOKENS, num_repeated=80, replicates=200)


@pytest.fixture(scope="module")
def report(known_gpt, write_sentences):
    return analyze_heads(known_gpt, write_sentences(120), QUICK)


def names(report):
    return {(row["layer"], row["head"]): row["name"] for row in report.names if row["main"]}


def value(report, layer, head, pattern, measure):
    (row,) = (
        row
        for row in report.rows
        if (row["layer"], row["head"], row["pattern"], row["measure"]) == (layer, head, pattern, measure)
    )
    return row


def test_heads_of_known_kind_are_named_rightly(report):
    assert names(report) == {
        (0, 0): "previous",
        (0, 1): "offset-3",
        (0, 2): "delimiter",
        (1, 0): "induction",
        (1, 1): "current",
        (1, 2): "first",
    }
    assert value(report, 0, 0, "previous", "rate")["score"] == pytest.approx(1, abs=1e-6)
    assert value(report, 0, 0, "previous", "mass")["score"] == pytest.approx(1, abs=1e-3)
    assert value(report, 1, 0, "induction", "mass")["score"] > 0.95


def test_a_head_that_looks_everywhere_alike_has_no_name_and_entropy_one(report):
    for layer in (0, 1):
        assert (layer, 3) not in {(row["layer"], row["head"]) for row in report.names}
        assert value(report, layer, 3, "entropy", "mean")["score"] == pytest.approx(1, abs=1e-5)
        for measure in ("rate", "mass"):
            row = value(report, layer, 3, "previous", measure)
            assert row["control"] == "shuffled labels" or row["lift"] <= 1e-6
    assert value(report, 0, 0, "entropy", "mean")["score"] == pytest.approx(0, abs=1e-3)
    assert value(report, 0, 0, "distance", "mean")["score"] == pytest.approx(1, abs=1e-3)


def test_heads_that_see_both_ways(known_bert, write_sentences):
    report = analyze_heads(known_bert, write_sentences(100), QUICK)
    assert names(report) == {(0, 0): "next", (0, 1): "offset+2"}


def test_names_stand_above_their_control_in_both_measures(report):
    for row in report.names:
        for measure in ("rate", "mass"):
            found = value(report, row["layer"], row["head"], row["name"], measure)
            assert found["lift"] > report.settings["margin"]
            assert found["q"] <= 0.05
            assert found["low"] - 1e-6 <= found["score"] <= found["high"] + 1e-6  # sums are rounded


def test_fixed_offsets_cannot_do_what_induction_does(report):
    row = value(report, 1, 0, "induction", "rate")
    offset = value(report, 1, 3, "induction", "rate")
    assert row["control_score"] == offset["control_score"] < 0.3
    assert value(report, 0, 0, "induction", "rate")["score"] < 0.1


def test_a_higher_margin_takes_names_away(known_gpt, write_sentences):
    strict = Settings(patterns=("delimiter",), margin=0.99, replicates=100)
    assert analyze_heads(known_gpt, write_sentences(80), strict).names == []


def test_too_few_items_name_nobody(known_gpt, write_sentences):
    report = analyze_heads(known_gpt, write_sentences(40), Settings(patterns=("previous",), replicates=50))
    assert report.names == []
    assert all(row["q"] is None for row in report.rows if row["pattern"] == "previous")
    assert value(report, 0, 0, "previous", "rate")["score"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("family", "kind", "sharper"),
    [(GPTModel, None, 1), (BERTModel, None, 1), (T5Model, "encoder", 1), (GPTModel, None, 400)],
)
def test_random_weights_earn_no_name(family, kind, sharper, write_sentences):
    """Of 20 seeds, none gets a name: heads of one random model do not stand out against another's.

    Heads whose queries are so much longer look at single keys, as heads of trained models do, but the
    model that they are held against does not.
    """
    settings = Settings(patterns=TOKENS, kind=kind, num_repeated=64, replicates=100)
    texts = write_sentences(70)
    wrong = 0
    for seed in range(20):
        torch.manual_seed(100 + seed)
        model = family(len(",.abcdefghijklmnopqrstuvw"), 32, 2, 4, max_seq_len=64)
        with torch.no_grad():
            for attention in choose_kind(model, kind)[1]:
                attention.q_proj.weight.mul_(sharper)
        model.tokenizer = CharacterTokenizer(",.abcdefghijklmnopqrstuvw")
        wrong += bool(analyze_heads(model, texts, settings).names)
    assert wrong == 0


class Killed(BaseException):
    pass


def test_a_killed_analysis_goes_on_and_ends_the_same(known_gpt, write_sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 30)
    texts = write_sentences(100)
    whole = analyze_heads(known_gpt, texts, QUICK, folder=tmp_path / "whole")
    measured = []
    measure = module.measure

    def killed_at(last):
        def counting(*args, **kwargs):
            if len(measured) == last:
                raise Killed
            measured.append(len(args[1]))
            return measure(*args, **kwargs)

        return counting

    for last in (0, 3, 7):
        monkeypatch.setattr(module, "measure", killed_at(last))
        with pytest.raises(Killed):
            analyze_heads(known_gpt, texts, QUICK, folder=tmp_path / "cut")
    monkeypatch.setattr(module, "measure", killed_at(-1))
    again = analyze_heads(known_gpt, texts, QUICK, folder=tmp_path / "cut")
    assert measured == [30, 30, 30, 10, 80] * 2  # each part once
    assert len(os.listdir(tmp_path / "whole" / "parts")) == 1 + 5 + 10
    assert again == whole
    for name in os.listdir(tmp_path / "whole" / "parts"):
        one, two = ((tmp_path / run / "parts" / name).read_bytes() for run in ("whole", "cut"))
        assert one == two, name
    again.save(tmp_path / "heads.json")
    assert HeadReport.load(tmp_path / "heads.json") == HeadReport.load(tmp_path / "heads.json")


def test_reading_goes_on_where_it_was_killed(known_gpt, write_sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 30)
    texts = [*write_sentences(99), "a" * 80]
    texts[40] = "b" * 80
    settings = Settings(patterns=("previous",), replicates=20)
    whole = analyze_heads(known_gpt, texts, settings, folder=tmp_path / "whole")
    read, numbers = TextReader.read, []

    def killed_at_the_third(self, model, chunk):
        numbers.extend(number for number, _ in chunk)
        if 60 in numbers and numbers.count(0) == 1 and numbers.count(60) == 1:
            raise Killed
        return read(self, model, chunk)

    monkeypatch.setattr(TextReader, "read", killed_at_the_third)
    with pytest.raises(Killed):
        analyze_heads(known_gpt, texts, settings, folder=tmp_path / "cut")
    assert analyze_heads(known_gpt, texts, settings, folder=tmp_path / "cut") == whole
    assert numbers == [*range(90), *range(60, 100)]
    assert whole.num_cut == 2


def test_the_size_of_the_sums_is_known_before(known_gpt, write_sentences, tmp_path):
    study = HeadStudy(known_gpt, Settings(patterns=TOKENS, num_repeated=4), tmp_path / "run")
    study.read(known_gpt, write_sentences(60))
    study.measure(known_gpt)
    (part,) = (path for path in study.parts.parts.iterdir() if path.name.startswith("model text"))
    raw = len(zlib.decompress(part.read_bytes()))
    assert study.size(60) / 2 == pytest.approx(raw, rel=0.1)
    assert part.stat().st_size < raw / 2


def test_texts_are_read_once_and_parts_are_bounded(known_gpt, write_sentences, monkeypatch):
    monkeypatch.setattr(module, "PART", 16)
    sizes = []
    measure = module.measure

    def watched(model, items, *args, **kwargs):
        sizes.append(len(items))
        return measure(model, items, *args, **kwargs)

    monkeypatch.setattr(module, "measure", watched)
    texts = iter(write_sentences(70))
    report = analyze_heads(known_gpt, texts, Settings(patterns=("previous",), replicates=50))
    assert next(texts, None) is None
    assert report.data["num_items"] == 70
    assert max(sizes) == 16


MEMORY = """
import resource, torch
from glassformer.analysis import Settings, analyze_heads, head_study
from glassformer.models import GPTModel
torch.set_num_threads(1)
head_study.PART = 128
model = GPTModel(50, 64, 8, 32, d_ff=8, max_seq_len=12)
peaks = []
for count in (256, 256, 1536):
    texts = ([n % 47, 1, 2, n % 43, 3, 4, n % 41, 5] for n in range(count))
    settings = Settings(patterns=("tokens", "offsets"), replicates=50)
    analyze_heads(model, texts, settings)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[2] - peaks[1])
"""


def test_six_times_the_data_take_no_more_memory():
    """The sums of the 1,280 further items alone would be 50 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20


def test_the_random_control_is_built_when_the_model_is_done(known_gpt):
    state = torch.get_rng_state()
    build = untrained(known_gpt, 3)
    one, two = build(), build()
    assert torch.equal(torch.get_rng_state(), state)
    assert one.config == known_gpt.config
    assert not one.training
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_folder_with_another_analysis_is_refused(known_gpt, write_sentences, tmp_path):
    quick = Settings(patterns=("previous",), replicates=50)
    HeadStudy(known_gpt, quick, tmp_path / "run")
    HeadStudy(known_gpt, Settings(patterns=("previous",), margin=0.3), tmp_path / "run")  # may be chosen anew
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        HeadStudy(known_gpt, Settings(patterns=("previous",), seed=1), tmp_path / "run")
    analyze_heads(known_gpt, write_sentences(4), quick, folder=tmp_path / "texts")
    with pytest.raises(ValueError, match="data was"):
        analyze_heads(known_gpt, write_sentences(5), quick, folder=tmp_path / "texts")
    with pytest.raises(ValueError, match="model was '.*', now"):
        HeadStudy(untrained(known_gpt, 0)(), quick, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds files but no analysis"):
        HeadStudy(known_gpt, quick, tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        HeadStudy(known_gpt, quick, tmp_path / "file")


def test_bad_data_is_named(known_gpt):
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        analyze_heads(known_gpt, ["abc", ""], QUICK)
    with pytest.raises(ValueError, match="the data set is empty"):
        analyze_heads(known_gpt, [], QUICK)
    with pytest.raises(TypeError, match="a single text"):
        analyze_heads(known_gpt, "abc", QUICK)
    with pytest.raises(TypeError, match="text 0: give a text or a sequence of token ids, not 7"):
        analyze_heads(known_gpt, [7], QUICK)
    with pytest.raises(TypeError, match="a ViTModel reads no text"):
        analyze_heads(ViTModel(8, 4, 4, 2, 1), ["a"], QUICK)
    with pytest.raises(ValueError, match="the model has no tokenizer.*set model.tokenizer"):
        analyze_heads(GPTModel(9, 8, 1, 2), ["a"], QUICK)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="unknown pattern 'previus', did you mean 'previous'"):
        Settings(patterns=("previus",))
    with pytest.raises(ValueError, match="margin must be at least 0 and below 1, not 2"):
        Settings(margin=2)
    with pytest.raises(ValueError, match="replicates must be at least 2, not 1"):
        Settings(replicates=1)
    with pytest.raises(ValueError, match="no patterns: choose from tokens, offsets"):
        Settings(patterns=())
    assert set(Settings(patterns=("syntax", "previous")).chosen()) == {"previous", *GROUPS["syntax"]}


def test_ids_alone_need_no_tokenizer():
    model = GPTModel(40, 8, 1, 2, max_seq_len=32)
    report = analyze_heads(model, [[1, 2, 3], [4, 5]], Settings(patterns=TOKENS, replicates=20))
    assert report.names == []
    assert not report.as_bytes
    found = {row["pattern"] for row in report.rows}
    assert {"previous", "induction", "distance"} < found
    assert "delimiter" not in found
    assert any("nothing to look at" in note and "delimiter" in note for note in report.notes)


def test_long_texts_are_cut_and_counted(known_gpt, write_sentences):
    texts = [*write_sentences(4), "a" * 80, "b" * 50]
    whole = analyze_heads(known_gpt, texts, Settings(patterns=("first",), replicates=20))
    assert (whole.num_cut, whole.data["cut_to"]) == (1, 64)
    short = Settings(patterns=("first",), replicates=20, max_tokens=40)
    found = analyze_heads(known_gpt, texts, short)
    assert (found.num_cut, found.data["cut_to"]) == (2, 40)


def test_a_model_that_reads_little_goes_without_repeated_tokens(write_sentences):
    model = GPTModel(30, 8, 1, 2, max_seq_len=8)
    report = analyze_heads(model, [[1, 2, 3, 4]] * 5, Settings(patterns=TOKENS, replicates=20))
    assert any("no induction" in note and "reads 8 at once" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_an_encoder_decoder_is_analysed_one_kind_at_a_time(kind):
    model = T5Model(40, 16, 2, 2, num_decoder_layers=3)
    settings = Settings(patterns=TOKENS, kind=kind, replicates=20, num_repeated=10)
    report = analyze_heads(model, [[3, 4, 5, 6, 7]] * 6, settings)
    heads = {(row["layer"], row["head"]) for row in report.rows}
    assert len(heads) == (4 if kind == "encoder" else 6)
    found = {row["pattern"] for row in report.rows}
    assert ("next" in found) == (kind == "encoder")
    queries = value(report, 0, 0, "previous", "rate")["num_queries"]
    assert queries == 3 * (4 if kind == "encoder" else 5)  # the decoder reads a start as well


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_text_as_long_as_an_encoder_decoder_reads(kind):
    model = T5Model(40, 16, 1, 2, max_seq_len=8, positions="learned")
    settings = Settings(patterns=("previous",), kind=kind, replicates=20)
    report = analyze_heads(model, [[3, 4, 5, 6, 7, 8, 9, 10]] * 4, settings)
    assert report.data["cut_to"] == 8
    assert report.num_cut == (0 if kind == "encoder" else 4)  # a decoder's start is one of the eight


def test_other_kinds_are_refused():
    model = T5Model(40, 16, 2, 2)
    with pytest.raises(ValueError, match='give kind="encoder", "decoder" or "cross"'):
        analyze_heads(model, [[3, 4]], QUICK)
    with pytest.raises(ValueError, match='kind "cross" looks at another sequence'):
        analyze_heads(model, [[3, 4]], Settings(patterns=TOKENS, kind="cross"))


def test_without_a_parser_the_other_patterns_go_on(known_gpt, write_sentences, monkeypatch):
    def missing():
        raise ImportError("pip install 'glassformer[syntax]'")

    monkeypatch.setattr(module, "Parser", missing)
    report = analyze_heads(
        known_gpt, write_sentences(5), Settings(patterns=("syntax", "first"), replicates=20)
    )
    assert {row["pattern"] for row in report.rows if row["measure"] == "rate"} == {"first"}
    assert any("without patterns of syntax: pip install" in note for note in report.notes)
    with pytest.raises(ImportError, match="glassformer\\[syntax\\]"):
        analyze_heads(known_gpt, write_sentences(5), Settings(patterns=("syntax",), replicates=20))


def test_a_table_is_saved_as_csv_or_json(report, tmp_path):
    report.save(tmp_path / "heads.json")
    content = json.loads((tmp_path / "heads.json").read_text())
    assert content["format"] == "glassformer-heads-1"
    assert {"layer", "head", "name", "score", "low", "high", "control", "control_score"} <= set(
        content["names"][0]
    )
    again = HeadReport.load(tmp_path / "heads.json")
    assert again.names == report.names
    report.save(tmp_path / "heads.csv")
    lines = (tmp_path / "heads.csv").read_text().splitlines()
    assert len(lines) == 1 + len(report.rows)
    assert lines[0].startswith("layer,head,pattern,measure,score,low,high,control,control_score,lift,p,q")
    with pytest.raises(ValueError, match=r"\.csv or \.json, not '\.xls'"):
        report.save(tmp_path / "heads.xls")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="not of the format"):
        HeadReport.load(tmp_path / "other.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        HeadReport.load(tmp_path / "broken.json")


def test_repeated_sequences_vary_in_length_and_hold_ordinary_tokens(known_gpt):
    items = repeated_sequences(known_gpt, 200, seed=0)
    lengths = Counter(len(item.ids) for item in items)
    assert set(lengths) == {2 * n for n in range(4, 25)}
    for item in items:
        half = len(item.ids) // 2
        assert list(item.ids[:half]) == list(item.ids[half:])
        assert len(set(item.ids)) == half
    assert items == repeated_sequences(known_gpt, 200, seed=0)
    assert items != repeated_sequences(known_gpt, 200, seed=1)
    with pytest.raises(ValueError, match="the model has 3 ordinary tokens"):
        repeated_sequences(GPTModel(3, 8, 1, 2), 5, seed=0)


def test_marks_stand_around_repeated_tokens_but_are_none_of_them():
    from glassformer.tokenization import WordPieceTokenizer

    tokenizer = WordPieceTokenizer.train(["the cat sat on a mat and they all ran"] * 9, 60)
    model = BERTModel(tokenizer.vocab_size, 8, 1, 2, max_seq_len=40)
    model.tokenizer = tokenizer
    special = set(tokenizer.add_marks([])) | {tokenizer.pad_token, tokenizer.mask_token}
    for item in repeated_sequences(model, 20, seed=0):
        inside = item.ids[1:-1]
        assert [item.ids[0], item.ids[-1]] == tokenizer.add_marks([])
        assert not special & set(inside)
        assert len(inside) % 2 == 0
        assert np.array_equal(inside[: len(inside) // 2], inside[len(inside) // 2 :])
