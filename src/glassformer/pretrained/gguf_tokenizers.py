"""Tokenizers from the metadata of GGUF files: byte-level BPE ("gpt2") and SentencePiece's BPE ("llama")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, processors

from glassformer.choices import choose
from glassformer.tokenization import BPETokenizer, PretrainedTokenizer
from glassformer.tokenization.bpe import is_lossless
from glassformer.tokenization.words import cut_as_gpt2, cut_as_llama3, cut_as_qwen2, cut_as_smollm

_CUTS = {
    "default": cut_as_gpt2,
    "gpt-2": cut_as_gpt2,
    "llama-bpe": cut_as_llama3,
    "qwen2": cut_as_qwen2,
    "smollm": cut_as_smollm,
}
"""How a text is cut into words, by ``tokenizer.ggml.pre``."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""What ``tokenizer.ggml.token_type`` says of a token."""

_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def read_tokenizer(metadata: Mapping[str, Any]) -> PretrainedTokenizer:
    """The tokenizer that the metadata describe.

    Raises:
        ValueError: none is there, it is of a kind that is not implemented, or its lists do not fit.

    """
    kind = choose(_KINDS, str(metadata.get("tokenizer.ggml.model", "none")), "tokenizer.ggml.model")
    try:
        tokens = list(metadata["tokenizer.ggml.tokens"])
        types = list(metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens)))
        if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
            raise ValueError("tokenizer.ggml.tokens and token_type are no list of different tokens")
        tokenizer, always_begins = kind(metadata, tokens, types)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the metadata of its tokenizer are damaged ({error!r})") from error
    for content, type_ in zip(tokens, types, strict=True):
        if type_ in (UNKNOWN, CONTROL):
            tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False)])
        elif type_ == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(content, normalized=False)])
    settings: dict[str, Any] = {}
    for role, word in _ROLES.items():
        token = metadata.get(f"tokenizer.ggml.{word}_token_id")
        if token is not None and 0 <= token < len(tokens):
            settings[f"{role}_token"] = tokens[token]
    if "tokenizer.chat_template" in metadata:
        settings["chat_template"] = metadata["tokenizer.chat_template"]
    if metadata.get("tokenizer.ggml.add_bos_token", always_begins) and "bos_token" in settings:
        _begin_with(tokenizer, settings["bos_token"])
    return (
        BPETokenizer(tokenizer, settings)
        if is_lossless(tokenizer)
        else PretrainedTokenizer(tokenizer, settings)
    )


def _byte_level(
    metadata: Mapping[str, Any], tokens: list[str], types: list[int]
) -> tuple[tokenizers.Tokenizer, bool]:
    """Merges are listed; a word that is a token itself needs none (Llama 3)."""
    cut = str(metadata.get("tokenizer.ggml.pre", "default"))
    cut_words = choose(_CUTS, cut, "tokenizer.ggml.pre")
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=cut == "llama-bpe")
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"its merges do not fit its tokens ({error})") from None
    tokenizer = tokenizers.Tokenizer(model)
    cut_words(tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, cut == "llama-bpe"


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: list[str], types: list[int]
) -> tuple[tokenizers.Tokenizer, bool]:
    """Merges follow from scores: of all pairs that make a token, that of the best score is joined first."""
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    joined = [
        (-scores[token], vocabulary[token[:i]], vocabulary[token[i:]], token[:i], token[i:])
        for token, type_ in zip(tokens, types, strict=True)
        if type_ in (NORMAL, USER_DEFINED)
        for i in range(1, len(token))
        if token[:i] in vocabulary and token[i:] in vocabulary
    ]
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    model = models.BPE(
        vocabulary,
        [(left, right) for *_, left, right in sorted(joined)],
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


_KINDS = {"gpt2": _byte_level, "llama": _sentencepiece}
"""By ``tokenizer.ggml.model``: each gives a tokenizer, and whether texts begin with a mark by default."""


def _begin_with(tokenizer: tokenizers.Tokenizer, mark: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[mark, "$A"],
        pair=[mark, "$A", mark, "$B"],
        special_tokens=[(mark, tokenizer.token_to_id(mark))],
    )
