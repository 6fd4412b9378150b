"""Sequence to sequence: write the target of a source (Sutskever et al. 2014), with teacher forcing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from glassformer.choices import choose
from glassformer.contracts import Tokenizer
from glassformer.data.dealing import deal
from glassformer.data.epochs import Epochs
from glassformer.data.examples import Batch, in_groups, padded, real_tokens
from glassformer.data.pairs import Pair, read_pairs
from glassformer.tokenization import ByteTokenizer, SymbolTokenizer
from glassformer.training.config import DataConfig, TrainingConfig
from glassformer.training.error_rates import error_rates
from glassformer.training.evaluation import mean_loss
from glassformer.training.objectives import IGNORED
from glassformer.training.task import Figures, Prepared, digest_of
from glassformer.training.tokenizers import TRAINABLE, Train, names_a_file, read_tokenizer


@dataclass(frozen=True)
class SequenceToSequence:
    """mean of -log p(target token t | source, target tokens before t), in nats per token.

    Args:
        start_token: what the decoder reads first.
        label_smoothing: the part of each target's probability that is given to all tokens alike (Szegedy et
            al. 2016, section 7).

    """

    unit: ClassVar[str] = "tokens"

    start_token: int
    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """The mean loss of a batch of ``source``, ``source_mask`` and ``target``."""
        tensors = batch.tensors
        target = tensors["target"]
        read = F.pad(target[:, :-1], (1, 0), value=self.start_token)
        read = read.masked_fill(read == IGNORED, self.start_token)  # behind the end, where nothing counts
        logits = model(tensors["source"], read, attention_mask=tensors["source_mask"])
        return F.cross_entropy(
            logits.flatten(0, 1).float(),
            target.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )

    def count(self, batch: Batch) -> int:
        """Target tokens."""
        return int((batch.tensors["target"] != IGNORED).sum())


@dataclass(frozen=True)
class EncodedPair:
    """A source and its targets as ids, marks included."""

    source: list[int]
    targets: list[list[int]]
    references: list[list[int]] = field(default_factory=list)
    """The targets without marks, and whole where ``targets`` had to be cut."""


class PairBatches:
    """Batches of pairs of similar length; a source with several targets is that many pairs."""

    def __init__(self, pairs: Sequence[EncodedPair], batch_size: int, seed: int) -> None:
        self.pairs = [(pair.source, target) for pair in pairs for target in pair.targets]
        lengths = [len(source) * 1000 + len(target) for source, target in self.pairs]
        self.epochs = Epochs(len(self.pairs), batch_size, seed, lengths)

    def batch(self, step: int) -> Batch:
        """``source`` and ``source_mask`` ``(batch, source seq)``, ``target`` ``(batch, target seq)``."""
        return pair_batch([self.pairs[place] for place in self.epochs.batch(step)])


def pair_batch(pairs: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Pairs of ids as one batch; targets are filled up with what does not count."""
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    return Batch(
        {
            "source": padded(sources, 0),
            "source_mask": real_tokens(sources),
            "target": padded(targets, IGNORED),
        }
    )


class SequenceToSequenceTask:
    """Write targets for sources, from a dictionary or a tab-separated file."""

    family = "t5"

    def placeholders(self, config: TrainingConfig) -> dict[str, Any]:
        """A vocabulary of bytes."""
        return {"vocab_size": ByteTokenizer().vocab_size}

    def prepare(
        self, config: TrainingConfig, tokenizer: Tokenizer | None, console: Console | None
    ) -> Prepared:
        """Pairs split by source, so that no source is in two parts."""
        data = config.data
        pairs = deal(read_pairs(data.source), lambda pair: pair.source, data.fractions, data.split_seed)
        tokenizer = make_pair_tokenizer(data, pairs["train"]) if tokenizer is None else tokenizer
        marks = MarkedTokens(tokenizer, data.seq_len)
        if config.task.num_beams > tokenizer.vocab_size:
            raise ValueError(
                f"num_beams={config.task.num_beams} is more than the {tokenizer.vocab_size} tokens there are"
            )
        encoded = {split: [marks.encode(pair) for pair in part] for split, part in pairs.items()}
        smoothing = config.task.label_smoothing
        batches = PairBatches(encoded["train"], config.batch_size, config.seed)
        validation, test = encoded["validation"], encoded["test"]
        evaluation = config.evaluation
        return Prepared(
            SequenceToSequence(marks.pad, smoothing),
            batches,
            key=digest_of([pair.source, *pair.targets] for pair in encoded["train"]),
            keywords={
                "vocab_size": tokenizer.vocab_size,
                "start_token": marks.pad,
                "pad_token": marks.pad,
                "end_token": marks.end,
            },
            tokenizer=tokenizer,
            evaluate=_figures(validation, evaluation.generated, 1, evaluation.batch_size, marks)
            if validation
            else None,
            test=_figures(test, len(test), config.task.num_beams, evaluation.batch_size, marks)
            if test
            else None,
        )


