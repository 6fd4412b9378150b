"""Head analyses: constructed heads are labeled, random heads are not, and interrupted runs are resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from glassformer.analysis import HeadAnalysis, HeadAnalysisSettings, HeadReport, analyze_heads
from glassformer.analysis.head_patterns import PATTERN_GROUPS, random_weights_builder, select_patterns
from glassformer.analysis.head_patterns import analyze as module
from glassformer.analysis.head_patterns.inputs import TextEncoder
from glassformer.analysis.partial_results import model_fingerprint
from glassformer.attention import choose_kind
from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import CharacterTokenizer

TOKENS = ("tokens", "offsets", "copying")
QUICK = HeadAnalysisSettings(patterns=TOKENS, num_repeated=80, replicates=200)


@pytest.fixture(scope="module")
def report(known_gpt, write_sentences):
    return analyze_heads(known_gpt, write_sentences(120), QUICK)


def main_labels(report):
    return {(row["layer"], row["head"]): row["name"] for row in report.names if row["main"]}


def row_of(report, layer, head, pattern, measure):
    (row,) = (
        row
        for row in report.rows
        if (row["layer"], row["head"], row["pattern"], row["measure"]) == (layer, head, pattern, measure)
    )
    return row


@pytest.mark.slow
def test_constructed_heads_get_their_labels(report):
    assert main_labels(report) == {
        (0, 0): "previous",
        (0, 1): "offset-3",
        (0, 2): "delimiter",
        (1, 0): "induction",
        (1, 1): "current",
        (1, 2): "first",
    }
    assert row_of(report, 0, 0, "previous", "rate")["score"] == pytest.approx(1, abs=1e-6)
    assert row_of(report, 0, 0, "previous", "mass")["score"] == pytest.approx(1, abs=1e-3)
    assert row_of(report, 1, 0, "induction", "mass")["score"] > 0.95


@pytest.mark.slow
def test_a_head_with_uniform_attention_has_no_label_and_entropy_one(report):
    for layer in (0, 1):
        assert (layer, 3) not in {(row["layer"], row["head"]) for row in report.names}
        assert row_of(report, layer, 3, "entropy", "mean")["score"] == pytest.approx(1, abs=1e-5)
        for measure in ("rate", "mass"):
            row = row_of(report, layer, 3, "previous", measure)
            assert row["control"] == "shuffled labels" or row["lift"] <= 1e-6
    assert row_of(report, 0, 0, "entropy", "mean")["score"] == pytest.approx(0, abs=1e-3)
    assert row_of(report, 0, 0, "distance", "mean")["score"] == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_bidirectional_heads_get_their_labels(known_bert, write_sentences):
    report = analyze_heads(known_bert, write_sentences(100), QUICK)
    assert main_labels(report) == {(0, 0): "next", (0, 1): "offset+2"}


def test_labeled_heads_exceed_the_strongest_baseline_in_rate_and_mass(report):
    for row in report.names:
        for measure in ("rate", "mass"):
            found = row_of(report, row["layer"], row["head"], row["name"], measure)
            assert found["lift"] > report.settings["margin"]
            assert found["q"] <= 0.05
            assert found["low"] - 1e-6 <= found["score"] <= found["high"] + 1e-6  # sums are rounded


def test_induction_heads_exceed_the_fixed_offset_baseline(report):
    row = row_of(report, 1, 0, "induction", "rate")
    offset = row_of(report, 1, 3, "induction", "rate")
    assert row["control_score"] == offset["control_score"] < 0.3
    assert row_of(report, 0, 0, "induction", "rate")["score"] < 0.1


@pytest.mark.slow
def test_a_higher_margin_removes_labels(known_gpt, write_sentences):
    strict = HeadAnalysisSettings(patterns=("delimiter",), margin=0.99, replicates=100)
    assert analyze_heads(known_gpt, write_sentences(80), strict).names == []


def test_with_too_few_items_no_head_is_labeled(known_gpt, write_sentences):
    report = analyze_heads(
        known_gpt, write_sentences(40), HeadAnalysisSettings(patterns=("previous",), replicates=50)
    )
    assert report.names == []
    assert all(row["q"] is None for row in report.rows if row["pattern"] == "previous")
    assert row_of(report, 0, 0, "previous", "rate")["score"] == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind", "sharper"),
    [(GPTModel, None, 1), (BERTModel, None, 1), (T5Model, "encoder", 1), (GPTModel, None, 400)],
)
def test_heads_with_random_weights_are_not_labeled(family, kind, sharper, write_sentences):
    """No head is labeled for any of 20 seeds.

    With longer queries (``sharper``), heads attend to single keys, as in trained models, but those of the
    baseline do not.
    """
    settings = HeadAnalysisSettings(patterns=TOKENS, kind=kind, num_repeated=64, replicates=100)
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


class Interrupted(BaseException):
    pass


@pytest.mark.slow
def test_a_resumed_analysis_gives_the_same_result(known_gpt, write_sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ITEMS_PER_PART", 30)
    texts = write_sentences(100)
    whole = analyze_heads(known_gpt, texts, QUICK, folder=tmp_path / "whole")
    measured = []
    collect_sums = module.collect_sums

    def interrupted_at(last):
        def counting(*args, **kwargs):
            if len(measured) == last:
                raise Interrupted
            measured.append(len(args[1]))
            return collect_sums(*args, **kwargs)

        return counting

    for last in (0, 3, 7):
        monkeypatch.setattr(module, "collect_sums", interrupted_at(last))
        with pytest.raises(Interrupted):
            analyze_heads(known_gpt, texts, QUICK, folder=tmp_path / "cut")
    monkeypatch.setattr(module, "collect_sums", interrupted_at(-1))
    again = analyze_heads(known_gpt, texts, QUICK, folder=tmp_path / "cut")
    assert measured == [30, 30, 30, 10, 80] * 2  # each part is measured once
    assert len(os.listdir(tmp_path / "whole" / "parts")) == 1 + 5 + 10
    assert again == whole
    for name in os.listdir(tmp_path / "whole" / "parts"):
        one, two = ((tmp_path / run / "parts" / name).read_bytes() for run in ("whole", "cut"))
        assert one == two, name
    again.save(tmp_path / "heads.json")
    assert HeadReport.load(tmp_path / "heads.json") == HeadReport.load(tmp_path / "heads.json")


@pytest.mark.slow
def test_encoding_is_resumed(known_gpt, write_sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ITEMS_PER_PART", 30)
    texts = [*write_sentences(99), "a" * 80]
    texts[40] = "b" * 80
    settings = HeadAnalysisSettings(patterns=("previous",), replicates=20)
    whole = analyze_heads(known_gpt, texts, settings, folder=tmp_path / "whole")
    encode, numbers = TextEncoder.encode, []

    def interrupted_at_the_third_part(self, model, chunk):
        numbers.extend(number for number, _ in chunk)
        if 60 in numbers and numbers.count(0) == 1 and numbers.count(60) == 1:
            raise Interrupted
        return encode(self, model, chunk)

    monkeypatch.setattr(TextEncoder, "encode", interrupted_at_the_third_part)
    with pytest.raises(Interrupted):
        analyze_heads(known_gpt, texts, settings, folder=tmp_path / "cut")
    assert analyze_heads(known_gpt, texts, settings, folder=tmp_path / "cut") == whole
    assert numbers == [*range(90), *range(60, 100)]
    assert whole.num_cut == 2


def test_the_size_of_partial_results_is_known_in_advance(known_gpt, write_sentences, tmp_path):
    analysis = HeadAnalysis(
        known_gpt, HeadAnalysisSettings(patterns=TOKENS, num_repeated=4), tmp_path / "run"
    )
    analysis.encode(known_gpt, write_sentences(60))
    analysis.measure_model(known_gpt)
    (part,) = (
        path for path in analysis.partial_results.parts.iterdir() if path.name.startswith("model text")
    )
    raw = len(zlib.decompress(part.read_bytes()))
    assert analysis.max_bytes(60) / 2 == pytest.approx(raw, rel=0.1)
    assert part.stat().st_size < raw / 2


@pytest.mark.slow
def test_texts_are_iterated_once_and_parts_are_bounded(known_gpt, write_sentences, monkeypatch):
    monkeypatch.setattr(module, "ITEMS_PER_PART", 16)
    sizes = []
    collect_sums = module.collect_sums

    def watched(model, items, *args, **kwargs):
        sizes.append(len(items))
        return collect_sums(model, items, *args, **kwargs)

    monkeypatch.setattr(module, "collect_sums", watched)
    texts = iter(write_sentences(70))
    report = analyze_heads(known_gpt, texts, HeadAnalysisSettings(patterns=("previous",), replicates=50))
    assert next(texts, None) is None
    assert report.data["num_items"] == 70
    assert max(sizes) == 16


MEMORY = """
import resource, torch
from glassformer.analysis import HeadAnalysisSettings, analyze_heads
from glassformer.analysis.head_patterns import analyze
from glassformer.models import GPTModel
torch.set_num_threads(1)
analyze.ITEMS_PER_PART = 128
model = GPTModel(50, 64, 8, 32, d_ff=8, max_seq_len=12)
peaks = []
for count in (256, 256, 1536):
    texts = ([n % 47, 1, 2, n % 43, 3, 4, n % 41, 5] for n in range(count))
    settings = HeadAnalysisSettings(patterns=("tokens", "offsets"), replicates=50)
    analyze_heads(model, texts, settings)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[2] - peaks[1])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_texts():
    """The sums of the 1,280 additional items alone would take 50 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20


def test_random_weights_depend_on_the_seed_only(known_gpt):
    state = torch.get_rng_state()
    build = random_weights_builder(known_gpt, 3)
    one, two = build(), build()
    assert torch.equal(torch.get_rng_state(), state)
    assert one.config == known_gpt.config
    assert not one.training
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_folder_of_another_analysis_is_refused(known_gpt, write_sentences, tmp_path):
    quick = HeadAnalysisSettings(patterns=("previous",), replicates=50)
    HeadAnalysis(known_gpt, quick, tmp_path / "run")
    HeadAnalysis(
        known_gpt, HeadAnalysisSettings(patterns=("previous",), margin=0.3), tmp_path / "run"
    )  # can be changed
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        HeadAnalysis(known_gpt, HeadAnalysisSettings(patterns=("previous",), seed=1), tmp_path / "run")
    analyze_heads(known_gpt, write_sentences(4), quick, folder=tmp_path / "texts")
    with pytest.raises(ValueError, match="data was"):
        analyze_heads(known_gpt, write_sentences(5), quick, folder=tmp_path / "texts")
    with pytest.raises(ValueError, match="model was '.*', now"):
        HeadAnalysis(random_weights_builder(known_gpt, 0)(), quick, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds files but no analysis"):
        HeadAnalysis(known_gpt, quick, tmp_path / "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        HeadAnalysis(known_gpt, quick, tmp_path / "file")


def test_bad_data_is_refused(known_gpt):
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        analyze_heads(known_gpt, ["abc", ""], QUICK)
    with pytest.raises(ValueError, match="the data set is empty"):
        analyze_heads(known_gpt, [], QUICK)
    with pytest.raises(TypeError, match="got a single text"):
        analyze_heads(known_gpt, "abc", QUICK)
    with pytest.raises(TypeError, match="text 0: give a text or a sequence of token ids, not 7"):
        analyze_heads(known_gpt, [7], QUICK)
    with pytest.raises(TypeError, match="a ViTModel takes no text"):
        analyze_heads(ViTModel(8, 4, 4, 2, 1), ["a"], QUICK)
    with pytest.raises(ValueError, match="the model has no tokenizer.*set model.tokenizer"):
        analyze_heads(GPTModel(9, 8, 1, 2), ["a"], QUICK)


def test_an_analysis_of_an_earlier_version_is_resumed(known_gpt, write_sentences, tmp_path, monkeypatch):
    """The folder ``stored_run`` was written by an earlier version, without the sums of the last part."""
    monkeypatch.setattr(module, "ITEMS_PER_PART", 2)
    stored = Path(__file__).parent / "stored_run"
    folder = tmp_path / "run"
    shutil.copytree(stored, folder, ignore=lambda *_: ["heads.json"])
    settings = json.loads((folder / "settings.json").read_text())
    settings["model"] = model_fingerprint(known_gpt)
    (folder / "settings.json").write_text(json.dumps(settings))
    small = HeadAnalysisSettings(patterns=("previous", "first", "induction"), num_repeated=4, replicates=20)
    resumed = analyze_heads(known_gpt, write_sentences(4), small, folder=folder)
    before = HeadReport.load(stored / "heads.json")
    assert resumed.settings == before.settings
    assert resumed.data == before.data
    assert resumed.names == before.names
    for row, expected in zip(resumed.rows, before.rows, strict=True):
        assert row == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="unknown pattern 'previus', did you mean 'previous'"):
        HeadAnalysisSettings(patterns=("previus",))
    with pytest.raises(ValueError, match="margin must be at least 0 and below 1, not 2"):
        HeadAnalysisSettings(margin=2)
    with pytest.raises(ValueError, match="replicates must be at least 2, not 1"):
        HeadAnalysisSettings(replicates=1)
    with pytest.raises(ValueError, match="no patterns: choose from tokens, offsets"):
        HeadAnalysisSettings(patterns=())
    assert set(select_patterns(("syntax", "previous"))) == {
        "previous",
        *PATTERN_GROUPS["syntax"],
    }


def test_token_ids_need_no_tokenizer():
    model = GPTModel(40, 8, 1, 2, max_seq_len=32)
    report = analyze_heads(model, [[1, 2, 3], [4, 5]], HeadAnalysisSettings(patterns=TOKENS, replicates=20))
    assert report.names == []
    assert not report.as_bytes
    found = {row["pattern"] for row in report.rows}
    assert {"previous", "induction", "distance"} < found
    assert "delimiter" not in found
    assert any("no query has a visible target" in note and "delimiter" in note for note in report.notes)


@pytest.mark.slow
def test_long_texts_are_truncated_and_counted(known_gpt, write_sentences):
    texts = [*write_sentences(4), "a" * 80, "b" * 50]
    whole = analyze_heads(known_gpt, texts, HeadAnalysisSettings(patterns=("first",), replicates=20))
    assert (whole.num_cut, whole.data["cut_to"]) == (1, 64)
    short = HeadAnalysisSettings(patterns=("first",), replicates=20, max_tokens=40)
    found = analyze_heads(known_gpt, texts, short)
    assert (found.num_cut, found.data["cut_to"]) == (2, 40)


def test_short_models_are_not_measured_on_repeated_tokens(write_sentences):
    model = GPTModel(30, 8, 1, 2, max_seq_len=8)
    report = analyze_heads(model, [[1, 2, 3, 4]] * 5, HeadAnalysisSettings(patterns=TOKENS, replicates=20))
    assert any(
        "induction and duplicate tokens were not measured" in note and "max_seq_len=8" in note
        for note in report.notes
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_an_encoder_decoder_is_analyzed_one_kind_at_a_time(kind):
    model = T5Model(40, 16, 2, 2, num_decoder_layers=3)
    settings = HeadAnalysisSettings(patterns=TOKENS, kind=kind, replicates=20, num_repeated=10)
    report = analyze_heads(model, [[3, 4, 5, 6, 7]] * 6, settings)
    heads = {(row["layer"], row["head"]) for row in report.rows}
    assert len(heads) == (4 if kind == "encoder" else 6)
    found = {row["pattern"] for row in report.rows}
    assert ("next" in found) == (kind == "encoder")
    queries = row_of(report, 0, 0, "previous", "rate")["num_queries"]
    assert queries == 3 * (4 if kind == "encoder" else 5)  # the decoder has a start token


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_start_token_counts_toward_max_seq_len(kind):
    model = T5Model(40, 16, 1, 2, max_seq_len=8, positions="learned")
    settings = HeadAnalysisSettings(patterns=("previous",), kind=kind, replicates=20)
    report = analyze_heads(model, [[3, 4, 5, 6, 7, 8, 9, 10]] * 4, settings)
    assert report.data["cut_to"] == 8
    assert report.num_cut == (0 if kind == "encoder" else 4)  # the start token is one of the eight


def test_unknown_kinds_and_cross_attention_are_refused():
    model = T5Model(40, 16, 2, 2)
    with pytest.raises(ValueError, match='give kind="encoder", "decoder" or "cross"'):
        analyze_heads(model, [[3, 4]], QUICK)
    with pytest.raises(ValueError, match='keys of "cross" are of another sequence'):
        analyze_heads(model, [[3, 4]], HeadAnalysisSettings(patterns=TOKENS, kind="cross"))


def test_without_a_parser_the_other_patterns_are_measured(known_gpt, write_sentences, monkeypatch):
    def missing():
        raise ImportError("pip install 'glassformer[syntax]'")

    monkeypatch.setattr(module, "Parser", missing)
    report = analyze_heads(
        known_gpt, write_sentences(5), HeadAnalysisSettings(patterns=("syntax", "first"), replicates=20)
    )
    assert {row["pattern"] for row in report.rows if row["measure"] == "rate"} == {"first"}
    assert any("without patterns of syntax: pip install" in note for note in report.notes)
    with pytest.raises(ImportError, match="glassformer\\[syntax\\]"):
        analyze_heads(
            known_gpt, write_sentences(5), HeadAnalysisSettings(patterns=("syntax",), replicates=20)
        )


def test_a_report_is_saved_as_csv_or_json(report, tmp_path):
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
    with pytest.raises(ValueError, match="is not valid JSON"):
        HeadReport.load(tmp_path / "broken.json")
