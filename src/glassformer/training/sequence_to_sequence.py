"""Sequence-to-sequence training on pairs, with teacher forcing (Sutskever et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from glassformer.contracts import Tokenizer
from glassformer.data.batches import Batch, BatchSampler, batched
from glassformer.data.splits import group_split
from glassformer.data.text_datasets import Pair, read_pairs
from glassformer.integers import as_int64
from glassformer.tokenization import BPETokenizer, ByteTokenizer, SymbolTokenizer
from glassformer.tokenization.base import pad_sequences, padding_mask
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.cross_entropy import cross_entropy_sum
from glassformer.training.evaluation import error_rates, mean_loss
from glassformer.training.task import IGNORE_INDEX, Evaluate, Objective, PreparedTask, Task, hash_rows
from glassformer.training.tokenizers import MakeTokenizer, make_tokenizer


@dataclass(frozen=True)
class SequenceToSequence(Objective):
    """-log p(target token t | source, target tokens before t), in nats per token.

    Args:
        start_token: first input of the decoder.
        label_smoothing: probability mass spread evenly over all tokens (Szegedy et al. 2016, section 7).
    """

    unit: ClassVar[str] = "tokens"

    start_token: int
    label_smoothing: float = 0.0

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Loss of a batch of ``source``, ``source_mask`` and ``target``."""
        tensors = batch.tensors
        target = as_int64(tensors["target"], "target")
        decoder_input = F.pad(target[:, :-1], (1, 0), value=self.start_token)
        decoder_input = decoder_input.masked_fill(decoder_input == IGNORE_INDEX, self.start_token)
        logits = model(tensors["source"], decoder_input, attention_mask=tensors["source_mask"])
        return cross_entropy_sum(logits.flatten(0, 1), target.flatten(), self.label_smoothing)

    def count(self, batch: Batch) -> int:
        """Number of target tokens."""
        return int((batch.tensors["target"] != IGNORE_INDEX).sum())


@dataclass(frozen=True)
class EncodedPair:
    """Ids of a source and of its targets, with special tokens."""

    source: list[int]
    targets: list[list[int]]
    references: list[list[int]] = field(default_factory=list)
    """The targets without special tokens and without truncation."""


