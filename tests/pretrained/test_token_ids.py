"""Ids of special tokens and defaults of generation that come with a published model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import glassformer
from glassformer.analysis.pruning import prune_heads
from glassformer.cli import main
from glassformer.models import GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer

IDS: dict[str, Any] = {"bos_token_id": 3, "eos_token_id": [1, 2], "pad_token_id": 4}
DEFAULTS = {"bos_token_id": 3, "eos_token_id": [2, 5, 2, 900], "temperature": 0.6, "stop_strings": ["x"]}


def write(folder: Path, config: dict[str, Any], defaults: Any = None, seed: int = 0) -> Path:
    """Write a Llama whose config has these keys, and its generation_config.json."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
    peer = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**sizes, num_attention_heads=2, initializer_range=0.5)
    )
    peer.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values = {name: value for name, value in values.items() if not name.endswith("_token_id")}
    (folder / "config.json").write_text(json.dumps(values | config))
    (folder / "generation_config.json").unlink()
    if defaults is not None:
        (folder / "generation_config.json").write_text(json.dumps(defaults))
    return folder


def saved(folder: Path) -> tuple[dict[str, Any], Any]:
    """The token ids of config.json, and the content of generation_config.json."""
    config, defaults = (folder / name for name in ("config.json", "generation_config.json"))
    ids = {k: v for k, v in json.loads(config.read_text()).items() if k.endswith("_token_id")}
    return ids, json.loads(defaults.read_text()) if defaults.exists() else None


CASES: dict[str, tuple[dict[str, Any], Any, list[int]]] = {
    "a list in config.json": (IDS, None, [1, 2]),
    "generation_config.json has its own": (IDS, DEFAULTS, [2, 5]),
    "generation_config.json has none": (IDS, {"top_k": 7}, [1, 2]),
    "one id": ({**IDS, "eos_token_id": 7}, {"eos_token_id": 7}, [7]),
    "null": ({**IDS, "eos_token_id": None}, None, []),
    "an empty list": ({**IDS, "eos_token_id": []}, {"eos_token_id": None}, []),
    "ids outside the vocabulary": ({**IDS, "eos_token_id": [-1, 40, 39], "pad_token_id": -1}, None, [39]),
    "other tokens": ({**IDS, "sep_token_id": 6, "forced_eos_token_id": [1]}, None, [1, 2]),
}


