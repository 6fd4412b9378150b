"""What every model family shares: its configuration, its parameters counted, saved and loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassformer.choices import choose, suggestion
from glassformer.files import atomic_path, atomic_write
from glassformer.tokenization import TOKENIZER_FILE, VOCABULARY_FILES, load_tokenizer

if TYPE_CHECKING:
    from glassformer.contracts import Tokenizer

FORMAT = "glassformer-1"
ADDED_LATER = frozenset({"pruned_heads"})
"""Keywords that files written before there was such a one do not have: there they take their default."""


class TransformerModel(nn.Module):
    """A model that knows the keywords it was built from, and can be written to a folder and read back.

    A family is a subclass that names itself, lists its presets, and calls ``super().__init__(locals())``
    first.

    Args:
        keywords: the constructor's local variables; those that are parameters become ``config``.

    """

    family: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    families: ClassVar[dict[str, type[TransformerModel]]] = {}
    main_input_name: ClassVar[str] = "input_ids"
    """The first argument of ``forward``: ``"input_ids"`` or ``"pixel_values"``."""
    is_encoder_decoder: ClassVar[bool] = False
    """Whether the model encodes a source text and decodes a target text."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        TransformerModel.families[cls.family] = cls

    def __init__(self, keywords: Mapping[str, Any]) -> None:
        super().__init__()
        self.config: dict[str, Any] = {name: keywords[name] for name in self.keywords()}
        self.tokenizer: Tokenizer | None = None

    @property
    def task(self) -> str:
        """What the output is.

        ``"causal_lm"``, ``"seq2seq_lm"``, ``"masked_lm"``, ``"classification"``, ``"token_classification"``,
        or ``"none"`` for the last hidden states.
        """
        return str(self.get_submodule("head").task)

    @classmethod
    def keywords(cls) -> list[str]:
        """The constructor's keywords, in their order."""
        return list(inspect.signature(cls).parameters)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Self:
        """A new model with random weights in a published, or a small, size.

        Args:
            name: a key of the family's ``PRESETS``.
            overrides: keywords that replace the preset's.

        Raises:
            ValueError: an unknown preset; names the nearest.

        """
        return cls(**{**choose(cls.presets, name, f"{cls.family} preset"), **overrides})

    def num_parameters(self) -> int:
        """Parameters, each counted once, however many places share it."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def tied_parameters(self) -> dict[str, str]:
        """Names in the state that are the same tensor as another: ``{name: the name that is saved}``."""
        return {}

    def tie_parameters(self) -> None:
        """Make each tied name the same parameter again, as after loading."""
        for name, source in self.tied_parameters().items():
            owner, _, attribute = name.rpartition(".")
            setattr(self.get_submodule(owner), attribute, self.get_parameter(source))

    def own_state(self) -> dict[str, Tensor]:
        """The state without tied doubles: what is written to a file."""
        tied = self.tied_parameters()
        return {name: tensor for name, tensor in self.state_dict().items() if name not in tied}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and the tokenizer, each whole or not at all.

        Args:
            folder: created where it does not exist.

        Raises:
            OSError: not writable, or the disk is full; files that were there stay as they were.

        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_path(folder / "model.safetensors") as path:
                tensors = {name: tensor.detach().contiguous() for name, tensor in self.own_state().items()}
                save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"cannot write {folder / 'model.safetensors'}: {error}") from error
        save_tokenizer(self.tokenizer, folder)
        header = {"format": FORMAT, "family": self.family}
        atomic_write(folder / "config.json", json.dumps({**header, **self.config}, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read what ``save_pretrained`` wrote. Called on ``TransformerModel``, it reads any family.

        The weights are mapped from the file, so they take no more memory than their own size.

        Raises:
            FileNotFoundError: a missing file.
            ValueError: another format or family, an unknown or missing key, a damaged file, or a tensor
                that is missing, extra or of another shape (each is named).

        """
        folder = Path(folder)
        family, config = _read_config(folder / "config.json")
        if not issubclass(family, cls):
            raise ValueError(f"{folder} holds a {family.family} model, not a {cls.family} one")
        with _open_tensors(folder / "model.safetensors") as file:
            check_layers(config, len(file.keys()), folder / "config.json")
        try:
            with shapes_only():
                model = family(**config)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{folder / 'config.json'} describes no model: {error}") from error
        load_tensors(model, folder / "model.safetensors")
        if (folder / TOKENIZER_FILE).exists():
            model.tokenizer = load_tokenizer(folder)
        return model.eval()


def save_tokenizer(tokenizer: Tokenizer | None, folder: Path) -> None:
    """Write a model's tokenizer; where it has none, remove one that was there, for it is another model's."""
    if tokenizer is not None:
        tokenizer.save(folder)
        return
    for name in (TOKENIZER_FILE, *VOCABULARY_FILES):
        (folder / name).unlink(missing_ok=True)


def check_layers(config: Mapping[str, Any], tensors: int, source: object) -> None:
    """Refuse more layers than there are tensors, before they are built.

    Args:
        config: keywords of a model.
        tensors: how many there are to fill it.
        source: where the keywords come from, for the message.

    Raises:
        ValueError: more layers than tensors.

    """
    counts = (config.get(name) for name in ("num_layers", "num_decoder_layers"))
    layers = sum(count for count in counts if isinstance(count, int))
    if layers > tensors:
        raise ValueError(f"{source}: {layers} layers cannot be made of {tensors} tensors")


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, models are built without memory for their parameters, and without drawing random numbers."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Random initialization does nothing (on the meta device it would first import PyTorch's compiler)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_", "trunc_normal_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_tensors(model: TransformerModel, path: Path) -> None:
    """Give a model, on the meta device or not, the tensors of a safetensors file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or tensors that are not exactly the model's.

    """
    with _open_tensors(path) as file:
        headers = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(header.get_shape()) for name, header in headers.items()}
        _check_tensors(shapes, model.own_state(), path)
        for name, header in headers.items():
            if "F" not in header.get_dtype():
                raise ValueError(f"{path}: {name} holds {header.get_dtype()}, not floating-point numbers")
        tensors = {name: file.get_tensor(name) for name in shapes}
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_parameters()


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise FileNotFoundError(f"no weights: {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _check_tensors(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor], path: Path) -> None:
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is not part of the model" for name in found if name not in expected]
    for name, shape in found.items():
        if name in expected and shape != tuple(expected[name].shape):
            wrong.append(f"{name} has shape {shape}, the model needs {tuple(expected[name].shape)}")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{path} does not fit the model: {'; '.join(wrong[:5])}{more}")


def _read_config(path: Path) -> tuple[type[TransformerModel], dict[str, Any]]:
    if not path.exists():
        raise FileNotFoundError(f"no model: {path} does not exist")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
        raise ValueError(f'{path} is not of the format "{FORMAT}"')
    family = choose(TransformerModel.families, str(config.pop("family", "")), "model family")
    known = family.keywords()
    for name in config:
        if name not in known:
            raise ValueError(f"{path}: unknown key {name!r}{suggestion(name, known)}")
    for name in known:
        if name not in config and name not in ADDED_LATER:
            raise ValueError(f"{path}: the key {name!r} is missing")
    return family, config
