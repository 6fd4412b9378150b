"""Strict TOML configs, and the configs included in the library."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import glassformer
from glassformer.models import TransformerModel
from glassformer.training import ModelConfig, TaskConfig, TrainingConfig, load_config, save_config
from glassformer.training.config_files import config_path, differences, flatten, to_toml
from glassformer.training.pipeline import TASKS, build_model

NAMES = sorted(path.stem for path in (Path(glassformer.__file__).parent / "configs").glob("*.toml"))


@dataclass(frozen=True)
class Inner:
    word: Literal["a", "b"] = "a"
    number: float = 0.5
    maybe: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    count: int = 3
    flag: bool = False
    pair: tuple[float, int] = (0.5, 2)
    inner: Inner = field(default_factory=Inner)
    model: ModelConfig = field(default_factory=ModelConfig)


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    texts | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@given(name=texts, number=st.floats(allow_nan=False), options=st.dictionaries(texts, values, max_size=3))
def test_saved_values_are_loaded_unchanged(tmp_path_factory, name, number, options):
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    config = Outer(name, -7, True, (number, 1), Inner("b", number, name, options))
    save_config(path, config)
    assert load_config(path, Outer()) == config


def test_a_training_config_is_loaded_unchanged(tmp_path):
    config = replace(
        TrainingConfig(steps=7), model=ModelConfig(d_model=8, options={"positions": {"kind": "rotary"}})
    )
    save_config(tmp_path / "c.toml", config)
    assert load_config(tmp_path / "c.toml", TrainingConfig()) == config


def test_keys_in_the_file_replace_the_defaults(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("count = 9\n[inner]\nnumber = 2\n")
    loaded = load_config(path, Outer(name="kept"))
    assert loaded == Outer(name="kept", count=9, inner=Inner(number=2.0))
    assert type(loaded.inner.number) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont = 1", r"c\.toml: unknown key 'cuont', did you mean 'count'\?"),
        ("number = 1.0", r"unknown key 'number', did you mean 'inner.number'\?"),
        ("[inner]\nwrod = 'a'", r"unknown key 'inner.wrod', did you mean 'inner.word'\?"),
        ("qqqqqqqq = 1", r"unknown key 'qqqqqqqq'$"),
        ("count = 1.5", "count must be an integer, got 1.5"),
        ("count = true", "count must be an integer, got True"),
        ("name = 3", "name must be a string, got 3"),
        ("flag = 1", "flag must be true or false, got 1"),
        ("pair = [1.0]", "pair must be a list of 2"),
        ("pair = ['a', 1]", "pair must be a number, got 'a'"),
        ("[inner]\nnumber = true", "inner.number must be a number, got True"),
        ("[inner]\nword = 'c'", "inner.word must be one of 'a', 'b', got 'c'"),
        ("[inner]\noptions = 3", "inner.options must be a table, got 3"),
        ("[inner]\nmaybe = 3", "inner.maybe must be a string, got 3"),
        ("inner = 3", r"inner must be a table \(\[inner\]\), got 3"),
        ("count = \nname = 'x'", r"c\.toml is not a TOML file.*line 1"),
        (f"count = {'9' * 40}", r"c\.toml: count must be a 64-bit integer, got one of 40 digits"),
        (f"[inner]\nnumber = {'9' * 400}", "inner.number must be a 64-bit integer, got one of 400 digits"),
        (f"count = {'9' * 5000}", r"c\.toml is not a TOML file: Exceeds the limit"),
        ("x = " + "[" * 50_000, r"c\.toml is not a TOML file: it is nested too deeply"),
        ("x = " + "[" * 3000 + "]" * 3000, r"c\.toml is not a TOML file: it is nested too deeply"),
        ("x = " + "{a = " * 3000 + "1" + "}" * 3000, r"c\.toml is not a TOML file: it is nested too deeply"),
        (
            "[inner]\noptions" + ".a" * 3000 + " = 1",
            r"c\.toml: inner.options is nested too deeply: at most 50",
        ),
        ("[inner.options" + ".a" * 3000 + "]", r"c\.toml: inner.options is nested too deeply: at most 50"),
        ("\ufeffcount = 1", r"c\.toml is not a TOML file"),
        ("count = 1979-05-27", "count must be an integer, got datetime"),
    ],
)
def test_refuses(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_config(path, Outer())


def test_optional_fields_default_to_none():
    """None is written by leaving the key out, so a field with another default could not be set to None."""
    hints = {f.name: f for f in fields(ModelConfig)}
    assert all(f.default is None for f in hints.values() if "None" in str(f.type))


def test_invalid_utf8_is_rejected(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ValueError, match="not a TOML file"):
        load_config(tmp_path / "c.toml", Outer())


def test_an_invalid_value_names_the_file(tmp_path):
    (tmp_path / "c.toml").write_text("steps = 0")
    with pytest.raises(ValueError, match=r"c\.toml: steps must be at least 1"):
        load_config(tmp_path / "c.toml", TrainingConfig())


def test_types_without_toml_equivalent_raise(tmp_path):
    with pytest.raises(TypeError, match="set.* is not TOML serializable"):
        to_toml(Outer(inner=Inner(options={"a": {1}})))


def test_differences_by_dotted_key():
    assert differences(Outer(), Outer(count=4, inner=Inner(number=1.0))) == {
        "count": (3, 4),
        "inner.number": (0.5, 1.0),
    }
    assert dict(flatten(Inner()))["word"] == "a"


def test_every_task_has_an_included_config():
    kinds = {load_config(config_path(name), TrainingConfig()).task.kind for name in NAMES}
    assert kinds == set(TASKS) - {"language-modeling"}  # the default


@pytest.mark.parametrize("name", NAMES)
def test_included_configs_describe_valid_models(name):
    config = load_config(config_path(name), TrainingConfig())
    assert config.run_folder == f"runs/{name}"
    assert f"glassformer train --config {name}\n" in config_path(name).read_text(encoding="utf-8")
    task = TASKS[config.task.kind]
    if config.model.start_from is None:
        with torch.device("meta"):
            model = build_model(config, task.placeholder_keywords(config))
        assert isinstance(model, TransformerModel.families[task.family])
        assert config.data.seq_len <= model.config.get("max_seq_len", config.data.seq_len)


def test_config_path_accepts_a_path_or_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # a folder of the same name is ignored
    assert config_path("mnist").name == "mnist.toml"
    (tmp_path / "own.toml").write_text("steps = 3\n", encoding="utf-8")
    assert load_config(config_path("own.toml"), TrainingConfig()).steps == 3
    (tmp_path / "own").write_text("steps = 4\n", encoding="utf-8")
    assert load_config(config_path("own"), TrainingConfig()).steps == 4
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        config_path("minst")


def test_keys_and_values_of_earlier_versions_are_converted(tmp_path):
    (tmp_path / "c.toml").write_text(
        "[task]\nkind = 'language-modelling'\ncorrupt = 0.3\nmean_span = 5.0\n[evaluation]\ngenerated = 7\n"
    )
    loaded = load_config(tmp_path / "c.toml", TrainingConfig())
    assert loaded.task == TaskConfig("language-modeling", corruption_rate=0.3, mean_span_length=5.0)
    assert loaded.evaluation.num_generated == 7
