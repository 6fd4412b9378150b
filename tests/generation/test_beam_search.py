"""Beam search, compared with exhaustive search and with transformers."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from glassformer.generation import RepetitionPenalty, beam_search, generate
from glassformer.models import GPTModel, T5Model

VOCAB = 11
prompt_lists = st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9), min_size=1, max_size=4)
options = st.fixed_dictionaries(
    {
        "num_beams": st.integers(2, 6),
        "length_penalty": st.sampled_from([-1.0, 0.0, 0.6, 1.0, 3.0]),
        "early_stopping": st.booleans(),
        "stop_tokens": st.lists(st.integers(0, VOCAB - 1), max_size=3, unique=True),
        "repetition_penalty": st.sampled_from([None, 1.7]),
    }
)


class ThreeTokenModel:
    """A model that gives only three of its hundred tokens a probability, for exhaustive search."""

    def __init__(self, make_model):
        self.model = make_model(100, 50)
        self.model.table[:, 3:] -= 1e4
        self.vocab_size, self.max_seq_len, self.positions = 100, 50, self.model.positions
        self.next_token_logits, self.make_cache = self.model.next_token_logits, self.model.make_cache


def exhaustive_search(model, prompt, max_new_tokens, stop, penalty, repetition):
    """Every sequence of the three tokens with its score, the best first."""
    found = []
    for length in range(1, max_new_tokens + 1):
        for tokens in product(range(3), repeat=length):
            if stop in tokens[:-1] or (length < max_new_tokens and tokens[-1] != stop):
                continue
            total = 0.0
            for end in range(length):
                seen = torch.tensor([[*prompt, *tokens[:end]]])
                log_p = model.next_token_logits(seen).log_softmax(-1)
                if repetition is not None:
                    log_p = RepetitionPenalty(repetition)(log_p, seen)
                total += float(log_p[0, tokens[end]])
            found.append((total / length**penalty, [*prompt, *tokens]))
    return sorted(found, reverse=True)


@settings(max_examples=12)
@given(
    prompts=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4), min_size=1, max_size=2),
    max_new_tokens=st.integers(1, 3),
    stop=st.sampled_from([None, 1]),
    penalty=st.sampled_from([-0.5, 0.0, 1.0, 3.0]),
    repetition=st.sampled_from([None, 1.3]),
)
def test_with_enough_beams_it_finds_the_best_sequences_of_all(
    make_model, prompts, max_new_tokens, stop, penalty, repetition
):
    model = ThreeTokenModel(make_model)
    ids, scores = beam_search(
        model,
        prompts,
        max_new_tokens,
        num_beams=40,
        num_return_sequences=3,
        length_penalty=penalty,
        repetition_penalty=repetition,
        stop_tokens=[] if stop is None else [stop],
    )
    expected = [
        row
        for prompt in prompts
        for row in exhaustive_search(model, prompt, max_new_tokens, stop, penalty, repetition)[:3]
    ]
    assert ids == [row for _, row in expected]
    assert scores.tolist() == pytest.approx([score for score, _ in expected], rel=1e-5, abs=1e-5)


class TransformersGPT2(torch.nn.Module):
    """A GPT-2 of transformers as a ``LanguageModel``."""

    def __init__(self, positions):
        super().__init__()
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=1, n_head=2, n_positions=40)
        self.theirs = GPT2LMHeadModel(config).eval()
        for parameter in self.theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        self.vocab_size, self.max_seq_len, self.positions = VOCAB, 40, positions

    def next_token_logits(self, input_ids, attention_mask=None, cache=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return self.theirs(input_ids, attention_mask=mask, position_ids=positions).logits[:, -1]

    def make_cache(self, capacity):
        return []


@pytest.mark.slow
@settings(max_examples=100)
@given(options=options, max_new_tokens=st.integers(1, 14), left=st.integers(0, 3), data=st.data())
def test_the_result_equals_that_of_transformers(make_positions, options, max_new_tokens, left, data):
    peer = TransformersGPT2(make_positions())
    ids = torch.randint(
        0, VOCAB, (2, 4), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    )
    mask = torch.ones_like(ids)
    mask[0, :left] = 0
    best = data.draw(st.integers(1, options["num_beams"]))
    if options["repetition_penalty"]:  # theirs counts padding as repetition
        ids[0, :left] = ids[0, left]
    theirs = peer.theirs.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_return_sequences=best,
        eos_token_id=options["stop_tokens"] or None,
        pad_token_id=VOCAB - 1,
        return_dict_in_generate=True,
        output_scores=True,
        **{name: value for name, value in options.items() if name != "stop_tokens"},
    )
    ours, scores = beam_search(
        peer,
        ids,
        max_new_tokens,
        attention_mask=mask,
        num_return_sequences=best,
        pad_id=VOCAB - 1,
        use_cache=False,
        **options,
    )
    assert ours.tolist() == theirs.sequences.tolist()
    torch.testing.assert_close(scores, theirs.sequences_scores, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=40)
@given(prompts=prompt_lists, max_new_tokens=st.integers(0, 12), max_len=st.integers(2, 9), options=options)
def test_a_batch_gives_the_results_of_its_prompts_with_and_without_a_cache(
    make_model, prompts, max_new_tokens, max_len, options
):
    """Also with sliding windows."""
    model = make_model(VOCAB, max_len)
    rows, scores = beam_search(model, prompts, max_new_tokens, num_return_sequences=2, **options)
    alone = [
        beam_search(model, [prompt], max_new_tokens, num_return_sequences=2, **options) for prompt in prompts
    ]
    assert rows == [row for found, _ in alone for row in found]
    assert torch.equal(scores, torch.cat([found for _, found in alone]))
    uncached = beam_search(model, prompts, max_new_tokens, num_return_sequences=2, use_cache=False, **options)
    assert uncached[0] == rows
    assert torch.equal(uncached[1], scores)


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative_bias"])
def test_the_cache_follows_the_beams_of_a_real_model(positions):
    model = GPTModel(31, 16, 2, 2, max_seq_len=9, positions=positions)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    prompts = [[1, 2, 3, 4, 5], [6]]
    found = model.generate(prompts, 12, num_beams=4, num_return_sequences=4, stop_tokens=[7])
    assert found == model.generate(
        prompts, 12, num_beams=4, num_return_sequences=4, stop_tokens=[7], use_cache=False
    )
    assert found[:4] == model.generate(prompts[:1], 12, num_beams=4, num_return_sequences=4, stop_tokens=[7])
    assert len({tuple(row) for row in found}) == 8


def test_an_encoder_decoder_searches_each_source_independently():
    model = T5Model(31, 16, 2, 2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    sources = [[3, 4, 5, 6, 7], [8, 9], [10]]
    best = {"num_beams": 5, "num_return_sequences": 3, "length_penalty": 0.7}
    together = model.generate(sources, 8, **best)
    assert together == [row for source in sources for row in model.generate([source], 8, **best)]
    assert together == model.generate(sources, 8, use_cache=False, **best)
    (row, *_), scores = beam_search(
        model.conditioned_on(torch.tensor([[8, 9]])),
        [[0]],
        8,
        stop_tokens=[1],
        num_beams=5,
        length_penalty=0.7,
    )
    assert row[1:] == together[3]
    target = torch.tensor([row])
    log_p = model(torch.tensor([[8, 9]]), target[:, :-1]).log_softmax(-1)
    total = log_p.gather(-1, target[:, 1:, None]).sum() / (len(row) - 1) ** 0.7
    assert scores.item() == pytest.approx(total.item(), abs=1e-5)


def test_the_result_has_the_form_of_the_prompt_and_ends_with_its_row(make_model):
    model = make_model(VOCAB, 50)
    beams = {"num_beams": 3, "stop_tokens": [3]}
    rows, scores = beam_search(model, [[1, 2], [5]], 9, num_return_sequences=2, **beams)
    assert scores.shape == (4,)
    assert scores[0] >= scores[1]
    assert generate(model, [[1, 2], [5]], 9, num_return_sequences=2, **beams) == rows
    assert generate(model, [1, 2], 9, **beams) == rows[0]
    flat = generate(model, torch.tensor([1, 2]), 9, pad_id=-1, **beams)
    assert flat.tolist() == rows[0]
    batch = generate(model, torch.tensor([[1, 2], [2, 5]]), 9, pad_id=-1, num_return_sequences=3, **beams)
    assert batch.shape[0] == 6
    for row in batch.tolist():
        new = row[2:]
        end = new.index(3) + 1 if 3 in new else len(new)
        assert set(new[end:]) <= {-1}
        assert -1 not in new[:end]
    assert any(row[-1] != -1 for row in batch.tolist())
    assert beam_search(model, [[1], [2]], 0, num_beams=2, num_return_sequences=2)[0] == [[1], [1], [2], [2]]
    assert beam_search(model, [[1]], 0, num_beams=2)[1].tolist() == [0.0]


def test_more_beams_are_better_and_one_beam_is_greedy_decoding(make_model):
    model = make_model(VOCAB, 50)
    greedy = generate(model, [[4, 2]], 8, temperature=0)
    narrow = beam_search(model, [[4, 2]], 8, num_beams=1)
    assert narrow[0] == greedy
    assert beam_search(model, [[4, 2]], 8, num_beams=8)[1] > narrow[1]
    assert generate(model, [[4, 2]], 8, num_beams=8, temperature=0) == generate(
        model, [[4, 2]], 8, num_beams=8
    )


def test_the_prompt_is_processed_once_and_the_search_stops_early(make_model):
    model = make_model(VOCAB, 50)
    generate(model, [[4, 2], [1]], 3, num_beams=4)
    assert model.calls == [(2, 2), (8, 1), (8, 1)]
    model = make_model(VOCAB, 50)
    generate(model, [[4, 2]], 40, num_beams=2, stop_tokens=list(range(8)), early_stopping=True)
    assert len(model.calls) < 10


def test_sequences_end_even_if_every_token_is_a_stop_token(make_model):
    model = make_model(3, 50)
    rows, scores = beam_search(
        model, [[1]], 5, num_beams=3, num_return_sequences=3, stop_tokens=[0, 1, 2], length_penalty=0.0
    )
    assert sorted(rows) == [[1, 0], [1, 1], [1, 2]]
    assert scores.exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "between 1 and the vocabulary size 11, got 0"),
        ({"num_beams": 12}, "between 1 and the vocabulary size 11, got 12"),
        ({"num_return_sequences": 3}, "num_return_sequences must be at most num_beams=2, got 3"),
        ({"length_penalty": math.nan}, "length_penalty must be finite, got nan"),
        ({"temperature": 0.8}, "temperature is an option of sampling .* got 0.8"),
        ({"top_k": 5}, "top_k is an option of sampling"),
        ({"top_p": 0.5}, "top_p is an option of sampling"),
        ({"min_p": 0.5}, "min_p is an option of sampling"),
        ({"seed": 0}, "seed is an option of sampling"),
        ({"repetition_penalty": -1}, "repetition_penalty must be above 0"),
        ({"num_beams": 1, "length_penalty": 0.5}, "need beam search: set num_beams above 1"),
        ({"num_beams": 1, "early_stopping": True}, "need beam search: set num_beams above 1"),
    ],
)
def test_invalid_options_raise(make_model, options, message):
    with pytest.raises(ValueError, match=message):
        generate(make_model(VOCAB), [[1]], 3, **{"num_beams": 2, **options})


def test_num_beams_must_be_an_int(make_model):
    with pytest.raises(TypeError, match=r"num_beams must be an int, got 2\.0"):
        generate(make_model(VOCAB), [[1]], 3, num_beams=2.0)


def test_impossible_tokens_and_broken_weights_raise(make_model):
    model = make_model(VOCAB)
    model.table[:, 2:] = -math.inf
    with pytest.raises(
        ValueError, match="num_return_sequences is 3, but the model gives only 2 continuations of prompt 0"
    ):
        generate(model, [[1]], 1, num_beams=4, num_return_sequences=3)
    model.table[:] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        generate(model, [[1]], 1, num_beams=4)
