"""Strict reading of Hugging Face's ``config.json``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glassformer.choices import suggestion
from glassformer.terminal import count_of

_MISSING = object()

IGNORED_KEYS = frozenset(
    """
    _attn_implementation _commit_hash _name_or_path _num_labels architectures attn_implementation auto_map
    bad_words_ids begin_suppress_tokens bos_token_id cls_token_id decoder_start_token_id diversity_penalty
    do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id
    gradient_checkpointing id2label initializer_factor initializer_range is_encoder_decoder
    is_llama_config label2id language length_penalty mask_token_id max_length min_length model_type name
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences onnx output_attentions
    output_hidden_states output_past output_scores pad_token_id prefix pretraining_tp
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p
    torch_dtype torchscript transformers.js_config transformers_version typical_p unk_token_id
    unsloth_version use_bfloat16 use_cache
    """.split()  # noqa: SIM905
)
"""Keys of any Hugging Face config that change neither shapes nor logits."""

UNSUPPORTED_FEATURES: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False,),
    "problem_type": (None, "single_label_classification"),
    "pruned_heads": ({},),
    "quantization_config": (None,),
    "rope_interleaved": (False,),
    "tie_encoder_decoder": (False,),
    "use_mrope": (False,),
}
"""Keys of any Hugging Face config for features that are not implemented, and the values that disable them."""

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",  # with sqrt(2 / pi) rounded to ten digits
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Activations of Hugging Face to those of this library."""

GATED_ACTIVATIONS = {"gelu": "geglu", "gelu_tanh": "geglu_tanh", "relu": "reglu", "silu": "swiglu"}
"""Activations to the gated feed-forward activations that use them."""