PAIR_TOKENIZERS: dict[str, Train] = {
    "symbols": lambda texts, size: SymbolTokenizer.train(texts),
    "bpe": TRAINABLE["bpe"],
    "byte": lambda texts, size: ByteTokenizer(),
}
"""Tokenizers of pairs, learned from both sides, by the word that a config takes for them."""


def make_pair_tokenizer(config: DataConfig, training: Sequence[Pair]) -> Tokenizer:
    """One of ``PAIR_TOKENIZERS``, or that of a file.

    Raises:
        ValueError: another word.
    """
    if names_a_file(config):
        return read_tokenizer(Path(config.tokenizer))
    train = choose(PAIR_TOKENIZERS, config.tokenizer, "tokenizer of pairs (or folder of one)")
    return train((text for pair in training for text in (pair.source, *pair.targets)), config.vocab_size)


class MarkedTokens:
    """Texts as ids that end with a mark.

    Args:
        tokenizer: with an id for the end of a text.
        longest: ids of a source or target at most; the end of a longer one is cut off.

    Raises:
        ValueError: a tokenizer without an end.

    """

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        if tokenizer.end_of_text is None:
            raise ValueError("a target needs an end: choose a tokenizer that has an end-of-text token")
        if longest < 2:
            raise ValueError(f"seq_len must leave room for a token before the end, at least 2, not {longest}")
        self.tokenizer, self.longest = tokenizer, longest
        self.end: int = tokenizer.end_of_text
        self.pad = self.end if tokenizer.pad_token is None else tokenizer.pad_token

    def encode(self, pair: Pair) -> EncodedPair:
        """The pair's ids."""
        plain = self.tokenizer.encode_batch([pair.source, *pair.targets])
        source, *targets = ([*ids[: self.longest - 1], self.end] for ids in plain)
        return EncodedPair(source, targets, plain[1:])

    def written(self, ids: Sequence[int]) -> list[int]:
        """What was written, without its marks."""
        return [token for token in ids if token not in (self.end, self.pad)]


def _figures(
    pairs: Sequence[EncodedPair], num_written: int, num_beams: int, batch_size: int, marks: MarkedTokens
) -> Figures:
    """The loss on all pairs, and error rates of the targets written for the first ``num_written`` sources."""

    def figures(model: Any) -> dict[str, float]:
        batches = held_out_batches(pairs, batch_size)
        figures = {"loss": mean_loss(model, SequenceToSequence(marks.pad), batches)}
        chosen = pairs[:num_written]
        if not chosen:
            return figures
        written = write_targets(model, [pair.source for pair in chosen], batch_size, num_beams, marks.longest)
        return figures | error_rates(
            [marks.written(ids) for ids in written], [pair.references for pair in chosen]
        )

    return figures


def held_out_batches(pairs: Sequence[EncodedPair], batch_size: int) -> Iterator[Batch]:
    """All pairs once, those of similar length together."""
    examples = [(pair.source, target) for pair in pairs for target in pair.targets]
    examples.sort(key=lambda example: (len(example[0]), len(example[1])))
    return (pair_batch(group) for group in in_groups(examples, batch_size))


def write_targets(
    model: Any, sources: Sequence[list[int]], batch_size: int, num_beams: int, longest: int
) -> list[list[int]]:
    """What a model writes for each source, greedily or with beams."""
    options: dict[str, Any] = {"temperature": 0} if num_beams == 1 else {"num_beams": num_beams}
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    written: list[list[int]] = [[] for _ in sources]
    for chosen in in_groups(order, batch_size):
        rows = model.generate([sources[place] for place in chosen], longest, **options)
        for place, row in zip(chosen, rows, strict=True):
            written[place] = row
    return written
