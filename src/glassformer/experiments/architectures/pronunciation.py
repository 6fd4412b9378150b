"""Fine-tuning a pretrained setup to pronounce words, as each can.

causal, prefix   word, separator, phonemes in one row; the prefix is the word and the separator
masked           word, separator, masks: all phonemes at once, those behind the last are the end token
span             the word is the source and the phonemes are the target
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.attention import causal, prefix
from glassformer.data.batches import Batch, batched
from glassformer.data.text_datasets import Pair, read_pairs
from glassformer.eval_mode import eval_mode
from glassformer.experiments.architectures.setup import END, MASK, SEPARATOR, Setup
from glassformer.tokenization.base import pad_sequences, padding_mask
from glassformer.training.cross_entropy import cross_entropy_sum
from glassformer.training.evaluation import error_rates
from glassformer.training.task import IGNORE_INDEX, Objective


def words(settings: Mapping[str, Any]) -> tuple[list[Pair], list[Pair]]:
    """Training and test words with their pronunciations, which fit the model; the seed decides the split."""
    limit = settings["max_letters"], settings["max_phonemes"]
    pairs = [
        pair
        for pair in read_pairs(settings["pairs"])
        if len(letters(pair)) <= limit[0] and len(pair.targets[0]) < limit[1]
    ]
    random.Random(f"words {settings['seed']}").shuffle(pairs)
    count = settings["num_test_words"]
    return pairs[count:], pairs[:count]


def letters(pair: Pair) -> list[int]:
    """The bytes of a word, without the spaces between its letters."""
    return list(pair.source.replace(" ", "").encode())


class Pronunciation(Objective):
    """-log p(phonemes | word), in nats per byte.

    Args:
        setup: decides how the word and the phonemes are arranged.
    """

    unit: ClassVar[str] = "tokens"

    def __init__(self, setup: Setup) -> None:
        self.arrange = ARRANGEMENTS[setup.name](setup.settings)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Loss of a batch of the arrangement."""
        logits = self.arrange.logits(model, batch.tensors)
        return cross_entropy_sum(logits.flatten(0, 1), batch.tensors["targets"].flatten())

    def count(self, batch: Batch) -> int:
        """Number of target bytes, end tokens included."""
        return int((batch.tensors["targets"] != IGNORE_INDEX).sum())


