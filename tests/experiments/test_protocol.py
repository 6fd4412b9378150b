"""Protocols of studies: parsing, errors, hashes and differences."""

from __future__ import annotations

import copy
import re

import pytest

from glassformer.experiments.protocol import SCALES, differences, load_protocol, parse_protocol
from glassformer.experiments.study import STUDIES, find_study, study_protocols

SCALE = {"minutes": 1, "memory_gib": 1, "disk_gib": 1, "settings": {"seeds": 2}}
CONTENT = {
    "title": "A title",
    "question": "A question?",
    "primary_outcome": "an outcome",
    "method": "a method",
    "hypotheses": ["one"],
    "limitations": [],
    "claims": [{"id": "a", "text": "A claim", "source": "someone", "test": "difference", "direction": 1}],
    "scales": dict.fromkeys(SCALES, SCALE),
}


def changed(*path, value=None):
    content = copy.deepcopy(CONTENT)
    target = content
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("title"), "the protocol has no 'title'"),
        (changed("titel", value="x"), "unknown key 'titel', did you mean 'title'?"),
        (changed("claims", 0, "test"), "the claim 'a' has no 'test'"),
        (
            changed("claims", 0, "soruce", value="x"),
            "the claim 'a' has an unknown key 'soruce', did you mean 'source'?",
        ),
        (changed("claims", 0, "direction", value=3), "direction of a difference must be 1 or -1, got 3"),
        (changed("scales", "full"), "no scale 'full': it needs smoke, laptop, full"),
        (changed("scales", "larg", value=SCALE), "unknown scale 'larg'"),
        (
            changed("scales", "smoke", value={**SCALE, "hours": 1}),
            "the scale 'smoke' has an unknown key 'hours'",
        ),
        ({**CONTENT, "claims": CONTENT["claims"] * 2}, "two claims are called 'a'"),
    ],
)
def test_a_wrong_protocol_says_what_is_wrong(content, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_protocol(content)


def test_the_file_is_named_in_errors(tmp_path):
    file = tmp_path / "protocol.toml"
    file.write_text("title = ")
    with pytest.raises(ValueError, match="protocol.toml: "):
        load_protocol(file)


def test_the_hash_depends_on_the_content_alone():
    reordered = dict(reversed(CONTENT.items()))
    assert parse_protocol(reordered).hash == parse_protocol(CONTENT).hash
    assert parse_protocol(changed("claims", 0, "margin", value=0.5)).hash != parse_protocol(CONTENT).hash


def test_differences_name_the_key_and_both_values():
    new = changed("scales", "smoke", value={**SCALE, "settings": {"seeds": 3}})
    new["claims"][0]["margin"] = 0.1
    del new["title"]
    assert differences(CONTENT, new) == [
        "title: 'A title', now absent",
        "scales.smoke.settings.seeds: 2, now 3",
        "claims.a.margin: absent, now 0.1",
    ]
    assert differences(CONTENT, copy.deepcopy(CONTENT)) == []


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_valid_protocol(name):
    study = find_study(name)
    assert study.name == name
    assert study.protocol == study_protocols()[name]
    for scale in study.protocol.scales.values():
        runs = study.runs(scale)
        assert len({run.name for run in runs}) == len({str(run.settings) for run in runs}) == len(runs) > 0
    assert study.protocol.scales["smoke"].minutes <= 2
    assert study.protocol.scales["laptop"].minutes <= 180


def test_an_unknown_study_suggests_the_nearest():
    with pytest.raises(ValueError, match="unknown study 'scalling', did you mean 'scaling'"):
        find_study("scalling")