class PairEncoder:
    """Encoding of pairs as ids that end with an end token.

    Args:
        tokenizer: a tokenizer with an end-of-text token.
        max_tokens: length to which sources and targets are truncated, end token included.

    Raises:
        ValueError: the tokenizer has no end-of-text token, or ``max_tokens`` is below 2.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        if tokenizer.end_of_text is None:
            raise ValueError("sequence-to-sequence training needs a tokenizer with an end-of-text token")
        if max_tokens < 2:
            raise ValueError(f"data.seq_len must be at least 2 (a token and the end token), got {max_tokens}")
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.end_token: int = tokenizer.end_of_text
        self.pad_token = self.end_token if tokenizer.pad_token is None else tokenizer.pad_token

    def encode(self, pair: Pair) -> EncodedPair:
        """The ids of a pair."""
        plain = self.tokenizer.encode_batch([pair.source, *pair.targets])
        source, *targets = ([*ids[: self.max_tokens - 1], self.end_token] for ids in plain)
        return EncodedPair(source, targets, plain[1:])

    def strip(self, ids: Sequence[int]) -> list[int]:
        """Generated ids without end and padding tokens."""
        return [token for token in ids if token not in (self.end_token, self.pad_token)]


class PairBatches:
    """Batches of pairs of similar length; a source with several targets gives as many pairs."""

    def __init__(self, pairs: Sequence[EncodedPair], batch_size: int, seed: int) -> None:
        self.pairs = [(pair.source, target) for pair in pairs for target in pair.targets]
        lengths = [len(source) * 1000 + len(target) for source, target in self.pairs]
        self.sampler = BatchSampler(len(self.pairs), batch_size, seed, lengths)

    def batch(self, step: int) -> Batch:
        """``source`` and ``source_mask`` ``(batch, source seq)``, ``target`` ``(batch, target seq)``."""
        return pair_batch([self.pairs[index] for index in self.sampler.batch(step)])


def pair_batch(pairs: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """A padded batch of pairs (source ids, target ids)."""
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    return Batch(
        {
            "source": pad_sequences(sources, 0),
            "source_mask": padding_mask(sources),
            "target": pad_sequences(targets, IGNORE_INDEX),
        }
    )


class SequenceToSequenceTask(Task):
    """Generate targets for sources, read from a dictionary or a tab-separated file."""

    family = "t5"

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> PreparedTask:
        """Read the pairs and split them by source, so that no source is in two splits."""
        data, task, evaluation = config.data, config.task, config.evaluation
        pairs = group_split(
            read_pairs(data.source), lambda pair: pair.source, data.fractions, data.split_seed
        )
        tokenizer = make_pair_tokenizer(data, pairs["train"]) if tokenizer is None else tokenizer
        encoder = PairEncoder(tokenizer, data.seq_len)
        if task.num_beams > tokenizer.vocab_size:
            raise ValueError(
                f"task.num_beams must be at most the vocabulary size {tokenizer.vocab_size},"
                f" got {task.num_beams}"
            )
        encoded = {split: [encoder.encode(pair) for pair in part] for split, part in pairs.items()}

        def evaluate(split: str, num_generated: int, num_beams: int) -> Evaluate | None:
            held_out = encoded[split]
            if not held_out:
                return None
            return lambda model: evaluate_pairs(
                model, held_out, num_generated, num_beams, evaluation.batch_size, encoder
            )

        return PreparedTask(
            SequenceToSequence(encoder.pad_token, task.label_smoothing),
            PairBatches(encoded["train"], config.batch_size, config.seed),
            data_key=hash_rows([pair.source, *pair.targets] for pair in encoded["train"]),
            model_keywords={
                "vocab_size": tokenizer.vocab_size,
                "start_token": encoder.pad_token,
                "pad_token": encoder.pad_token,
                "end_token": encoder.end_token,
            },
            tokenizer=tokenizer,
            evaluate=evaluate("validation", evaluation.num_generated, num_beams=1),
            test=evaluate("test", len(encoded["test"]), task.num_beams),
            held_out_key=hash_rows(
                [split, pair.source, *pair.references]
                for split in ("validation", "test")
                for pair in encoded[split]
            ),
        )


def make_pair_tokenizer(config: DataConfig, training: Sequence[Pair]) -> Tokenizer:
    """A tokenizer trained on sources and targets together, the byte tokenizer, or one read from a file.

    Raises:
        ValueError: an unknown name.
    """
    texts = [text for pair in training for text in (pair.source, *pair.targets)]
    options: dict[str, MakeTokenizer] = {
        "symbols": lambda config: SymbolTokenizer.train(texts),
        "bpe": lambda config: BPETokenizer.train(texts, config.vocab_size),
        "byte": lambda config: ByteTokenizer(),
    }
    return make_tokenizer(config, options, "tokenizer of pairs")


def evaluate_pairs(
    model: Any,
    pairs: Sequence[EncodedPair],
    num_generated: int,
    num_beams: int,
    batch_size: int,
    encoder: PairEncoder,
) -> dict[str, float]:
    """Loss on all pairs, and error rates of the targets generated for the first ``num_generated`` sources."""
    metrics = {
        "loss": mean_loss(model, SequenceToSequence(encoder.pad_token), evaluation_batches(pairs, batch_size))
    }
    chosen = pairs[:num_generated]
    if not chosen:
        return metrics
    sources = [pair.source for pair in chosen]
    predictions = generate_targets(model, sources, batch_size, num_beams, encoder.max_tokens)
    return metrics | error_rates(
        [encoder.strip(ids) for ids in predictions], [pair.references for pair in chosen]
    )


def evaluation_batches(pairs: Sequence[EncodedPair], batch_size: int) -> Iterator[Batch]:
    """Batches of all pairs, sorted by length."""
    examples = [(pair.source, target) for pair in pairs for target in pair.targets]
    examples.sort(key=lambda example: (len(example[0]), len(example[1])))
    return (pair_batch(group) for group in batched(examples, batch_size))


def generate_targets(
    model: Any, sources: Sequence[list[int]], batch_size: int, num_beams: int, max_new_tokens: int
) -> list[list[int]]:
    """Targets generated for the sources, greedily or by beam search, in the order of the sources."""
    options: dict[str, Any] = {"temperature": 0} if num_beams == 1 else {"num_beams": num_beams}
    by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    targets: list[list[int]] = [[] for _ in sources]
    for group in batched(by_length, batch_size):
        rows = model.generate([sources[index] for index in group], max_new_tokens, **options)
        for index, row in zip(group, rows, strict=True):
            targets[index] = row
    return targets
