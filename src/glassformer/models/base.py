"""The base class of all model families: configuration, saving and loading."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from glassformer.choices import choose, suggestion
from glassformer.files import atomic_path, atomic_write, read_json_object
from glassformer.layers import TransformerBlock
from glassformer.models.block_config import BlockConfig, document_arguments
from glassformer.models.generation_config import (
    known_token_ids,
    read_generation_config,
    select_token_ids,
    write_generation_config,
)
from glassformer.models.weights import build_on_meta, load_tensors, open_tensors
from glassformer.packed_linear import FORMATS, INSTEAD, PackedLinear, check_unchanged
from glassformer.positions import migrate_positions
from glassformer.tokenization import TOKENIZER_FILE, VOCABULARY_FILES, load_tokenizer

if TYPE_CHECKING:
    from glassformer.attention import MultiHeadAttention
    from glassformer.contracts import Tokenizer

FORMAT = "glassformer-1"
_BLOCK_PARTS = {
    *("norm_bias", "input_norm", "output_norm", "qk_norm"),
    *("attention_softcap", "residual_scale"),
}
_GPT_PARTS = {
    *("scale_embeddings", "d_embedding", "embedding_norm"),
    *("head_bias", "logit_scale", "logit_softcap"),
}
_IN_0_2 = {
    *("num_kv_heads", "d_head", "qkv_bias", "out_bias", "ff_bias", "attention_scale", "layer_scale"),
    *_BLOCK_PARTS,
}
ADDED_KEYS: dict[str, set[str]] = {
    "gpt": {"attention_scale", "layer_scale", "pattern"} | _BLOCK_PARTS | _GPT_PARTS,
    "bert": _IN_0_2 | {"pattern", "scale_embeddings"},
    "t5": _IN_0_2 - {"d_head", "attention_scale"} | {"pattern"},
    "vit": _IN_0_2 - {"qkv_bias", "layer_scale"},
}
"""Keys of config.json that version 0.1 does not know: they are saved only if they are not the default."""


class TransformerModel(nn.Module):
    """Base class of the model families.

    A family is a subclass with a ``family`` name and a ``config_class``, whose fields are the keywords of its
    constructor.

    Args:
        config: the hyperparameters.

    """

    family: ClassVar[str]
    config_class: ClassVar[type[BlockConfig]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    families: ClassVar[dict[str, type[TransformerModel]]] = {}
    main_input_name: ClassVar[str] = "input_ids"
    """Name of the first argument of ``forward``, ``"input_ids"`` or ``"pixel_values"``."""
    is_encoder_decoder: ClassVar[bool] = False
    """Whether the model encodes a source text and decodes a target text."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        TransformerModel.families[cls.family] = cls
        if "config_class" in vars(cls):
            cls.__signature__ = inspect.signature(cls.config_class, eval_str=True)  # type: ignore[attr-defined]
            cls.__doc__ = document_arguments(cls.__doc__, cls.config_class)

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer: Tokenizer | None = None
        self.token_ids: dict[str, Any] = {}
        """``bos_token_id``, ``eos_token_id`` and the like in the config of a published model."""
        self.generation_config: dict[str, Any] = {}
        """Content of the ``generation_config.json`` of a published model."""
        self.model_type: str | None = None
        """``model_type`` of a model in Hugging Face's layout, in which it is saved again if possible."""
        self.name: str | None = None
        """Name of a published model, such as ``general.name`` of a .gguf file."""
        self.weights_format: str | None = None
        """Format of the packed weights of a model from ``optimize_for_inference``."""

    @property
    def stop_tokens(self) -> list[int]:
        """The end-of-text tokens of ``generation_config`` or ``token_ids``: by default, they end a text."""
        return self._known_token_ids("eos_token_id")

    def generation_defaults(self) -> dict[str, Any]:
        """Options of generation that come with the model: ``stop_tokens`` and ``pad_id``."""
        pad = self._known_token_ids("pad_token_id")
        return {"stop_tokens": self.stop_tokens, **({"pad_id": pad[0]} if pad else {})}

    def _known_token_ids(self, name: str) -> list[int]:
        return known_token_ids(name, self.config.get("vocab_size", 0), self.generation_config, self.token_ids)

    @property
    def task(self) -> str:
        """What the output is.

        ``"causal_lm"``, ``"seq2seq_lm"``, ``"masked_lm"``, ``"classification"``, ``"token_classification"``,
        or ``"none"`` for the last hidden states.
        """
        return str(self.get_submodule("head").task)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass; can be set."""
        return any(block.gradient_checkpointing for block in self._all_blocks())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        for block in self._all_blocks():
            block.gradient_checkpointing = value

    def _all_blocks(self) -> Iterator[TransformerBlock]:
        return (module for module in self.modules() if isinstance(module, TransformerBlock))

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        """The attention modules by kind, one for each layer."""
        return {"self": [block.attention for block in self._all_blocks()]}

    @classmethod
    def keywords(cls) -> list[str]:
        """The constructor's keywords: names of the hyperparameters."""
        return cls.config_class.names()

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Self:
        """Build a model of a published or small size with random weights.

        Args:
            name: a key of ``presets``.
            overrides: keywords that replace the preset's.

        Raises:
            ValueError: if the preset is unknown.

        """
        return cls(**{**choose(cls.presets, name, f"{cls.family} preset"), **overrides})

    def num_parameters(self) -> int:
        """The number of parameters; shared ones count once."""
        if self.weights_format is None:
            return sum(parameter.numel() for parameter in self.parameters())
        packed = {name: module for name, module in self.named_modules() if isinstance(module, PackedLinear)}
        weights = sum(
            module.in_features * module.out_features
            for name, module in packed.items()
            if f"{name}.weight" not in self.tied_parameters()
        )
        return weights + sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters, except of layers that stay in float32 (``Float32Linear``)."""
        return next(self.parameters()).dtype

    def tied_parameters(self) -> dict[str, str]:
        """Names in the state dict of tied tensors: ``{name: name under which the tensor is saved}``."""
        return {}

    def tie_parameters(self) -> None:
        """Make tied names refer to the same parameter."""
        for name, source in self.tied_parameters().items():
            owner, _, attribute = name.rpartition(".")
            setattr(self.get_submodule(owner), attribute, self.get_parameter(source))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a model from ``optimize_for_inference`` cannot be trained.

        Raises:
            ValueError: if the weights are packed and ``mode`` is True.

        """
        if mode:
            self._check_trainable()
        return super().train(mode)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether parameters get gradients; those of a model from ``optimize_for_inference`` cannot.

        Raises:
            ValueError: if the weights are packed and ``requires_grad`` is True.

        """
        if requires_grad:
            self._check_trainable()
        return super().requires_grad_(requires_grad)

    def _check_trainable(self) -> None:
        if self.weights_format is not None:
            raise ValueError(
                f"a model with packed {self.weights_format} weights cannot be trained: {INSTEAD}"
            )

    def _load_from_state_dict(self, *args: Any) -> None:
        if self.weights_format is not None:  # before any part is loaded, also as a part of another module
            raise ValueError(f"weights cannot be loaded into packed layers: {INSTEAD}")
        super()._load_from_state_dict(*args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self.weights_format is not None:
            check_unchanged(fn)  # before any part is converted
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def untied_state_dict(self) -> dict[str, Tensor]:
        """The state dict with each tied tensor once and all of one type: what is saved."""
        tied, dtype = self.tied_parameters(), self.dtype
        return {name: tensor.to(dtype) for name, tensor in self.state_dict().items() if name not in tied}

    def saved_config(self) -> dict[str, Any]:
        """The hyperparameters as config.json stores them."""
        added = ADDED_KEYS.get(self.family, set())
        defaults = inspect.signature(self.config_class).parameters
        return {
            name: value
            for name, value in self.config.items()
            if name not in added or value != defaults[name].default
        }

    def check_not_rounded(self) -> None:
        """Raise ValueError if the weights are packed in a format that rounds them: they cannot be saved."""
        if self.weights_format is not None and not FORMATS[self.weights_format].is_exact:
            raise ValueError(
                f"the weights are rounded to {self.weights_format} and the original ones are gone: save the "
                "model that was given to optimize_for_inference, and optimize it again after loading"
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and the tokenizer, each atomically.

        ``generation_config`` is written as ``generation_config.json``.

        Args:
            folder: created if it does not exist.

        Raises:
            OSError: if the folder is not writable or the disk is full; existing files are left unchanged.
            ValueError: if the weights are packed in a format that rounds them.

        """
        self.check_not_rounded()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_path(folder / "model.safetensors") as path:
                tensors = {
                    name: tensor.detach().contiguous() for name, tensor in self.untied_state_dict().items()
                }
                save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"cannot write {folder / 'model.safetensors'}: {error}") from error
        save_tokenizer(self.tokenizer, folder)
        write_generation_config(self.generation_config, folder)
        header: dict[str, Any] = {"format": FORMAT, "family": self.family}
        if self.token_ids:
            header["token_ids"] = self.token_ids
        atomic_write(folder / "config.json", json.dumps({**header, **self.saved_config()}, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a model that ``save_pretrained`` saved; ``TransformerModel.from_pretrained`` loads any family.

        The weights are memory-mapped.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the format or family is another, a key is unknown or missing, a file is damaged,
                or a tensor is missing, unexpected or of another shape.

        """
        folder = Path(folder)
        config_path, tensor_path = folder / "config.json", folder / "model.safetensors"
        family, config, token_ids = _read_config(config_path)
        if not issubclass(family, cls):
            raise ValueError(f"{folder} holds a {family.family} model, not a {cls.family} one")
        with open_tensors(tensor_path) as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        model = build_on_meta(family, config, shapes, config_path)
        load_tensors(model, tensor_path)
        if (folder / TOKENIZER_FILE).exists():
            model.tokenizer = load_tokenizer(folder)
        model.token_ids, model.generation_config = token_ids, read_generation_config(folder)
        return model.eval()


def save_tokenizer(tokenizer: Tokenizer | None, folder: Path) -> None:
    """Save a tokenizer, or remove the tokenizer of another model if there is none to save."""
    if tokenizer is not None:
        tokenizer.save(folder)
        return
    for name in (TOKENIZER_FILE, *VOCABULARY_FILES):
        (folder / name).unlink(missing_ok=True)


def _read_config(path: Path) -> tuple[type[TransformerModel], dict[str, Any], dict[str, Any]]:
    """Return the family, its hyperparameters, and the ids of special tokens."""
    config = read_json_object(path)
    if config.pop("format", None) != FORMAT:
        raise ValueError(f'{path} does not have the format "{FORMAT}"')
    try:
        family = choose(TransformerModel.families, str(config.pop("family", "")), "model family")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    token_ids = config.pop("token_ids", {})
    if not isinstance(token_ids, dict):
        raise ValueError(f"{path}: token_ids must be a JSON object, got {token_ids!r:.200}")
    token_ids = select_token_ids(token_ids, path)
    known = family.keywords()
    optional = ADDED_KEYS.get(family.family, set()) | {"pruned_heads"}
    for name in config:
        if name not in known:
            raise ValueError(f"{path}: unknown key {name!r:.100}{suggestion(name, known)}")
    for name in known:
        if name not in config and name not in optional:
            raise ValueError(f"{path}: the key {name!r} is missing")
    if "positions" in config:
        config["positions"] = migrate_positions(config["positions"])
    return family, config, token_ids
