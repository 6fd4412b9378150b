"""Every generator goes on where it was."""

import json
import random

import numpy as np
import torch

from glassformer.training.random_state import random_state, set_random_state, untouched_random_state


def draw():
    return (
        torch.rand(3).tolist(),
        torch.randn(3).tolist(),
        np.random.standard_normal(3).tolist(),
        random.gauss(0, 1),
    )


def test_every_generator_goes_on_from_the_state():
    draw()  # so that a second Gaussian number is waiting in some of them
    tensors, values = random_state()
    values = json.loads(json.dumps(values))
    expected = draw()
    assert draw() != expected
    set_random_state(tensors, values)
    assert draw() == expected


def test_a_block_that_leaves_no_trace():
    before = random_state()
    expected = draw()
    set_random_state(*before)
    with untouched_random_state():
        draw()
    assert draw() == expected


def test_cuda_and_mps_are_kept_too(monkeypatch):
    states = {"cuda": [torch.tensor([1]), torch.tensor([2])], "mps": torch.tensor([3])}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states["cuda"])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda s: states.update(cuda=s))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda s: states.update(mps=s))
    saved = random_state()
    states |= {"cuda": [], "mps": None}
    set_random_state(*saved)
    assert states == {"cuda": [torch.tensor([1]), torch.tensor([2])], "mps": torch.tensor([3])}
