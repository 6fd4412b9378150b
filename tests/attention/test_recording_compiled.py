"""Recording of compiled models."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch

from glassformer.attention import record_activations, record_attention
from glassformer.models import GPTModel


def build(kind, **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "d_model": 24, "num_layers": 3, "num_heads": 6, "max_seq_len": 20}
    return GPTModel(**sizes, positions=kind, num_kv_heads=2, **options)


COMPILED = {
    "model in place": lambda model: (model.compile(backend="eager"), model)[1],
    "its blocks": lambda model: ([block.compile(backend="eager") for block in model.blocks], model)[1],
    "its forward": lambda model: (
        setattr(model, "forward", torch.compile(model.forward, backend="eager")),
        model,
    )[1],
    "a model around it": lambda model: torch.compile(model, backend="eager"),
    "a function that calls it": lambda model: torch.compile(lambda ids: model(ids), backend="eager"),
    "without a break": lambda model: torch.compile(lambda x: model(x), backend="eager", fullgraph=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", COMPILED)
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_compiled_models_are_recorded(how):
    torch.compiler.reset()
    ids, model = torch.arange(5)[None], build("learned").eval()
    with record_attention(model) as plain:
        expected = model(ids)
    run, maps = COMPILED[how](model), []
    run(ids)
    with (
        record_attention(model, 1) as recording,
        record_attention(model, [2], callback=maps.append),
        record_activations(model, [0]) as activations,
    ):
        assert torch.equal(run(ids), expected)
    assert torch.equal(recording[1], plain[1])
    assert [part.layer for part in maps] == [2]
    assert list(activations.head_outputs) == [0]
    torch.compiler.reset()


@pytest.mark.slow
def test_recording_restores_the_compiler_stance():
    taken = []

    def backend(graph, inputs):
        taken.append(graph)
        return graph.forward

    torch.compiler.reset()
    ids, model = torch.arange(5)[None], build("learned").eval()
    run = torch.compile(lambda ids: model(ids) * 2, backend=backend)
    with pytest.raises(RuntimeError, match="stop"), record_attention(model):
        run(ids)
        raise RuntimeError("stop")
    assert not taken
    run(ids)
    assert taken
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("before", ["default", "eager_on_recompile"])
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_recording_blocks_may_end_in_any_order(before):
    taken = []
    torch.compiler.reset()
    ids, model = torch.arange(5)[None], build("learned").eval()

    @torch.compile(backend=lambda graph, inputs: taken.append(graph) or graph.forward)
    def run(ids):
        return model(ids) * 2

    run(ids)
    with torch.compiler.set_stance(before):
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(record_attention(model, 0))
            maps = []
            second.enter_context(record_attention(model, 1, callback=maps.append))
            first.close()
            run(ids)
            assert [part.layer for part in maps] == [1]
        compiled_before = len(taken)
        run(torch.arange(7)[None])  # another shape: compiled anew, where the stance lets it
        assert (len(taken) > compiled_before) == (before == "default")
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_recording_inside_compiled_code_raises():
    torch.compiler.reset()
    model = build("learned").eval()

    @torch.compile(backend="eager")
    def run(ids):
        with record_attention(model) as recording:
            model(ids)
        return recording[0]

    with pytest.raises(RuntimeError, match="open the block outside"):
        run(torch.arange(5)[None])
    assert not any(block.attention.kernel._forward_hooks for block in model.blocks)
    torch.compiler.reset()


@pytest.mark.slow
def test_the_result_of_torch_compile_raises():
    with pytest.raises(TypeError, match="_orig_mod"), record_attention(torch.compile(build("learned"))):
        pass
