"""Tokenizers as metadata of GGUF files: byte-level BPE ("gpt2") and SentencePiece BPE ("llama")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from glassformer.contracts import Tokenizer
from glassformer.pretrained.gguf.tokenizers import (
    CONTROL,
    NORMAL,
    PRE_TOKENIZERS,
    SPECIAL_TOKENS,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    read_tokenizer,
)
from glassformer.tokenization import PretrainedTokenizer
from glassformer.tokenization.special_tokens import token_content

BYTE = 6
"""Value of ``tokenizer.ggml.token_type`` for a single byte of a SentencePiece tokenizer."""
SAMPLES = ("The 3 cats' 2024 naps, don't they?  Ünïcode\n\n  日本語 🙂 x_y=1;", " a  b\t\tc ", "")
"""Texts that must have the same ids after the way through the metadata."""


def tokenizer_metadata(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """Return the metadata of a tokenizer, with its chat template.

    Args:
        tokenizer: a byte-level BPE with a pre-tokenizer that llama.cpp has a name for, or a BPE with byte
            fallback and "▁" for spaces.
        vocab_size: of the model; ids without a token get unused ones.

    Raises:
        ValueError: another tokenizer.
    """
    if not isinstance(tokenizer, PretrainedTokenizer):
        raise ValueError(f"a {type(tokenizer).__name__} cannot be written as metadata of a .gguf file")
    state = tokenizer.description()
    if state["model"]["type"] != "BPE":
        raise ValueError(f"the tokenizer must be a BPE, got {state['model']['type']}")
    is_sentencepiece = bool(state["model"].get("byte_fallback"))
    added = {token["id"]: token for token in state["added_tokens"]}
    by_id = {i: token for token, i in state["model"]["vocab"].items()}
    by_id |= {i: token["content"] for i, token in added.items()}
    tokens = [by_id.get(i, f"[unused {i}]") for i in range(max(vocab_size, 1 + max(by_id)))]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    unknown = state["model"].get("unk_token")
    types = [_type_of(i, token, by_id, added, unknown, is_sentencepiece) for i, token in enumerate(tokens)]
    metadata: dict[str, Any] = {"tokens": tokens, "token_type": types}
    if is_sentencepiece:
        ranks: dict[str, int] = {}
        for rank, merge in enumerate(merges):
            ranks.setdefault(merge.replace(" ", ""), rank)
        prefix = any(part.get("type") == "Prepend" for part in _parts(state["normalizer"]))
        metadata |= {
            "model": "llama",
            "scores": [float(-ranks.get(token, 0)) for token in tokens],
            "add_space_prefix": prefix,
        }
    else:
        metadata |= {"model": "gpt2", "pre": _pre_tokenizer(state), "merges": merges}
    settings = tokenizer.settings
    for role, key in SPECIAL_TOKENS.items():
        content = token_content(settings.get(f"{role}_token"))
        if content in tokens:
            metadata[f"{key}_token_id"] = tokens.index(content)
    around = tokenizer.add_special_tokens([])
    metadata["add_bos_token"] = around[:1] == [metadata.get("bos_token_id")]
    metadata["add_eos_token"] = around[-1:] == [metadata.get("eos_token_id")] and len(around) > 1
    found = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    template = settings.get("chat_template")
    if isinstance(template, str):
        found["tokenizer.chat_template"] = template
    _check(tokenizer, found)
    return found


def _type_of(
    number: int,
    token: str,
    by_id: Mapping[int, str],
    added: Mapping[int, Mapping[str, Any]],
    unknown: str | None,
    is_sentencepiece: bool,
) -> int:
    if number not in by_id:
        return UNUSED
    if token == unknown:
        return UNKNOWN
    if number in added:
        return CONTROL if added[number]["special"] else USER_DEFINED
    is_byte = is_sentencepiece and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return BYTE if is_byte else NORMAL


def _parts(component: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The parts of a normalizer, which may be a sequence."""
    return [] if component is None else component.get("normalizers", [component])


def _pre_tokenizer(state: Mapping[str, Any]) -> str:
    """The name of llama.cpp for a pre-tokenizer."""
    for name, set_pre_tokenizer in PRE_TOKENIZERS.items():
        other = tokenizers.Tokenizer(tokenizers.models.BPE())
        set_pre_tokenizer(other)
        known = json.loads(other.to_str())
        if all(
            _without_offsets(state[key]) == _without_offsets(known[key])
            for key in ("pre_tokenizer", "normalizer")
        ):
            return name
    raise ValueError(f"llama.cpp has no name for the pre-tokenizer {state['pre_tokenizer']!r:.200}")


def _without_offsets(component: Any) -> Any:
    """A component without the setting of offsets, which does not change the ids."""
    if isinstance(component, dict):
        return {key: _without_offsets(value) for key, value in component.items() if key != "trim_offsets"}
    return [_without_offsets(part) for part in component] if isinstance(component, list) else component


def _check(tokenizer: PretrainedTokenizer, metadata: Mapping[str, Any]) -> None:
    """Raise ValueError if the metadata give other ids."""
    again = read_tokenizer(metadata)
    for text in SAMPLES:
        if again.encode(text) != tokenizer.encode(text):
            raise ValueError(
                f"metadata of .gguf files cannot express the tokenizer: {text[:40]!r} would have other ids"
            )