class DecoderArrangement:
    """Word, separator and phonemes in one row of a decoder."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def mask(self, lengths: Tensor) -> Any:
        """The model's own."""
        return None

    def collate(self, pairs: Sequence[Pair]) -> Batch:
        """Rows padded on the right; the targets of the word are ignored."""
        sources = [[*letters(pair), SEPARATOR] for pair in pairs]
        rows = [
            [*source, *pair.targets[0].encode(), END] for source, pair in zip(sources, pairs, strict=True)
        ]
        ids = pad_sequences(rows, END)
        lengths = torch.tensor([len(source) for source in sources])
        slots = torch.arange(1, ids.size(1))
        real = padding_mask(rows)[:, 1:] & (slots >= lengths[:, None])
        targets = ids[:, 1:].masked_fill(~real, IGNORE_INDEX)
        return Batch({"ids": ids[:, :-1], "lengths": lengths, "targets": targets})

    def logits(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """``(batch, seq, vocab_size)``; padding on the right is not seen by earlier bytes."""
        found: Tensor = model(tensors["ids"], mask=self.mask(tensors["lengths"]))
        return found

    def generate(self, model: Any, pairs: Sequence[Pair]) -> list[list[int]]:
        """Phonemes of each word by greedy search, from rows of the same length at a time."""
        found: dict[int, list[int]] = {}
        by_length: dict[int, list[int]] = {}
        for number, pair in enumerate(pairs):
            by_length.setdefault(len(letters(pair)), []).append(number)
        for numbers in by_length.values():
            for some in batched(numbers, self.settings["evaluation_batch"]):
                ids = torch.tensor([[*letters(pairs[number]), SEPARATOR] for number in some])
                lengths = torch.full((len(some),), ids.size(1))
                start = ids.size(1)
                for _ in range(self.settings["max_phonemes"]):
                    logits = model(ids, mask=self.mask(lengths))[:, -1]
                    ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
                    if bool((ids[:, start:] == END).any(1).all()):
                        break
                found |= dict(zip(some, ids[:, start:].tolist(), strict=True))
        return [found[number] for number in range(len(pairs))]


class PrefixArrangement(DecoderArrangement):
    """The same, with the word and the separator as the prefix."""

    def mask(self, lengths: Tensor) -> Any:
        """That of a prefix language model."""
        return causal() | prefix(lengths)


class MaskedArrangement(DecoderArrangement):
    """Word, separator and masks; the bytes behind the phonemes are the end token."""

    def collate(self, pairs: Sequence[Pair]) -> Batch:
        """Rows of the word and ``max_phonemes`` masks, padded on the right."""
        count = self.settings["max_phonemes"]
        sources = [[*letters(pair), SEPARATOR] for pair in pairs]
        rows = [[*source, *[MASK] * count] for source in sources]
        ids = pad_sequences(rows, END)
        targets = torch.full_like(ids, IGNORE_INDEX)
        for number, (source, pair) in enumerate(zip(sources, pairs, strict=True)):
            phonemes = [*pair.targets[0].encode()]
            filled = [*phonemes, *[END] * (count - len(phonemes))]
            targets[number, len(source) : len(source) + count] = torch.tensor(filled)
        return Batch({"ids": ids, "attention_mask": padding_mask(rows), "targets": targets})

    def logits(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """``(batch, seq, vocab_size)``."""
        found: Tensor = model(tensors["ids"], tensors["attention_mask"])
        return found

    def generate(self, model: Any, pairs: Sequence[Pair]) -> list[list[int]]:
        """The most probable byte at each mask."""
        found: list[list[int]] = []
        for some in batched(list(pairs), self.settings["evaluation_batch"]):
            tensors = self.collate(some).tensors
            best = self.logits(model, tensors).argmax(-1)
            masks = tensors["ids"] == MASK
            found += [row[mask].tolist() for row, mask in zip(best, masks, strict=True)]
        return found


class SpanArrangement(DecoderArrangement):
    """The word as the source and the phonemes as the target."""

    def collate(self, pairs: Sequence[Pair]) -> Batch:
        """Sources and targets padded on the right."""
        sources = [[*letters(pair), END] for pair in pairs]
        targets = [[*pair.targets[0].encode(), END] for pair in pairs]
        return Batch(
            {
                "source": pad_sequences(sources, END),
                "source_mask": padding_mask(sources),
                "targets": pad_sequences(targets, END).masked_fill(~padding_mask(targets), IGNORE_INDEX),
            }
        )

    def logits(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """``(batch, target seq, vocab_size)``."""
        decoder_input = F.pad(tensors["targets"][:, :-1], (1, 0), value=END)
        decoder_input = decoder_input.masked_fill(decoder_input == IGNORE_INDEX, END)
        found: Tensor = model(tensors["source"], decoder_input, attention_mask=tensors["source_mask"])
        return found

    def generate(self, model: Any, pairs: Sequence[Pair]) -> list[list[int]]:
        """By greedy search."""
        found: list[list[int]] = []
        for some in batched(list(pairs), self.settings["evaluation_batch"]):
            tensors = self.collate(some).tensors
            memory, mask = model.encode(tensors["source"], tensors["source_mask"])
            ids = torch.full((len(some), 1), END)
            for _ in range(self.settings["max_phonemes"]):
                logits = model.unembed(model.decode(ids, memory, mask)[:, -1])
                ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
                if bool((ids[:, 1:] == END).any(1).all()):
                    break
            found += ids[:, 1:].tolist()
        return found


ARRANGEMENTS: dict[str, type[DecoderArrangement]] = {
    "causal": DecoderArrangement,
    "prefix": PrefixArrangement,
    "masked": MaskedArrangement,
    "span": SpanArrangement,
}
"""By the name of the setup."""


@torch.no_grad()
def phoneme_error_rate(objective: Pronunciation, model: Any, pairs: Sequence[Pair]) -> float:
    """Edit distance of the generated phonemes to the nearest correct pronunciation, per phoneme."""
    with eval_mode(model):
        found = objective.arrange.generate(model, pairs)
    return error_rates(
        [phonemes(ids) for ids in found], [[target.split() for target in pair.targets] for pair in pairs]
    )["symbol_error_rate"]


def phonemes(ids: Sequence[int]) -> list[str]:
    """Phonemes of generated ids up to the end token; ids that are no bytes are dropped."""
    end = list(ids).index(END) if END in ids else len(ids)
    return bytes(byte for byte in ids[:end] if byte < 256).decode("utf-8", "replace").split()
