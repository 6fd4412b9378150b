"""Products of fbgemm: what is packed can be unpacked, and operators that do not work are not used."""

from __future__ import annotations

import pytest
import torch

from glassformer import fbgemm
from glassformer.fbgemm import Float16Product, Int8Product, fbgemm_float16, fbgemm_int8

LIBRARIES = {fbgemm_float16: Float16Product, fbgemm_int8: Int8Product}
probes = pytest.mark.parametrize("probe", LIBRARIES, ids=lambda probe: probe.__name__)


def test_what_is_packed_is_unpacked_and_multiplied():
    float16, int8 = fbgemm_float16(), fbgemm_int8()
    if float16 is None or int8 is None:
        pytest.skip("this PyTorch has no fbgemm")
    weight, x = torch.arange(-6.0, 6).view(3, 4), torch.tensor([[1.0, 0.5, -1, 0.25]])
    packed = float16.pack(weight)
    assert torch.equal(packed.unpack(), weight)
    torch.testing.assert_close(packed.multiply(x), x @ weight.T)
    packed = int8.pack(weight.to(torch.int8), torch.tensor([1.0, 2.0, 0.5]))
    assert torch.equal(packed.unpack(), weight.to(torch.int8))
    expected = x @ weight.T * torch.tensor([1.0, 2.0, 0.5])
    torch.testing.assert_close(packed.multiply(x), expected, rtol=0.02, atol=0.2)


@probes
def test_a_wrong_product_is_not_used(probe, monkeypatch):
    library = LIBRARIES[probe]
    multiply = library.multiply
    monkeypatch.setattr(library, "multiply", lambda self, x, value: 3 * multiply(self, x, value))
    assert probe.__wrapped__() is None


@probes
@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_operators_that_fail_are_not_used(probe, error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(LIBRARIES[probe], "multiply", fail)
    assert probe.__wrapped__() is None


@probes
def test_operators_that_are_absent_are_not_used(probe, monkeypatch):
    monkeypatch.setattr(fbgemm.torch, "ops", object())
    assert probe.__wrapped__() is None