class ConfigReader:
    """Typed access to the keys of a config; ``check_unused_keys`` rejects the keys that were never read.

    Each ``get_`` method returns the default for a key that is missing or null, and raises a ValueError that
    names the key and its value if the type is wrong, or if the key is missing and has no default.

    Args:
        values: content of ``config.json``.
        source: its path, for error messages.
        ignore: keys that are treated as read.
        max_layers: number of tensors of the checkpoint, which bounds the number of layers. Default: no bound.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        source: str,
        ignore: Sequence[str] = (),
        max_layers: int | None = None,
    ) -> None:
        self.values, self.source, self.max_layers = values, source, max_layers
        self._read_keys = set(ignore)

    def get(self, *keys: str, default: Any = _MISSING) -> Any:
        """Return the value of the first key that is present; further keys are its names in other versions."""
        self._read_keys.update(keys)
        for key in keys:
            if self.values.get(key) is not None:
                return self.values[key]
        if default is _MISSING:
            raise ValueError(f"{self.source}: the key {keys[0]!r} is missing")
        return default

    def first_key(self, *keys: str) -> str:
        """Return the first key that is present, or the last one: names of one key in different versions."""
        return next((key for key in keys if self.values.get(key) is not None), keys[-1])

    def get_int(self, key: str, default: Any = _MISSING, *, null: Any = _MISSING, minimum: int = 1) -> Any:
        """Return an int of at least ``minimum``; ``null`` is the default for a key that is null."""
        is_null = null is not _MISSING and key in self.values
        value = self.get(key, default=null if is_null else default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
            raise ValueError(f"{self.source}: {key} must be an int of at least {minimum}, got {value!r:.200}")
        if value is not None and value >= 2**63:
            raise ValueError(f"{self.source}: {key} must be below 2**63, got {value}")
        return value

    def get_num_layers(self, key: str) -> int:
        """Return a number of layers, for which lists can be made: at most that of the tensors."""
        value: int = self.get_int(key)
        if self.max_layers is not None and value > self.max_layers:
            layers, tensors = count_of(value, "layer"), count_of(self.max_layers, "tensor")
            raise ValueError(f"{self.source}: {layers} cannot be made of {tensors}")
        return value

    def get_float(self, *keys: str, default: Any = _MISSING, null: Any = _MISSING) -> Any:
        """Return a finite number; ``null`` is the default for a key that is null."""
        is_null = null is not _MISSING and keys[0] in self.values
        value = self.get(*keys, default=null if is_null else default)
        if value is not None and not _is_number(value):
            raise ValueError(f"{self.source}: {keys[0]} must be a number, got {value!r:.200}")
        return None if value is None else float(value)

    def get_positive_float(self, key: str, default: float) -> float:
        """Return a number above zero."""
        value: float = self.get_float(key, default=default)
        if value <= 0:
            raise ValueError(f"{self.source}: {key} must be positive, got {value}")
        return value

    def get_floats(self, key: str, default: Any = _MISSING) -> Any:
        """Return a finite number or a list of them."""
        value = self.get(key, default=default)
        if not all(map(_is_number, value if isinstance(value, list) else [value])):
            raise ValueError(
                f"{self.source}: {key} must be a number or a list of numbers, got {value!r:.200}"
            )
        return value

    def get_ints(self, key: str, default: list[int]) -> list[int]:
        """Return a list of ints."""
        value = self.get(key, default=default)
        is_int = [isinstance(v, int) for v in value] if isinstance(value, list) else [False]
        if not all(is_int):
            raise ValueError(f"{self.source}: {key} must be a list of ints, got {value!r:.200}")
        return list(value)

    def get_strings(self, key: str) -> list[str] | None:
        """Return a list of strings, or None if the key is missing."""
        value = self.get(key, default=None)
        if value is not None and not (isinstance(value, list) and all(isinstance(w, str) for w in value)):
            raise ValueError(f"{self.source}: {key} must be a list of strings, got {value!r:.200}")
        return value

    def get_dict(self, key: str) -> dict[str, Any]:
        """Return a JSON object without the keys that are null."""
        value = self.get(key, default={})
        if not isinstance(value, dict):
            raise ValueError(f"{self.source}: {key} must be a JSON object, got {value!r:.200}")
        return {name: inner for name, inner in value.items() if inner is not None}

    def get_bool(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.get(key, default=default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.source}: {key} must be true or false, got {value!r:.200}")
        return value

    def get_choice(self, key: str, options: Iterable[str], default: str) -> str:
        """Return a string that is one of the options."""
        return self._check_choice(key, self.get(key, default=default), options)

    def get_activation(self, key: str, default: str, *, gated: bool = False) -> str:
        """Return the name in this library of an activation, or of the gated activation that uses it."""
        name = ACTIVATIONS[self.get_choice(key, ACTIVATIONS, default)]
        return GATED_ACTIVATIONS[name] if gated else name

    def get_architecture(self, options: Iterable[str], default: str) -> str:
        """Return the name of the class that saved the weights, which must be one of the options."""
        names = self.get_strings("architectures") or [default]
        return self._check_choice("architectures", names[0], options)

    def _check_choice(self, key: str, value: Any, options: Iterable[str]) -> str:
        options = list(options)
        if value not in options:
            near = suggestion(value, options)
            raise ValueError(
                f"{self.source}: {key} = {value!r:.200} is not implemented{near} "
                f"(there are: {', '.join(options)})"
            )
        return str(value)

    def get_token_id(self, key: str, default: int) -> int:
        """Return a token id; of a list the first."""
        self._read_keys.add(key)
        value = self.values.get(key, default)
        value = value[0] if isinstance(value, list) and value else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self.source}: {key} must be a token id, got {value!r:.200}")
        return value

    def get_dropout(self, key: str, *others: str, default: float = 0.0) -> float:
        """Return the dropout of a model; warn if other keys have a different value."""
        dropout = float(self.get_float(key, default=default))
        for other in others:
            value = self.get_float(other, default=dropout)
            if value != dropout:
                warnings.warn(
                    f"{self.source}: {other} = {value} is replaced by {key} = {dropout}, because a model has "
                    "only one dropout here; this changes training only",
                    stacklevel=2,
                )
        return dropout

    def get_labels(self) -> list[str] | None:
        """Return the class names of ``id2label`` in order, or None if it is missing.

        A repeated name gets its index as suffix, such as the second "crane" of ImageNet.
        """
        names = self.get("id2label", default=None)
        if names is None:
            return None
        indices = [str(i) for i in range(len(names) if isinstance(names, dict) else 0)]
        if not indices or names.keys() != set(indices):
            raise ValueError(f"{self.source}: id2label must number the classes from 0, got {names!r:.200}")
        labels, seen = [], set[str]()
        for index in indices:
            name = str(names[index])
            labels.append(f"{name} ({index})" if name in seen else name)
            seen.add(labels[-1])
        return labels

    def expect(self, key: str, *allowed: Any) -> Any:
        """Return a value that must be one of those implemented; the first is the default.

        Raises:
            ValueError: another value.
        """
        value = self.get(key, default=allowed[0])
        if value not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            raise ValueError(f"{self.source}: {key} = {value!r:.200} is not implemented, only {choices}")
        return value

    def check_unused_keys(self, ignored: Iterable[str] = ()) -> None:
        """Reject keys that were not read.

        Args:
            ignored: keys that do not change the model, in addition to ``IGNORED_KEYS``.

        Raises:
            ValueError: a key that might change what the model computes.
        """
        for key, allowed in UNSUPPORTED_FEATURES.items():
            if key not in self._read_keys:
                self.expect(key, *allowed)
        known = self._read_keys | IGNORED_KEYS | set(ignored)
        for key, value in self.values.items():
            if key not in known and value is not None:
                name = f"{key:.100}"
                raise ValueError(
                    f"{self.source}: unknown key {name!r} = {value!r:.200}, which might change what the "
                    f"model computes; if it does not, remove it or pass ignore=[{name!r}]"
                )


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number that fits a float, and not a bool."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max
