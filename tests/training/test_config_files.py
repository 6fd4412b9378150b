"""What is written is read back, and nothing else is accepted."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.training import ModelConfig, TrainingConfig, load_config, save_config
from glassformer.training.config_files import differences, flatten, to_toml


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


@given(name=texts, number=st.floats(allow_nan=False), options=st.dictionaries(texts, values, max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, name, number, options):
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    config = Outer(name, -7, True, (number, 1), Inner("b", number, name, options))
    save_config(path, config)
    assert load_config(path, Outer()) == config


def test_a_whole_training_config_is_read_back(tmp_path):
    config = replace(
        TrainingConfig(steps=7), model=ModelConfig(d_model=8, options={"positions": {"kind": "rotary"}})
    )
    save_config(tmp_path / "c.toml", config)
    assert load_config(tmp_path / "c.toml", TrainingConfig()) == config


def test_only_the_named_values_replace_the_defaults(tmp_path):
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
        ("count = 1.5", "count must be a whole number, not 1.5"),
        ("count = true", "count must be a whole number, not True"),
        ("name = 3", "name must be a string, not 3"),
        ("flag = 1", "flag must be true or false, not 1"),
        ("pair = [1.0]", "pair must be a list of 2"),
        ("pair = ['a', 1]", "pair must be a number, not 'a'"),
        ("[inner]\nnumber = true", "inner.number must be a number, not True"),
        ("[inner]\nword = 'c'", "inner.word must be one of 'a', 'b', not 'c'"),
        ("[inner]\noptions = 3", "inner.options must be a table, not 3"),
        ("[inner]\nmaybe = 3", "inner.maybe must be a string, not 3"),
        ("inner = 3", r"inner is a table \(\[inner\]\), not the value 3"),
        ("count = \nname = 'x'", r"c\.toml is not a TOML file.*line 1"),
    ],
)
def test_refuses(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path, Outer())


def test_what_may_be_none_is_none_by_default():
    """Absence of a key is how None is written, so another default could never be turned off."""
    hints = {f.name: f for f in fields(ModelConfig)}
    assert all(f.default is None for f in hints.values() if "None" in str(f.type))


def test_not_utf8(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ValueError, match="not a TOML file"):
        load_config(tmp_path / "c.toml", Outer())


def test_the_refusal_of_a_value_names_the_file(tmp_path):
    (tmp_path / "c.toml").write_text("steps = 0")
    with pytest.raises(ValueError, match=r"c\.toml: steps must be at least 1"):
        load_config(tmp_path / "c.toml", TrainingConfig())


def test_what_toml_has_no_word_for(tmp_path):
    with pytest.raises(TypeError, match="a set cannot be written as TOML"):
        to_toml(Outer(inner=Inner(options={"a": {1}})))


def test_differences_by_dotted_key():
    assert differences(Outer(), Outer(count=4, inner=Inner(number=1.0))) == {
        "count": (3, 4),
        "inner.number": (0.5, 1.0),
    }
    assert dict(flatten(Inner()))["word"] == "a"
