"""Readers of files with a valid sample each, and what is done with what they return."""

from __future__ import annotations

import base64
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from glassformer import from_pretrained, save_pretrained
from glassformer.analysis import HeadReport
from glassformer.analysis.behaviors.evaluate import TaskScores
from glassformer.analysis.image_inputs import preprocess_image
from glassformer.analysis.partial_results import PartialResults
from glassformer.data.corpora import documents
from glassformer.data.images import read_images
from glassformer.data.text_datasets import read_labeled_texts, read_pairs
from glassformer.data.token_files import TokenFiles
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel, ViTModel
from glassformer.tokenization import (
    BPETokenizer,
    CharacterTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
    load_tokenizer,
)
from glassformer.tokenization.tiktoken_format import merges_from_ranks, read_ranks
from glassformer.training.checkpoints import Checkpoints
from glassformer.training.config import TrainingConfig
from glassformer.training.config_files import load_config
from glassformer.training.metrics_files import JsonLines
from glassformer.visualization.figures.head_map import draw_head_map
from glassformer.visualization.server.schema import parse_request

VERSION_0_1 = Path(__file__).parent.parent / "compatibility" / "version_0_1"
TEXT = "The cat sat on the mat, and the dog sat on the log.\nA second line: é 😀.\n"


@dataclass(frozen=True)
class Reader:
    """A reader of one file of a folder.

    Args:
        name: of the row in the table.
        file: path of the file that is damaged, inside a sample's folder.
        read: reads the file and uses what it got; called with the sample's folder and the path of the file.
        in_memory: whether the reader is given bytes, so that its messages cannot name a file.
    """

    name: str
    file: Path
    folder: Path
    read: Callable[[Path, Path], object]
    in_memory: bool = False


def build_readers(folder: Path) -> list[Reader]:
    """Write a valid sample for each reader into the folder."""
    torch.manual_seed(0)
    return [
        *_models(folder / "models"),
        *_published(folder / "published"),
        *_gguf(folder / "gguf"),
        *_tokenizers(folder / "tokenizers"),
        *_data(folder / "data"),
        *_training(folder / "training"),
        *_reports(folder / "reports"),
    ]


def _readers(folder: Path, prefix: str, files: dict[str, Callable[[Path, Path], object]]) -> Iterator[Reader]:
    for file, read in files.items():
        yield Reader(f"{prefix}{file}", folder / file, folder, read)


# ------------------------------------------------------------------------------------------------ models


@torch.no_grad()
def _use_model(folder: Path, path: Path) -> None:
    """Load a model and compute an output: what is accepted must also run."""
    _run(from_pretrained(path if path.suffix == ".gguf" else folder))


def _run(model: TransformerModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(model, ViTModel):
            size, channels = model.config["image_size"], model.config["num_channels"]
            model(torch.zeros(1, channels, size, size, dtype=next(model.parameters()).dtype))
        elif isinstance(model, T5Model):
            model(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long))
        else:
            model(torch.zeros(1, 3, dtype=torch.long))


def _models(folder: Path) -> Iterator[Reader]:
    for name in ("gpt", "gpt_pruned", "gpt_rotary_yarn", "bert_classes", "t5", "vit"):
        shutil.copytree(VERSION_0_1 / "models" / name, folder / name)
        yield from _readers(folder / name, f"{name}/", {"config.json": _use_model})
    yield from _readers(folder / "gpt", "gpt/", {"model.safetensors": _use_model})


SMALL = {"vocab_size": 61, "d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 32, "max_seq_len": 24}
LLAMA = {
    "positions": "rotary",
    "norm": "rms",
    "activation": "swiglu",
    "bias": False,
    "num_kv_heads": 1,
}
"""What differs in a model of the llama architecture."""


def _published(folder: Path) -> Iterator[Reader]:
    models: dict[str, TransformerModel] = {
        "gpt2": GPTModel(**SMALL),
        "llama": GPTModel(**SMALL, **LLAMA),
        "bert": BERTModel(**SMALL, head="classification", labels=["a", "b", "c"]),
        "t5": T5Model(**{k: v for k, v in SMALL.items() if k != "max_seq_len"}),
        "vit": ViTModel(
            image_size=8, patch_size=4, d_model=16, num_layers=2, num_heads=2, d_ff=32, labels=["a", "b"]
        ),
    }
    for name, model in models.items():
        save_pretrained(model, folder / name, format="huggingface")
        yield from _readers(folder / name, f"published {name}/", {"config.json": _use_model})
    (folder / "gpt2" / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [1, 2], "temperature": 0.5, "top_k": 4, "do_sample": True})
    )
    yield from _readers(folder / "gpt2", "published gpt2/", {"generation_config.json": _use_model})
    yield from _readers(folder / "vit", "published vit/", {"preprocessor_config.json": _use_model})
    yield from _readers(folder / "llama", "published llama/", {"model.safetensors": _use_model})
    _write_shards(folder / "gpt2", folder / "shards")
    yield from _readers(folder / "shards", "published shards/", {"model.safetensors.index.json": _use_model})
    shutil.copytree(folder / "bert", folder / "bin")
    from safetensors.torch import load_file

    torch.save(load_file(folder / "bin" / "model.safetensors"), folder / "bin" / "pytorch_model.bin")
    (folder / "bin" / "model.safetensors").unlink()
    yield from _readers(folder / "bin", "published bert/", {"pytorch_model.bin": _use_model})


