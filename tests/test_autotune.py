"""The fastest candidate is found, and remembered per user and machine."""

from __future__ import annotations

import json
import time

import pytest
import torch

from glassformer import autotune
from glassformer.autotune import cache_path, fastest, processor, remembered


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def is_known(value):
    return set(value.values()) <= {"a", "b"}


def test_the_first_candidate_is_kept_unless_another_is_clearly_faster(monkeypatch):
    clock = iter(range(10**9))
    seconds = {"first": 100, "close": 98, "fast": 50}

    def candidate(name):
        return lambda: [next(clock) for _ in range(seconds[name])]

    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(autotune, "SECONDS", 1)
    assert fastest({name: candidate(name) for name in ("first", "close")}) == "first"
    assert fastest({name: candidate(name) for name in ("first", "close", "fast")}) == "fast"
    assert fastest({"first": candidate("first")}) == "first"


def test_a_candidate_that_wins_by_chance_is_not_chosen(monkeypatch):
    clock, disturbed = iter(range(10**9)), iter([True] * 8)

    def first():
        ticks = 300 if next(disturbed, False) else 100  # a call that is not timed, and seven that are
        return [next(clock) for _ in range(ticks)]

    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(autotune, "SECONDS", 1)
    assert fastest({"first": first, "slower": lambda: [next(clock) for _ in range(160)]}) == "first"
    assert next(disturbed, None) is None


def test_a_result_is_measured_once_for_each_machine_version_and_number_of_threads(monkeypatch):
    measured = []

    def measure():
        measured.append(1)
        return {"x": "a"}

    assert remembered("kind", measure, is_known) == remembered("kind", measure, is_known) == {"x": "a"}
    assert len(measured) == 1
    (key,) = json.loads(cache_path().read_text())
    assert processor() in key
    assert torch.__version__ in key
    remembered("other", measure, is_known)
    assert len(measured) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    remembered("kind", measure, is_known)
    assert len(measured) == 3
    assert len(json.loads(cache_path().read_text())) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": ' * 5000, "\0", '{"kind": 3}'])
def test_a_damaged_cache_is_measured_again_and_replaced(content):
    cache_path().parent.mkdir(parents=True)
    cache_path().write_text(content)
    assert remembered("kind", lambda: {"x": "b"}, is_known) == {"x": "b"}
    assert {"x": "b"} in json.loads(cache_path().read_text()).values()


def test_a_stored_value_that_is_not_valid_is_measured_again():
    remembered("kind", lambda: {"x": "gone"}, is_known)
    assert remembered("kind", lambda: {"x": "a"}, is_known) == {"x": "a"}


def test_a_cache_that_cannot_be_written_is_not_needed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remembered("kind", lambda: {"x": "a"}, is_known) == {"x": "a"}


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_a_relative_cache_folder_is_ignored(monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_path().is_relative_to(tmp_path)


def test_without_a_home_directory_nothing_is_remembered(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(autotune.Path, "home", home)
    assert remembered("kind", lambda: {"x": "a"}, is_known) == {"x": "a"}


def test_the_cache_is_in_the_folder_of_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    for platform, folder in {"linux": ".cache", "darwin": "Library/Caches", "win32": "AppData"}.items():
        monkeypatch.setattr(autotune.sys, "platform", platform)
        assert cache_path() == tmp_path / folder / "glassformer" / "fastest.json"
