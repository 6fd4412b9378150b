"""Hugging Face's ``config.json``, read strictly: what changes the mathematics is translated or refused."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glassformer.choices import suggestion

_NONE = object()

HARMLESS = frozenset(
    """
    _attn_implementation _commit_hash _name_or_path _num_labels architectures attn_implementation
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

OFF: dict[str, tuple[Any, ...]] = {
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
"""Keys of any Hugging Face config that must have the value that does nothing."""

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
"""Their activation to ours."""

GATED = {"gelu": "geglu", "gelu_tanh": "geglu_tanh", "relu": "reglu", "silu": "swiglu"}
"""An activation to the gated network that has it."""


class ConfigReader:
    """The keys of a config, each looked at once; what nobody looked at is refused in the end.

    Args:
        values: the content of ``config.json``.
        source: its path, for messages.
        ignore: keys that the caller takes responsibility for.

    """

    def __init__(self, values: Mapping[str, Any], source: str, ignore: Sequence[str] = ()) -> None:
        self.values, self.source = values, source
        self._looked_at = set(ignore)

    def take(self, *keys: str, default: Any = _NONE) -> Any:
        """The value of the first of these keys that is there; the others are names of it in other versions.

        Raises:
            ValueError: none is there, and there is no default.

        """
        self._looked_at.update(keys)
        for key in keys:
            if self.values.get(key) is not None:
                return self.values[key]
        if default is _NONE:
            raise ValueError(f"{self.source}: the key {keys[0]!r} is missing")
        return default

    def size(self, key: str, default: Any = _NONE, *, null: Any = _NONE, least: int = 1) -> Any:
        """As ``take``, for a whole number.

        Args:
            key: its name.
            default: where there is no such key.
            null: where the key says null. Default: ``default``.
            least: the smallest that it may be.

        Raises:
            ValueError: something else.

        """
        nothing = null is not _NONE and key in self.values
        value = self.take(key, default=null if nothing else default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{self.source}: {key} must be a whole number above {least - 1}, not {value!r}")
        return value

    def number(self, *keys: str, default: Any = _NONE) -> Any:
        """As ``take``, for a number.

        Raises:
            ValueError: something else.

        """
        value = self.take(*keys, default=default)
        if value is not None and not _is_number(value):
            raise ValueError(f"{self.source}: {keys[0]} must be a number, not {value!r}")
        return value

    def numbers(self, key: str, default: Any = _NONE) -> Any:
        """As ``take``, for a number or a list of them.

        Raises:
            ValueError: something else.

        """
        value = self.take(key, default=default)
        if not all(map(_is_number, value if isinstance(value, list) else [value])):
            raise ValueError(f"{self.source}: {key} must be numbers, not {value!r}")
        return value

    def words(self, key: str) -> list[str] | None:
        """A list of words, or None where there is none.

        Raises:
            ValueError: something else.

        """
        value = self.take(key, default=None)
        if value is not None and not (isinstance(value, list) and all(isinstance(w, str) for w in value)):
            raise ValueError(f"{self.source}: {key} must be a list of words, not {value!r}")
        return value

    def inner(self, key: str) -> dict[str, Any]:
        """The keys and values of a JSON object inside the config, without those that are null.

        Raises:
            ValueError: something else.

        """
        value = self.take(key, default={})
        if not isinstance(value, dict):
            raise ValueError(f"{self.source}: {key} must hold keys and values, not {value!r}")
        return {name: inside for name, inside in value.items() if inside is not None}

    def flag(self, key: str, default: bool) -> bool:
        """As ``take``, for true or false.

        Raises:
            ValueError: something else.

        """
        value = self.take(key, default=default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.source}: {key} must be true or false, not {value!r}")
        return value

    def expect(self, key: str, *allowed: Any) -> Any:
        """The value of a key that must be one of those that are implemented; the first where it is not there.

        Raises:
            ValueError: it is another, which is named.

        """
        value = self.take(key, default=allowed[0])
        if value not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            raise ValueError(f"{self.source}: {key} = {value!r} is not implemented, only {choices}")
        return value

    def activation(self, key: str, default: str, *, gated: bool = False) -> str:
        """Our word for an activation, or for the gated network that has it.

        Raises:
            ValueError: one that is not implemented; names the nearest.

        """
        word = ACTIVATIONS[self.choice(key, ACTIVATIONS, default)]
        return GATED[word] if gated else word

    def architecture(self, options: Iterable[str], default: str) -> str:
        """The class that the weights were saved from, one of some.

        Raises:
            ValueError: another; names the nearest.

        """
        return self._among("architectures", (self.words("architectures") or [default])[0], options)

    def choice(self, key: str, options: Iterable[str], default: str) -> str:
        """A word that must be one of some.

        Raises:
            ValueError: another; names the nearest.

        """
        return self._among(key, self.take(key, default=default), options)

    def _among(self, key: str, word: Any, options: Iterable[str]) -> str:
        options = list(options)
        if word not in options:
            near = suggestion(word, options)
            raise ValueError(
                f"{self.source}: {key} = {word!r} is not implemented{near} (there are: {', '.join(options)})"
            )
        return str(word)

    def token(self, key: str, absent: int) -> int:
        """An id; of several the first."""
        self._looked_at.add(key)
        value = self.values.get(key, absent)
        value = value[0] if isinstance(value, list) and value else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self.source}: {key} must be a token id, not {value!r}")
        return value

    def dropout(self, key: str, *others: str, default: float = 0.0) -> float:
        """The one dropout of a model, from a key; warns where other places have another."""
        dropout = float(self.number(key, default=default))
        for other in others:
            value = self.number(other, default=dropout)
            if value != dropout:
                warnings.warn(
                    f"{self.source}: {other} = {value} is read as {key} = {dropout}: a model here has one "
                    "dropout. This changes training only",
                    stacklevel=2,
                )
        return dropout

    def labels(self) -> list[str] | None:
        """Names of classes in their order, each once, or None where the config has none.

        A name that occurs again gets its number behind it, as the second crane of ImageNet.

        Raises:
            ValueError: classes that are not numbered from zero.

        """
        names = self.take("id2label", default=None)
        if names is None:
            return None
        numbers = [str(number) for number in range(len(names) if isinstance(names, dict) else 0)]
        if not numbers or sorted(names) != sorted(numbers):
            raise ValueError(f"{self.source}: id2label must number the classes from 0, not {names!r}")
        labels: list[str] = []
        for number in numbers:
            name = str(names[number])
            labels.append(f"{name} ({number})" if name in labels else name)
        return labels

    def finish(self, harmless: Iterable[str] = ()) -> None:
        """Refuse what is left.

        Raises:
            ValueError: a key that nobody looked at and that may mean something.

        """
        for key, allowed in OFF.items():
            if key not in self._looked_at:
                self.expect(key, *allowed)
        known = self._looked_at | HARMLESS | set(harmless)
        for key, value in self.values.items():
            if key not in known and value is not None:
                raise ValueError(
                    f"{self.source}: the key {key!r} = {value!r} is not known, and might change what the "
                    f"model computes; if it does not, remove it or pass ignore=[{key!r}]"
                )


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold: neither true nor false, infinite or NaN."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) <= sys.float_info.max


def read_config(path: Path) -> dict[str, Any]:
    """The content of ``config.json``, or of another file of settings.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON object.

    """
    if not path.is_file():
        raise FileNotFoundError(f"no model: {path} does not exist")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no JSON object")
    return config