def _write_shards(source: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    names = sorted(tensors)
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


def _gguf(folder: Path) -> Iterator[Reader]:
    import gguf

    folder.mkdir()
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(24)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    tokens = ["<s>", "</s>", *map(chr, range(33, 90)), "AB", "CD"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["A B", "C D"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {
        "token_embd": (len(tokens), 32),
        "output_norm": (32,),
        **{f"blk.0.{part}_norm": (32,) for part in ("attn", "ffn")},
        **{f"blk.0.{part}": (32, 32) for part in ("attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down")},
        **{f"blk.0.{part}": (16, 32) for part in ("attn_k", "attn_v")},
    }
    for name, shape in shapes.items():
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        if len(shape) == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    yield from _readers(folder, "", {"model.gguf": _use_model})


# -------------------------------------------------------------------------------------------- tokenizers


def _use_tokenizer(folder: Path, path: Path) -> None:
    """Load a tokenizer, encode and decode, and load what it saves."""
    tokenizer = load_tokenizer(folder)
    # A tokenizer of characters refuses those that it does not know.
    text = tokenizer.characters[:10] if isinstance(tokenizer, CharacterTokenizer) else "The cat sat. 1234"
    ids = tokenizer.encode(text)
    tokenizer.decode(ids)
    copy = folder / "saved"
    copy.mkdir(exist_ok=True)
    try:
        tokenizer.save(copy)
        if load_tokenizer(copy).encode(text) != ids:
            raise AssertionError("the saved tokenizer gives other ids")
    finally:
        shutil.rmtree(copy)


def _use_ranks(folder: Path, path: Path) -> None:
    merges_from_ranks(read_ranks(path))


def _tokenizers(folder: Path) -> Iterator[Reader]:
    texts = [TEXT * 5]
    for name, tokenizer in {
        "bpe": BPETokenizer.train(texts, vocab_size=300),
        "wordpiece": WordPieceTokenizer.train(texts, vocab_size=80),
        "characters": CharacterTokenizer.train(texts),
        "symbols": SymbolTokenizer.train(texts),
    }.items():
        (folder / name).mkdir(parents=True)
        tokenizer.save(folder / name)
        yield from _readers(folder / name, f"{name}/", {"tokenizer.json": _use_tokenizer})
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 512,
        "cls_token": "[CLS]",
    }
    (folder / "vocab").mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghst", "##a", "##t", "the", "cat"]
    (folder / "vocab" / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "vocab" / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "vocab" / "special_tokens_map.json").write_text(
        json.dumps({"unk_token": "[UNK]", "sep_token": "[SEP]"})
    )
    (folder / "vocab" / "added_tokens.json").write_text(json.dumps({"[E1]": len(words)}))
    files = ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    yield from _readers(folder / "vocab", "vocab/", dict.fromkeys(files, _use_tokenizer))
    shutil.copytree(folder / "vocab", folder / "added")
    settings["added_tokens_decoder"] = {
        "3": {"content": "[SEP]", "special": True},
        str(len(words)): {"content": "[E1]", "lstrip": True, "normalized": False},
    }
    (folder / "added" / "tokenizer_config.json").write_text(json.dumps(settings))
    yield from _readers(folder / "added", "added/", {"tokenizer_config.json": _use_tokenizer})
    content = json.loads((folder / "bpe" / "tokenizer.json").read_text())["model"]
    (folder / "merges").mkdir()
    (folder / "merges" / "vocab.json").write_text(
        json.dumps({**content["vocab"], "<|endoftext|>": len(content["vocab"])})
    )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["merges"]]
    (folder / "merges" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    yield from _readers(
        folder / "merges", "merges/", dict.fromkeys(("vocab.json", "merges.txt"), _use_tokenizer)
    )
    (folder / "ranks").mkdir()
    ranks = [bytes([i]) for i in range(256)] + [b"th", b"the", b"ca", b"cat"]
    (folder / "ranks" / "x.tiktoken").write_bytes(
        b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(ranks))
    )
    yield from _readers(folder / "ranks", "", {"x.tiktoken": _use_ranks})


# -------------------------------------------------------------------------------------------------- data


def _use_image(folder: Path, path: Path) -> None:
    preprocess_image(from_pretrained(VERSION_0_1 / "models" / "vit"), path)


def _use_token_files(folder: Path, path: Path) -> None:
    files = TokenFiles.open(folder, verify=True)
    for file in files.splits.values():
        file.tokens.sum()


def _data(folder: Path) -> Iterator[Reader]:
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    (folder / "texts.jsonl").write_text(
        "\n".join(json.dumps({"text": TEXT, "label": i}) for i in range(3)) + "\n"
    )
    (folder / "pairs.tsv").write_text("c a t\tK AE T\nd o g\tD AO G\n")
    np.savez_compressed(
        folder / "images.npz",
        images=np.random.default_rng(0).integers(0, 256, (20, 5, 5), np.uint8),
        labels=np.arange(20) % 3,
    )
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "gif", "bmp"):
        pixels.save(folder / f"image.{suffix}")
    yield from _readers(
        folder,
        "",
        {
            "text.txt": lambda _, path: [document.text for document in documents(path)],
            "texts.jsonl": lambda _, path: (list(documents(path)), read_labeled_texts(path)),
            "pairs.tsv": lambda _, path: read_pairs(path),
            "images.npz": lambda folder, path: read_images(str(path), folder, (0.6, 0.2, 0.2), 0),
            **{f"image.{suffix}": _use_image for suffix in ("png", "jpg", "gif", "bmp")},
        },
    )
    (source,) = (path.parent for path in (VERSION_0_1 / "tokens").glob("*/header.json"))
    shutil.copytree(source, folder / "tokens")
    yield from _readers(
        folder / "tokens", "tokens/", dict.fromkeys(("header.json", "train.bin"), _use_token_files)
    )
    request = {
        "text": "The cat",
        "generated": [1, 2],
        "ablated_heads": ["0.1"],
        "temperature": 0.5,
        "top_k": 3,
    }
    (folder / "request.json").write_text(json.dumps(request))
    yield Reader(
        "server request", folder / "request.json", folder, lambda _, p: parse_request(p.read_bytes()), True
    )