@pytest.mark.parametrize("case", CASES)
def test_they_are_read_and_written_back_unchanged(case: str, tmp_path: Path) -> None:
    config, defaults, stop_tokens = CASES[case]
    model = glassformer.from_pretrained(write(tmp_path / "published", config, defaults))
    assert model.stop_tokens == stop_tokens
    assert model.token_ids == config
    glassformer.save_pretrained(model, tmp_path / "hf", format="huggingface")
    assert saved(tmp_path / "hf") == (config, defaults)
    model.save_pretrained(tmp_path / "ours")
    again = glassformer.from_pretrained(tmp_path / "ours")
    assert again.stop_tokens == stop_tokens
    glassformer.save_pretrained(again, tmp_path / "hf again", format="huggingface")
    assert saved(tmp_path / "hf again") == (config, defaults)
    assert (
        transformers.AutoConfig.from_pretrained(tmp_path / "hf again").eos_token_id == config["eos_token_id"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_they_end_a_text_by_default_as_in_transformers(seed: int, tmp_path: Path) -> None:
    ends = list(range(seed, 40, 4))
    folder = write(tmp_path, {**IDS, "eos_token_id": ends}, seed=seed)
    ours = glassformer.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompts = torch.tensor([[7, 8, 9], [10, 11, 12], [5, 6, 7]])
    expected = theirs.generate(prompts, max_new_tokens=20, do_sample=False)
    assert set(expected[:, 3:].flatten().tolist()) & set(ends)
    assert torch.equal(ours.generate(prompts, 20, temperature=0), expected)
    steps = torch.stack(list(ours.stream(prompts, 20, temperature=0)), dim=1)
    assert torch.equal(steps, ours.generate(prompts, 20, temperature=0)[:, 3:])
    lists = ours.generate(prompts.tolist(), 20, num_beams=3)
    assert all(row[-1] in ends and not set(ends) & set(row[3:-1]) for row in lists if len(row) < 23)
    assert len(ours.generate([7, 8, 9], 20, temperature=0, stop_tokens=[])) == 23


def test_a_target_ends_with_any_of_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = T5Model(40, 16, 2, 2, max_seq_len=32, tie_embeddings=False)
    for weight in (weight for weight in model.parameters() if weight.dim() > 1):
        torch.nn.init.normal_(weight)  # large, so that the target does not repeat one token
    source = [[5, 6, 7], [8, 9, 10]]
    free = model.generate(source, 12, temperature=0, stop_tokens=[])
    assert free[0][0] != free[0][2]
    model.token_ids = {"eos_token_id": [free[0][2], free[1][1]]}
    glassformer.save_pretrained(model, tmp_path, format="huggingface")
    again = glassformer.from_pretrained(tmp_path)
    ends = again.stop_tokens
    assert ends == model.token_ids["eos_token_id"]
    expected = [row[: 1 + min(i for i, token in enumerate(row) if token in ends)] for row in free]
    assert again.generate(source, 12, temperature=0) == expected


@pytest.mark.parametrize("value", ["x", [1, "2"], True, 1.5, [[1]], {"a": 1}, [None], "x" * 10**5])
def test_a_value_that_is_no_id_is_an_error(value: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"config.json: eos_token_id must be a token id, a list of them"
    ) as error:
        glassformer.from_pretrained(write(tmp_path / "a", {"eos_token_id": value}))
    assert len(str(error.value)) < 500
    with pytest.raises(ValueError, match=r"generation_config.json: pad_token_id must be a token id"):
        glassformer.from_pretrained(write(tmp_path / "b", IDS, {"pad_token_id": value}))
    model = glassformer.from_pretrained(write(tmp_path / "c", IDS))
    model.token_ids = {"eos_token_id": value}
    model.save_pretrained(tmp_path / "d")
    with pytest.raises(ValueError, match=r"config.json: eos_token_id must be a token id"):
        glassformer.from_pretrained(tmp_path / "d")


def test_a_damaged_generation_config_is_an_error_and_an_old_one_is_removed(tmp_path: Path) -> None:
    folder = write(tmp_path, IDS, [1])
    with pytest.raises(ValueError, match=r"generation_config.json"):
        glassformer.from_pretrained(folder)
    for format in ("glassformer", "huggingface"):
        (folder / "generation_config.json").write_text("{}")
        glassformer.save_pretrained(GPTModel(20, 8, 1, 1, positions="rotary"), folder, format="glassformer")
        assert not (folder / "generation_config.json").exists(), format


def test_a_pruned_model_keeps_them(tmp_path: Path) -> None:
    model = glassformer.from_pretrained(write(tmp_path, IDS, DEFAULTS))
    smaller = prune_heads(model, [(0, 1)])
    assert (smaller.token_ids, smaller.generation_config) == (IDS, DEFAULTS)


def test_the_command_stops_at_any_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = GPTModel(257, 16, 1, 2, max_seq_len=32)
    model.tokenizer = ByteTokenizer()
    options = ["--max-new-tokens", "9", "--temperature", "0", "--prompt", "ab"]
    expected = model.generate(list(b"ab"), 9, temperature=0)
    for model.token_ids, length in (({}, 11), ({"eos_token_id": [256, expected[2]]}, 2)):
        model.save_pretrained(tmp_path)
        for samples in ([], ["--samples", "2"]):
            assert main(["generate", str(tmp_path), *options, *samples]) == 0
            text = capsys.readouterr().out.rstrip("\n").split("---\n")[-1]
            assert text == ByteTokenizer().decode(expected[:length])
