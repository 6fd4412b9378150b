"""Linear layers by the selected backend: equal to F.linear, in all circumstances in which layers are used."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassformer import linear as linear_module
from glassformer.backends import BACKENDS, CLASSES, available_backends, use_backends
from glassformer.layers import FeedForward
from glassformer.linear import Linear, add_product, linear, product

needs_onednn = pytest.mark.skipif("onednn" not in available_backends(), reason="PyTorch has no oneDNN here")
backends = pytest.mark.parametrize("backend", available_backends())
SHAPES = [(1, 40, 50), (7, 64, 33), (130, 96, 65)]
"""Rows, in_features and out_features: one row, few rows and many, large enough for a backend."""


@pytest.fixture(autouse=True)
def small_products_too(monkeypatch):
    monkeypatch.setattr(linear_module, "SMALLEST_PRODUCT", 1)


@pytest.fixture
def counted(monkeypatch):
    """The operands of every product that oneDNN computes."""
    calls = []
    original = BACKENDS["onednn"]

    def onednn(a, b, bias=None):
        calls.append((tuple(a.shape), tuple(b.shape)))
        return original(a, b, bias)

    monkeypatch.setitem(BACKENDS, "onednn", onednn)
    return calls


def relative_error(value, expected):
    return float(((value - expected).norm() / expected.norm()).detach())


@backends
@pytest.mark.parametrize(("rows", "d_in", "d_out"), SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_equal_a_float64_reference(backend, rows, d_in, d_out, bias):
    x, weight = torch.randn(rows, d_in, requires_grad=True), torch.randn(d_out, d_in, requires_grad=True)
    b = torch.randn(d_out, requires_grad=True) if bias else None
    grad = torch.randn(rows, d_out)
    inputs = [tensor for tensor in (x, weight, b) if tensor is not None]
    with use_backends(backend):
        output = linear(x, weight, b)
        gradients = torch.autograd.grad(output, inputs, grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = F.linear(*exact)
    expected_gradients = torch.autograd.grad(expected, exact, grad.double())
    assert relative_error(output, expected) < 1e-6
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert value.dtype == torch.float32
        assert relative_error(value, reference) < 1e-6


@needs_onednn
@given(
    lead=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    d_in=st.integers(1, 40),
    d_out=st.integers(1, 40),
    transposed=st.booleans(),
    bias=st.sampled_from(["none", "contiguous", "strided", "expanded"]),
)
def test_any_leading_dimensions_and_strides(lead, d_in, d_out, transposed, bias):
    x = torch.randn(d_in, *lead).movedim(0, -1) if transposed else torch.randn(*lead, d_in)
    weight = torch.randn(d_in, d_out).T if transposed else torch.randn(d_out, d_in)
    b = {
        "none": None,
        "contiguous": torch.randn(d_out),
        "strided": torch.randn(d_out, 2)[:, 1],
        "expanded": torch.randn(1).expand(d_out),
    }[bias]
    with use_backends("onednn"):
        torch.testing.assert_close(linear(x, weight, b), F.linear(x, weight, b), rtol=1e-4, atol=1e-4)


@needs_onednn
@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [
        ((80, 24), (48, 24), ()),
        ((80, 24), (48, 24), (1,)),
        ((80, 24), (48, 24), (1, 48)),
        ((80, 24), (48, 24), (80, 48)),
        ((80, 24), (48, 24), (47,)),
        ((80, 24), (1, 48, 24), None),
        ((80, 24), (24,), None),
        ((80, 24), (48, 25), None),
        ((24,), (48, 24), (48,)),
    ],
)
def test_shapes_that_do_not_fit_are_those_of_torch(x, weight, bias):
    tensors = [None if shape is None else torch.randn(shape) for shape in (x, weight, bias)]

    def outcome(function):
        try:
            return function(*tensors)
        except RuntimeError as error:
            return str(error)

    with use_backends("onednn"):
        value, expected = outcome(linear), outcome(F.linear)
    assert type(value) is type(expected)
    assert torch.allclose(value, expected) if isinstance(value, torch.Tensor) else value == expected


@needs_onednn
def test_other_layouts_and_devices_are_those_of_torch():
    x, weight = torch.randn(80, 24), torch.randn(48, 24)
    with use_backends("onednn"):
        torch.testing.assert_close(linear(x, weight.to_sparse()), F.linear(x, weight), rtol=1e-4, atol=1e-4)
        with pytest.raises(RuntimeError):
            linear(x, weight, torch.randn(48, device="meta"))


@needs_onednn
def test_only_the_operands_that_are_needed_are_saved():
    x, weight = torch.randn(80, 24, requires_grad=True), torch.randn(48, 24, requires_grad=True)
    for inputs, expected in {(x, weight.detach()): weight, (x.detach(), weight): x}.items():
        shapes = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t, shapes=shapes: shapes.append(t.shape), id)
        with use_backends("onednn"), hooks:
            linear(*inputs)
        assert shapes == [expected.shape]


@needs_onednn
def test_transforms_of_the_backward_pass_are_those_of_torch():
    x, weight = torch.randn(80, 24, requires_grad=True), torch.randn(48, 24)
    vector, tangent = torch.randn(80, 48), torch.randn(80, 48)
    results = {}
    for backend in ("torch", "onednn"):
        with use_backends(backend):
            y = linear(x, weight)
            batch = torch.stack([vector, tangent])
            (batched,) = torch.autograd.grad(y, x, batch, is_grads_batched=True, retain_graph=True)
            with torch.autograd.forward_ad.dual_level():
                dual = torch.autograd.forward_ad.make_dual(vector, tangent)
                (grad,) = torch.autograd.grad(y, x, dual)
                results[backend] = batched, torch.autograd.forward_ad.unpack_dual(grad).tangent
    torch.testing.assert_close(results["onednn"], results["torch"], rtol=1e-4, atol=1e-4)


@needs_onednn
def test_the_selected_backend_computes_each_product(counted):
    x, weight = torch.randn(3, 70, 24, requires_grad=True), torch.randn(48, 24, requires_grad=True)
    grad_weight_by_torch = dict.fromkeys(CLASSES, "onednn") | {"grad_weight.many": "torch"}
    with use_backends(grad_weight_by_torch):
        linear(x, weight).sum().backward()
    assert counted == [((210, 24), (48, 24)), ((210, 48), (24, 48))]  # the output, and the gradient of x
    counted.clear()
    with use_backends("torch"):
        linear(x, weight).sum().backward()
    assert counted == []


@needs_onednn
@pytest.mark.parametrize(("rows", "size"), [(1, "one"), (2, "few"), (63, "few"), (64, "many"), (500, "many")])
def test_the_number_of_rows_decides(counted, rows, size):
    selection = dict.fromkeys(CLASSES, "torch") | {f"forward.{size}": "onednn"}
    with use_backends(selection), torch.no_grad():
        linear(torch.randn(1, rows, 24), torch.randn(48, 24))
    assert len(counted) == 1


def test_the_formula_of_the_gradients(monkeypatch):
    """A stand-in for the operator, which takes float64, shows that first and second gradients are right."""
    monkeypatch.setitem(BACKENDS, "onednn", lambda a, b, bias=None: F.linear(a, b, bias))
    stand_in = (BACKENDS["onednn"],) * 3

    def function(x, weight, bias):
        return linear_module._Product.apply(x, weight, bias, stand_in)

    def inputs():
        return tuple(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((5, 3), (4, 3), (4,)))

    assert torch.autograd.gradcheck(function, inputs())
    assert torch.autograd.gradgradcheck(function, inputs())


@needs_onednn
def test_gradients_of_gradients(counted):
    x, weight = torch.randn(6, 30, requires_grad=True), torch.randn(20, 30, requires_grad=True)

    def penalty():
        (grad,) = torch.autograd.grad(linear(x, weight).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(grad.pow(2).sum(), (x, weight))

    with use_backends("torch"):
        expected = penalty()
    assert counted == []
    with use_backends("onednn"):
        values = penalty()
    assert len(counted) > 4
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-1)


@needs_onednn
@pytest.mark.parametrize("frozen", ["x", "weight", "bias", "all"])
def test_gradients_that_are_not_needed_are_not_computed(counted, frozen):
    tensors = {"x": torch.randn(80, 24), "weight": torch.randn(48, 24), "bias": torch.randn(48)}
    for name, tensor in tensors.items():
        tensor.requires_grad_(frozen not in (name, "all"))
    with use_backends("onednn"):
        output = linear(*tensors.values())
        assert output.requires_grad == (frozen != "all")
        if output.requires_grad:
            output.sum().backward()
    assert all((t.grad is not None) == t.requires_grad for t in tensors.values())
    assert len(counted) == {"x": 2, "weight": 2, "bias": 3, "all": 1}[frozen]


def cases_for_torch():
    """Calls that F.linear must compute, by name."""
    x, weight = torch.randn(70, 24), torch.randn(48, 24)

    def autocast():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return linear(x, weight)

    def vmap():
        return torch.vmap(linear, in_dims=(0, None))(x.view(7, 10, 24), weight)

    def grad():
        return torch.func.grad(lambda w: linear(x, w).sum())(weight)

    def jvp():
        return torch.func.jvp(lambda value: linear(value, weight), (x,), (torch.ones_like(x),))[1]

    def forward_mode():
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            return torch.autograd.forward_ad.unpack_dual(linear(dual, weight)).tangent

    def counted_flops():
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            linear(x, weight)
        return counter.get_total_flops()

    def fake():
        from torch._subclasses import FakeTensorMode

        with FakeTensorMode():
            return linear(torch.empty(70, 24), torch.empty(48, 24)).shape

    def meta():
        return linear(x.to("meta"), weight.to("meta")).shape

    def subclass():
        class Marked(torch.Tensor):
            pass

        return type(linear(x.as_subclass(Marked), weight)).__name__

    def float64():
        return linear(x.double(), weight.double()).dtype

    def bfloat16():
        return linear(x.bfloat16(), weight.bfloat16()).dtype

    def one_dimension():
        return linear(x[0], weight)

    def compiled():
        torch._dynamo.reset()
        return torch.compile(linear, backend="eager", fullgraph=True)(x, weight)

    def exported():
        return torch.export.export(Linear(24, 48), (x,)).module()(x)

    def traced():
        return torch.jit.trace(Linear(24, 48), x, check_trace=False)(x)

    return {f.__name__: f for f in locals().values() if callable(f)}


@needs_onednn
@pytest.mark.parametrize("name", cases_for_torch())
def test_what_onednn_cannot_compute_is_left_to_torch(counted, name):
    run = cases_for_torch()[name]
    torch.manual_seed(0)
    with use_backends("torch"):
        expected = run()
    torch.manual_seed(0)
    with use_backends("onednn"):
        value = run()
    assert counted == []
    if name in ("exported", "traced"):  # their layers have other random weights
        assert value.shape == expected.shape
    else:
        assert type(value) is type(expected)
        assert torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected


@backends
def test_autocast_around_the_backward_pass_does_not_round_gradients(backend):
    x, weight = torch.randn(80, 24, requires_grad=True), torch.randn(48, 24, requires_grad=True)
    with use_backends(backend):
        output = linear(x, weight)
        plain = torch.autograd.grad(output.sum(), (x, weight), retain_graph=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under_autocast = torch.autograd.grad(output.sum(), (x, weight))
    if backend == "onednn":
        torch.testing.assert_close(under_autocast, plain, rtol=0, atol=0)


@backends
def test_errors_are_those_of_torch(backend):
    with use_backends(backend):
        for x, weight, bias in (
            (torch.randn(4, 5), torch.randn(3, 6), None),
            (torch.randn(4, 6), torch.randn(3, 6), torch.randn(4)),
            (torch.randn(4, 6), torch.randn(3, 6).double(), None),
        ):
            with pytest.raises(RuntimeError):
                linear(x, weight, bias)


def test_layers_are_those_of_torch():
    layer, peer = Linear(24, 48), nn.Linear(24, 48)
    assert layer.state_dict().keys() == peer.state_dict().keys()
    peer.load_state_dict(layer.state_dict())
    x = torch.randn(80, 24)
    for backend in available_backends():
        with use_backends(backend):
            torch.testing.assert_close(layer(x), peer(x))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(twin(x), layer(x))


@needs_onednn
def test_checkpointed_blocks_and_hooks(counted):
    network = FeedForward(24, 48)
    x = torch.randn(80, 24, requires_grad=True)
    with use_backends("onednn"):
        plain = torch.autograd.grad(network(x).sum(), x)
        recomputed = torch.utils.checkpoint.checkpoint(network, x, use_reentrant=False)
        assert len(counted) > 4
        torch.testing.assert_close(torch.autograd.grad(recomputed.sum(), x), plain, rtol=0, atol=0)


@needs_onednn
@pytest.mark.slow
def test_compiled_networks_have_the_same_gradients():
    network, x = FeedForward(24, 48), torch.randn(80, 24)
    with use_backends("onednn"):
        network(x).sum().backward()
        expected = [parameter.grad.clone() for parameter in network.parameters()]
        network.zero_grad()
        torch.compile(network, backend="aot_eager")(x).sum().backward()
    torch.testing.assert_close([parameter.grad for parameter in network.parameters()], expected)


@backends
def test_products_without_autograd(backend, monkeypatch):
    monkeypatch.setattr(linear_module, "ADDED_ROWS", 32)  # 70 rows are three parts
    a, b, total = torch.randn(70, 24), torch.randn(48, 24), torch.randn(70, 48)
    with use_backends(backend):
        torch.testing.assert_close(product(a, b, "forward", 70), a @ b.T)
        expected = total + a @ b.T
        add_product(total, a, b, "grad_weight", 70)
        torch.testing.assert_close(total, expected)
        double = torch.zeros(70, 48, dtype=torch.float64)
        add_product(double, a, b, "grad_weight", 70)
        torch.testing.assert_close(double, (a @ b.T).double())
