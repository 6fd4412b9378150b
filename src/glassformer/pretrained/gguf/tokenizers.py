"""Tokenizers in the metadata of GGUF files: byte-level BPE ("gpt2") and SentencePiece BPE ("llama")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, processors

from glassformer.choices import choose
from glassformer.tokenization import BPETokenizer, PretrainedTokenizer
from glassformer.tokenization.base import library_errors
from glassformer.tokenization.bpe import is_lossless
from glassformer.tokenization.pre_tokenization import (
    split_like_gpt2,
    split_like_llama3,
    split_like_llama_cpp,
    split_like_qwen2,
    split_like_smollm,
)

PRE_TOKENIZERS = {
    "default": split_like_llama_cpp,
    "gpt-2": split_like_gpt2,
    "llama-bpe": split_like_llama3,
    "qwen2": split_like_qwen2,
    "smollm": split_like_smollm,
}
"""Pre-tokenization by ``tokenizer.ggml.pre``."""

_MAX_TOKEN_LENGTH = 1000
"""In characters; the time to find the merges of a token is quadratic in it."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5
"""Values of ``tokenizer.ggml.token_type``."""

SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}

_TOKEN_ID_KEYS = {
    "bos_token_id": ("bos",),
    "eos_token_id": ("eos", "eot", "eom"),
    "pad_token_id": ("padding",),
}


def read_tokenizer(metadata: Mapping[str, Any]) -> PretrainedTokenizer:
    """Build the tokenizer that the metadata describe.

    Raises:
        ValueError: no tokenizer, a kind that is not implemented, or inconsistent lists.
    """
    with library_errors("build the tokenizer of the metadata"):
        return _read_tokenizer(metadata)


def _read_tokenizer(metadata: Mapping[str, Any]) -> PretrainedTokenizer:
    build = choose(_BUILDERS, str(metadata.get("tokenizer.ggml.model", "none")), "tokenizer.ggml.model")
    try:
        tokens = list(metadata["tokenizer.ggml.tokens"])
        types = list(metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens)))
        if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
            raise ValueError("tokenizer.ggml.tokens must be distinct and have one token_type each")
        if max(map(len, tokens), default=0) > _MAX_TOKEN_LENGTH:
            raise ValueError(f"tokenizer.ggml.tokens must have at most {_MAX_TOKEN_LENGTH} characters each")
        tokenizer, adds_bos = build(metadata, tokens, types)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"invalid tokenizer metadata: {error!r}") from error
    by_type = {
        type_: [t for t, own in zip(tokens, types, strict=True) if own == type_] for type_ in set(types)
    }
    special = [*by_type.get(UNKNOWN, []), *by_type.get(CONTROL, [])]
    tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in special])
    added = [AddedToken(content, normalized=False) for content in by_type.get(USER_DEFINED, [])]
    tokenizer.add_tokens(added)
    settings: dict[str, Any] = {}
    for role, key in SPECIAL_TOKENS.items():
        token = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if type(token) is int and 0 <= token < len(tokens):
            settings[f"{role}_token"] = tokens[token]
    key = "tokenizer.chat_template"
    if key in metadata:
        settings["chat_template"] = metadata[key]
    if others := [name.removeprefix(f"{key}.") for name in metadata if name.startswith(f"{key}.")]:
        templates = {"default": metadata.get(key)} | {name: metadata[f"{key}.{name}"] for name in others}
        settings["chat_template"] = [{"name": n, "template": t} for n, t in templates.items() if t]
    adds = {"bos": adds_bos, "eos": False}
    first, last = (
        [settings[f"{role}_token"]]
        if metadata.get(f"tokenizer.ggml.add_{role}_token", default) and f"{role}_token" in settings
        else []
        for role, default in adds.items()
    )
    _add_around(tokenizer, first, last)
    return (
        BPETokenizer(tokenizer, settings)
        if is_lossless(tokenizer)
        else PretrainedTokenizer(tokenizer, settings)
    )


def read_token_ids(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ids of special tokens by their names in Hugging Face configs.

    Besides the end of text, the ends of a turn and of a message end a generated text.
    """
    found: dict[str, list[int]] = {}
    for name, keys in _TOKEN_ID_KEYS.items():
        values = (metadata.get(f"tokenizer.ggml.{key}_token_id") for key in keys)
        found[name] = list(dict.fromkeys(value for value in values if type(value) is int))
    return {name: ids if len(ids) > 1 else ids[0] for name, ids in found.items() if ids}


def _byte_level(
    metadata: Mapping[str, Any], tokens: list[str], types: list[int]
) -> tuple[tokenizers.Tokenizer, bool]:
    """Build a byte-level BPE tokenizer; with Llama 3, a word that is a token needs no merges."""
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    set_pre_tokenizer = choose(PRE_TOKENIZERS, pre, "tokenizer.ggml.pre")
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    for merge in merges:
        if len(merge) != 2:
            raise ValueError(
                f"tokenizer.ggml.merges must be pairs separated by a space, got {' '.join(merge)!r:.100}"
            )
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe")
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"the merges do not match the tokens: {str(error).splitlines()[0]:.200}") from None
    tokenizer = tokenizers.Tokenizer(model)
    set_pre_tokenizer(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre == "llama-bpe"


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: list[str], types: list[int]
) -> tuple[tokenizers.Tokenizer, bool]:
    """Build a SentencePiece BPE tokenizer, whose merges follow from the scores of the tokens."""
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [
        (-scores[token], vocabulary[token[:i]], vocabulary[token[i:]], token[:i], token[i:])
        for token, type_ in zip(tokens, types, strict=True)
        if type_ in (NORMAL, USER_DEFINED)
        for i in range(1, len(token))
        if token[:i] in vocabulary and token[i:] in vocabulary
    ]
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    if type(unknown) is not int or not 0 <= unknown < len(tokens):
        raise ValueError(f"tokenizer.ggml.unknown_token_id must be the id of a token, got {unknown!r}")
    model = models.BPE(
        vocabulary,
        [(left, right) for *_, left, right in sorted(merges)],
        unk_token=tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    return tokenizer, True


_BUILDERS = {"gpt2": _byte_level, "llama": _sentencepiece}
"""By ``tokenizer.ggml.model``: return the tokenizer and whether it adds the BOS token by default."""


def _add_around(tokenizer: tokenizers.Tokenizer, first: list[str], last: list[str]) -> None:
    """Add tokens before and after each text."""
    if first or last:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*first, "$A", *last],
            pair=[*first, "$A", *last, *first, "$B", *last],
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in {*first, *last}],
        )
