"""Beam search: the best of all continuations where it can keep them all, and else what transformers finds."""

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


class Few:
    """A model that practically says only three of its hundred words: few enough to try every text of them."""

    def __init__(self, make_model):
        self.model = make_model(100, 50)
        self.model.table[:, 3:] -= 1e4
        self.vocab_size, self.max_seq_len, self.positions = 100, 50, self.model.positions
        self.next_token_logits, self.make_cache = self.model.next_token_logits, self.model.make_cache


def exhaustive(model, prompt, room, stop, penalty, repetition):
    """Every text of the three words with its score, the best first."""
    found = []
    for length in range(1, room + 1):
        for text in product(range(3), repeat=length):
            if stop in text[:-1] or (length < room and text[-1] != stop):
                continue
            total = 0.0
            for end in range(length):
                seen = torch.tensor([[*prompt, *text[:end]]])
                log_p = model.next_token_logits(seen).log_softmax(-1)
                if repetition is not None:
                    log_p = RepetitionPenalty(repetition)(log_p, seen)
                total += float(log_p[0, text[end]])
            found.append((total / length**penalty, [*prompt, *text]))
    return sorted(found, reverse=True)


@settings(max_examples=12)
@given(
    prompts=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4), min_size=1, max_size=2),
    room=st.integers(1, 3),
    stop=st.sampled_from([None, 1]),
    penalty=st.sampled_from([-0.5, 0.0, 1.0, 3.0]),
    repetition=st.sampled_from([None, 1.3]),
)
def test_as_wide_as_there_are_texts_it_finds_the_best_of_all(
    make_model, prompts, room, stop, penalty, repetition
):
    model = Few(make_model)
    ids, scores = beam_search(
        model,
        prompts,
        room,
        num_beams=40,
        num_return_sequences=3,
        length_penalty=penalty,
        repetition_penalty=repetition,
        stop_tokens=[] if stop is None else [stop],
    )
    expected = [row for p in prompts for row in exhaustive(model, p, room, stop, penalty, repetition)[:3]]
    assert ids == [row for _, row in expected]
    assert scores.tolist() == pytest.approx([score for score, _ in expected], rel=1e-5, abs=1e-5)


class Peer(torch.nn.Module):
    """A GPT-2 of transformers as generation sees a model."""

    def __init__(self, positions):
        super().__init__()
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=1, n_head=2, n_positions=40)
        self.theirs = GPT2LMHeadModel(config).eval()
        for parameter in self.theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        self.vocab_size, self.max_seq_len, self.positions = VOCAB, 40, positions

    def next_token_logits(self, input_ids, attention_mask=None, cache=None):
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        positions = (real.cumsum(1) - 1).clamp(min=0)
        return self.theirs(input_ids, attention_mask=real, position_ids=positions).logits[:, -1]

    def make_cache(self, capacity):
        return []


@settings(max_examples=100)
@given(options=options, room=st.integers(1, 14), left=st.integers(0, 3), data=st.data())
def test_finds_what_transformers_finds(make_positions, options, room, left, data):
    peer = Peer(make_positions())
    ids = torch.randint(
        0, VOCAB, (2, 4), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    )
    mask = torch.ones_like(ids)
    mask[0, :left] = 0
    best = data.draw(st.integers(1, options["num_beams"]))
    if options["repetition_penalty"]:  # theirs counts padding as said; ours does not
        ids[0, :left] = ids[0, left]
    theirs = peer.theirs.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=room,
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
        room,
        attention_mask=mask,
        num_return_sequences=best,
        pad_id=VOCAB - 1,
        use_cache=False,
        **options,
    )
    assert ours.tolist() == theirs.sequences.tolist()
    torch.testing.assert_close(scores, theirs.sequences_scores, atol=1e-5, rtol=1e-5)


