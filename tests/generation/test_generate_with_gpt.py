"""Generation with ``GPTModel`` and every position scheme."""

import pytest
import torch
from torch import nn

from glassformer.generation import generate
from glassformer.models import GPTModel

SCHEMES = ["learned", "sinusoidal", "rotary", "alibi", "relative_bias", "none"]
SCALINGS = {
    "linear": {"factor": 4.0},
    "ntk": {"factor": 4.0},
    "dynamic": {"factor": 4.0, "original_max_seq_len": 12},
    "dynamic, shorter original": {"factor": 2.0, "original_max_seq_len": 7},
    "yarn": {"factor": 4.0, "original_max_seq_len": 12},
    "llama3": {"factor": 4.0, "original_max_seq_len": 12},
}
PROMPTS = [[1, 2, 3], list(range(4, 24)), [9], [8] * 13]
MAX_SEQ_LEN = 12


def make_gpt(positions, **keywords):
    torch.manual_seed(0)
    model = GPTModel(
        vocab_size=31,
        d_model=24,
        num_layers=2,
        num_heads=4,
        max_seq_len=MAX_SEQ_LEN,
        dropout=0.2,
        positions=positions,
        **keywords,
    )
    for parameter in model.parameters():  # large weights, so that the output does not repeat one token
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(params=SCHEMES)
def gpt(request):
    return make_gpt(request.param)


class RecordingModel:
    """A model that records its logits and the number of keys."""

    def __init__(self, model):
        self.model = model
        self.vocab_size, self.max_seq_len, self.positions = (
            model.vocab_size,
            model.max_seq_len,
            model.positions,
        )
        self.make_cache = model.make_cache
        self.logits = []
        self.num_keys = []

    def next_token_logits(self, input_ids, attention_mask=None, cache=None):
        cached = 0 if cache is None else cache[0].length
        self.num_keys.append(cached + input_ids.shape[1])
        self.logits.append(self.model.next_token_logits(input_ids, attention_mask, cache))
        return self.logits[-1]


def greedy(model, **options):
    recording = RecordingModel(model.eval())
    return generate(recording, PROMPTS, 30, temperature=0, **options), recording


@pytest.mark.slow
def test_cached_and_uncached_agree_far_past_max_seq_len(gpt):
    cached, with_cache = greedy(gpt)
    uncached, without = greedy(gpt, use_cache=False)
    assert cached == uncached
    assert len({token for row in cached for token in row[-30:]}) > 4
    torch.testing.assert_close(torch.stack(with_cache.logits), torch.stack(without.logits), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_batch_gives_what_each_prompt_gives_alone(gpt):
    batch = generate(gpt, PROMPTS, 30, temperature=0)
    assert batch == [generate(gpt, prompt, 30, temperature=0) for prompt in PROMPTS]


def test_the_default_policy_depends_on_the_positions(gpt):
    _, recording = greedy(gpt)
    longest = len(PROMPTS[1]) + 29
    assert max(recording.num_keys) == (longest if gpt.positions.extrapolates else MAX_SEQ_LEN)


@pytest.mark.slow
def test_the_policy_can_be_chosen(gpt):
    _, recording = greedy(gpt, overflow="slide")
    assert max(recording.num_keys) == MAX_SEQ_LEN
    if gpt.positions.max_positions is None:
        _, recording = greedy(gpt, overflow="extend")
        assert max(recording.num_keys) == len(PROMPTS[1]) + 29
    else:
        with pytest.raises(ValueError, match=f"extend.* {MAX_SEQ_LEN}"):
            greedy(gpt, overflow="extend")


def make_scaled(name, **keywords):
    scaling = {"kind": name.partition(",")[0], **SCALINGS[name]}
    return make_gpt({"kind": "rotary", "scaling": scaling}, **keywords)


@pytest.mark.slow
@pytest.mark.parametrize("overflow", [None, "slide"])
@pytest.mark.parametrize("name", SCALINGS)
def test_with_scaled_rotary_positions_the_cache_changes_nothing(name, overflow):
    gpt = make_scaled(name)
    cached, with_cache = greedy(gpt, overflow=overflow)
    uncached, without = greedy(gpt, overflow=overflow, use_cache=False)
    assert cached == uncached
    longest = len(PROMPTS[1]) + 29
    assert max(without.num_keys) == (MAX_SEQ_LEN if overflow == "slide" else longest)
    torch.testing.assert_close(torch.stack(with_cache.logits), torch.stack(without.logits), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{"num_return_sequences": 3, "seed": 0}, {"num_beams": 3}])
def test_under_dynamic_scaling_samples_and_beams_do_not_depend_on_the_cache(options):
    gpt = make_scaled("dynamic, shorter original")
    cached = generate(gpt, PROMPTS, 12, **options)
    assert cached == generate(gpt, PROMPTS, 12, use_cache=False, **options)
    alone = [generate(gpt, [prompt], 12, **options)[0] for prompt in PROMPTS if "seed" not in options]
    assert alone == (cached if alone else [])


def test_under_dynamic_scaling_an_outdated_cache_is_refused():
    gpt = make_scaled("dynamic").eval()
    cache = gpt.make_cache(20)
    gpt(torch.ones(1, 11, dtype=torch.long), cache=cache)
    gpt(torch.ones(1, 1, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="valid up to 12 tokens, but the text has 13"):
        gpt(torch.ones(1, 1, dtype=torch.long), cache=cache)


@pytest.mark.parametrize("cached", [0, 2])
def test_the_next_token_follows_the_last_real_one(cached):
    """Padding may be on the left or on the right."""
    gpt = make_gpt("learned").eval()
    ids = torch.arange(1, 13).view(2, 6)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    cache = gpt.make_cache(6) if cached else None
    if cached:
        gpt(ids[:, :cached], cache=cache)
    logits = gpt.next_token_logits(ids[:, cached:], mask, cache)
    for row, length in enumerate(mask.sum(1)):
        alone = gpt(ids[row : row + 1, :length])[:, -1]
        torch.testing.assert_close(logits[row : row + 1], alone, atol=1e-5, rtol=0)


def test_grouped_queries_and_several_sequences_agree_with_and_without_cache():
    gpt = make_gpt("rotary", num_kv_heads=2, norm="rms", activation="swiglu")
    options = {"num_return_sequences": 2, "seed": 1, "top_k": 10}
    cached = generate(gpt, PROMPTS, 20, **options)
    assert cached == generate(gpt, PROMPTS, 20, use_cache=False, **options)


def test_a_model_can_be_trained_after_generation(gpt):
    assert gpt.training
    ids = gpt.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=9, temperature=0.8, top_k=50)
    assert gpt.training
    gpt(ids).sum().backward()
    assert all(parameter.grad is not None for parameter in gpt.parameters())