# --------------------------------------------------------------------------------- training and analysis


def _restore(folder: Path, path: Path) -> None:
    model = from_pretrained(VERSION_0_1 / "run" / "checkpoints" / folder.name)
    Checkpoints(folder.parent).restore(folder, model, torch.optim.AdamW(model.parameters()))


def _use_rows(folder: Path, path: Path) -> None:
    JsonLines(path).rows()


def _training(folder: Path) -> Iterator[Reader]:
    shutil.copytree(VERSION_0_1 / "run", folder, symlinks=True)
    yield from _readers(
        folder,
        "run/",
        {"config.toml": lambda _, path: load_config(path, TrainingConfig()), "metrics.jsonl": _use_rows},
    )
    checkpoint = Checkpoints(folder / "checkpoints").latest()
    assert checkpoint is not None
    files = ("state.json", "optimizer.safetensors", "random.safetensors", "model.safetensors")
    yield from _readers(checkpoint, "checkpoint/", dict.fromkeys(files, _restore))


def _use_report(folder: Path, path: Path) -> None:
    report = HeadReport.load(path)
    report.best()
    draw_head_map(report)


def _use_scores(folder: Path, path: Path) -> None:
    partial = PartialResults(folder, json.loads((VERSION_0_1 / "ablation" / "settings.json").read_text()))
    partial.read("heads", TaskScores.from_json)


def _use_sums(folder: Path, path: Path) -> None:
    partial = PartialResults(folder, json.loads((VERSION_0_1 / "analysis" / "settings.json").read_text()))
    partial.read("items")
    partial.read_tensors("model distances")


def _reports(folder: Path) -> Iterator[Reader]:
    shutil.copytree(VERSION_0_1 / "analysis", folder / "analysis")
    shutil.copytree(VERSION_0_1 / "ablation", folder / "ablation")
    yield from _readers(folder / "analysis", "analysis/", {"heads.json": _use_report})
    files = ("settings.json", "parts/heads.json")
    yield from _readers(folder / "ablation", "ablation/", dict.fromkeys(files, _use_scores))
    files = ("parts/items.json", "parts/model distances.safetensors.z")
    yield from _readers(folder / "analysis", "analysis/", dict.fromkeys(files, _use_sums))