@settings(max_examples=40)
@given(prompts=prompt_lists, room=st.integers(0, 12), max_len=st.integers(2, 9), options=options)
def test_a_batch_finds_what_its_prompts_find_alone_with_and_without_a_cache(
    make_model, prompts, room, max_len, options
):
    """Also where windows slide."""
    model = make_model(VOCAB, max_len)
    rows, scores = beam_search(model, prompts, room, num_return_sequences=2, **options)
    alone = [beam_search(model, [prompt], room, num_return_sequences=2, **options) for prompt in prompts]
    assert rows == [row for found, _ in alone for row in found]
    assert torch.equal(scores, torch.cat([found for _, found in alone]))
    uncached = beam_search(model, prompts, room, num_return_sequences=2, use_cache=False, **options)
    assert uncached[0] == rows
    assert torch.equal(uncached[1], scores)


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi", "relative_bias"])
def test_beams_of_a_real_model_carry_their_keys_along(positions):
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


def test_an_encoder_decoder_searches_each_source_by_itself():
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


def test_what_comes_back_has_the_form_of_the_prompt_and_ends_where_the_row_does(make_model):
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


def test_a_wider_search_is_not_worse_and_one_beam_without_ends_is_greedy(make_model):
    model = make_model(VOCAB, 50)
    greedy = generate(model, [[4, 2]], 8, temperature=0)
    narrow = beam_search(model, [[4, 2]], 8, num_beams=1)
    assert narrow[0] == greedy
    assert beam_search(model, [[4, 2]], 8, num_beams=8)[1] > narrow[1]
    assert generate(model, [[4, 2]], 8, num_beams=8, temperature=0) == generate(
        model, [[4, 2]], 8, num_beams=8
    )


def test_the_search_reads_the_prompt_once_and_stops_when_it_is_over(make_model):
    model = make_model(VOCAB, 50)
    generate(model, [[4, 2], [1]], 3, num_beams=4)
    assert model.calls == [(2, 2), (8, 1), (8, 1)]
    model = make_model(VOCAB, 50)
    generate(model, [[4, 2]], 40, num_beams=2, stop_tokens=list(range(8)), early_stopping=True)
    assert len(model.calls) < 10


def test_an_end_is_found_even_if_every_likely_token_is_one(make_model):
    model = make_model(3, 50)
    rows, scores = beam_search(
        model, [[1]], 5, num_beams=3, num_return_sequences=3, stop_tokens=[0, 1, 2], length_penalty=0.0
    )
    assert sorted(rows) == [[1, 0], [1, 1], [1, 2]]
    assert scores.exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "between 1 and the 11 tokens, got 0"),
        ({"num_beams": 12}, "between 1 and the 11 tokens, got 12"),
        ({"num_return_sequences": 3}, "num_return_sequences=3 is more than num_beams=2"),
        ({"length_penalty": math.nan}, "length_penalty must be a finite number, got nan"),
        ({"temperature": 0.8}, "temperature=0.8 is for sampling"),
        ({"top_k": 5}, "top_k=5 is for sampling"),
        ({"top_p": 0.5}, "top_p=0.5 is for sampling"),
        ({"min_p": 0.5}, "min_p=0.5 is for sampling"),
        ({"seed": 0}, "seed=0 is for sampling"),
        ({"repetition_penalty": -1}, "repetition_penalty must be above 0"),
        ({"num_beams": 1, "length_penalty": 0.5}, "for beam search: give num_beams above 1"),
        ({"num_beams": 1, "early_stopping": True}, "for beam search: give num_beams above 1"),
    ],
)
def test_mistakes_are_named(make_model, options, message):
    with pytest.raises(ValueError, match=message):
        generate(make_model(VOCAB), [[1]], 3, **{"num_beams": 2, **options})


def test_a_width_is_a_whole_number(make_model):
    with pytest.raises(TypeError, match=r"num_beams must be a whole number, got 2\.0"):
        generate(make_model(VOCAB), [[1]], 3, num_beams=2.0)


def test_broken_weights_and_forbidden_tokens_are_said(make_model):
    model = make_model(VOCAB)
    model.table[:, 2:] = -math.inf
    with pytest.raises(ValueError, match="only 2 continuations of prompt 0 .* num_return_sequences=3 asks"):
        generate(model, [[1]], 1, num_beams=4, num_return_sequences=3)
    model.table[:] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        generate(model, [[1]], 1, num_beams=4)
