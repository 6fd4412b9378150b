"""Sources of models, their tokenizers, and the hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tokenizers
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tokenizers import models, pre_tokenizers, processors

import glassformer
from glassformer.models import BERTModel, GPTModel, ViTModel
from glassformer.pretrained.loading import download
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    PretrainedTokenizer,
    WordPieceTokenizer,
    has_tokenizer,
)

SIZES: dict[str, Any] = {"d_model": 24, "num_layers": 2, "num_heads": 3}


def gpt(vocab_size: int = 300) -> GPTModel:
    return GPTModel(vocab_size, **SIZES).eval()


def test_the_format_of_this_library_round_trips(tmp_path: Path) -> None:
    model = gpt()
    model.tokenizer = ByteTokenizer()
    glassformer.save_pretrained(model, tmp_path)
    again = glassformer.from_pretrained(tmp_path)
    assert again.config == model.config
    assert isinstance(again.tokenizer, ByteTokenizer)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    half = glassformer.from_pretrained(str(tmp_path), dtype=torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown format 'hugging', did you mean 'huggingface'"):
        glassformer.save_pretrained(gpt(), tmp_path / "new", format="hugging")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", [BPETokenizer, WordPieceTokenizer])
def test_the_tokenizer_goes_along(kind: Any, tmp_path: Path) -> None:
    texts = ["the cat sat on the mat, the cat sat " * 9]
    model = BERTModel(300, **SIZES, head="masked_lm") if kind is WordPieceTokenizer else gpt()
    model.tokenizer = kind.train(texts, 290)
    glassformer.save_pretrained(model, tmp_path, format="huggingface")
    again = glassformer.from_pretrained(tmp_path)
    assert type(again.tokenizer) is kind
    ours = again.tokenizer.add_special_tokens(again.tokenizer.encode(texts[0]))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts[0])["input_ids"] == ours
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.eos_token_id == model.tokenizer.end_of_text
    assert config.pad_token_id == model.tokenizer.pad_token


def test_special_tokens_are_kept(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    model = gpt()
    model.tokenizer = PretrainedTokenizer(tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})
    for format in ("glassformer", "huggingface"):
        glassformer.save_pretrained(model, tmp_path / format, format=format)
        again = glassformer.from_pretrained(tmp_path / format).tokenizer
        assert again is not None
        assert (again.add_special_tokens([3]), again.end_of_text, again.encode("a </s>")) == (
            [1, 3],
            2,
            [3, 0, 0],
        )


@pytest.mark.parametrize("format", ["glassformer", "huggingface"])
def test_an_old_tokenizer_in_the_folder_is_removed(format: str, tmp_path: Path) -> None:
    model = gpt()
    model.tokenizer = BPETokenizer.train(["the cat " * 9], 270)
    glassformer.save_pretrained(model, tmp_path, format=format)
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n")  # the older way to write one
    model.tokenizer = None
    glassformer.save_pretrained(model, tmp_path, format=format)
    assert glassformer.from_pretrained(tmp_path).tokenizer is None
    assert not has_tokenizer(tmp_path)


@pytest.mark.parametrize("format", ["glassformer", "huggingface"])
def test_a_tokenizer_with_more_tokens_than_the_model_is_an_error(format: str, tmp_path: Path) -> None:
    model = gpt(vocab_size=260)
    model.tokenizer = BPETokenizer.train(["the cat sat " * 9], 262)
    glassformer.save_pretrained(model, tmp_path, format=format)
    with pytest.raises(
        ValueError, match=f"{tmp_path}: the tokenizer has 262 tokens, but the model has vocab_size=260"
    ):
        glassformer.from_pretrained(tmp_path)


def test_a_tokenizer_that_is_not_implemented_gives_a_warning(tmp_path: Path) -> None:
    glassformer.save_pretrained(gpt(), tmp_path, format="huggingface")
    (tmp_path / "spiece.model").touch()
    with pytest.warns(
        UserWarning, match="loaded without its tokenizer, because spiece.model alone is not implemented"
    ):
        assert glassformer.from_pretrained(tmp_path).tokenizer is None


def test_an_image_model_has_no_tokenizer(tmp_path: Path) -> None:
    model = ViTModel(32, 16, **SIZES)
    glassformer.save_pretrained(model, tmp_path, format="huggingface")
    ByteTokenizer().save(tmp_path)
    assert glassformer.from_pretrained(tmp_path).tokenizer is None


def test_on_a_full_disk_existing_files_are_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glassformer.save_pretrained(gpt(), tmp_path, format="huggingface")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*args: Any, **kwargs: Any) -> None:
        from safetensors import SafetensorError

        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("glassformer.pretrained.huggingface.save_file", full)
    with pytest.raises(OSError, match=r"cannot write .*model.safetensors: .*No space left"):
        glassformer.save_pretrained(gpt(), tmp_path, format="huggingface")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "model.gguf", "a/b.gguf", "a/b/c", "~/x"])
def test_a_missing_path_is_not_looked_up_on_the_hub(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "glassformer.pretrained.loading.download", lambda *args: pytest.fail("the hub was requested")
    )
    for path in (source, Path(source)):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            glassformer.from_pretrained(path)


def test_a_folder_or_file_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model: .*config.json does not exist"):
        glassformer.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        ValueError, match=r"source must be a .gguf file or a folder with config.json, got the file"
    ):
        glassformer.from_pretrained(tmp_path / "model.safetensors")


class Hub:
    """A hub of one repository that records the requests."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self.folder, self.files = folder, files
        self.requests: list[tuple[str, str | None]] = []

    def __call__(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.requests.append((name, revision))
        wanted = huggingface_hub.utils.filter_repo_objects(self.files, allow_patterns=allow_patterns)
        self.wanted = set(wanted)
        return str(self.folder)


FILES = [
    "README.md",
    "config.json",
    "tokenizer.json",
    "onnx/model.onnx",
    "onnx/model.safetensors",
    "tf_model.h5",
]


def test_only_the_files_of_a_model_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glassformer.save_pretrained(gpt(), tmp_path, format="huggingface")
    served = Hub(tmp_path, [*FILES, "model.safetensors", "pytorch_model.bin"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", served)
    assert isinstance(glassformer.from_pretrained("someone/gpt", revision="v2"), GPTModel)
    assert served.requests == [("someone/gpt", "v2")]
    assert served.wanted == {"config.json", "tokenizer.json", "model.safetensors"}


def test_a_pickle_is_downloaded_only_without_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Hub(tmp_path, [*FILES, "pytorch_model.bin", "pytorch_model-1-of-2.bin"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", served)
    assert download("gpt") == tmp_path
    assert served.wanted == {"config.json", "tokenizer.json", "pytorch_model.bin", "pytorch_model-1-of-2.bin"}


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            LocalEntryNotFoundError("offline"),
            r"cannot be reached \(LocalEntryNotFoundError\).*'hf download someone/gpt'.*give its path",
        ),
        (ConnectionError("refused"), r"cannot be reached \(ConnectionError\)"),
        (OSError(28, "No space left on device"), r"failed: OSError: \[Errno 28\] No space left on device$"),
        ("not found", "no accessible model of that name on the Hugging Face hub"),
    ],
)
def test_a_failed_download_is_an_error(error: Any, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError) if error == "not found" else error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(OSError, match=problem) as raised:
        glassformer.from_pretrained("someone/gpt")
    assert isinstance(raised.value, FileNotFoundError) == ("No space" not in problem)


@pytest.mark.slow
def test_heavy_packages_are_imported_lazily() -> None:
    script = (
        "import sys, glassformer; assert 'torch' not in sys.modules; glassformer.from_pretrained; "
        "assert not {'gguf', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
