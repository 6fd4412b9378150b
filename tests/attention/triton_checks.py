"""Checks of the Triton kernels in a process of their own: ``python triton_checks.py NAME``.

With ``TRITON_INTERPRET=1`` Triton runs the kernels as Python on the CPU; "compile" is without it.
"""

from __future__ import annotations

import sys

import torch
import triton

from glassformer.attention import (
    BlockSparseAttention,
    FlashAttention,
    ScaledDotProductAttention,
    causal,
    longformer,
    padding,
    random_blocks,
    sliding_window,
)
from glassformer.attention.kernels import flash_triton


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype).requires_grad_()


def check(q, k, v, mask=None, attend=None, tolerance=1e-5):
    """Compare the output and the gradients with those of the textbook in float64."""
    attend = FlashAttention(implementation="triton") if attend is None else attend
    doubles = [x.detach().double().requires_grad_() for x in (q, k, v)]
    results = []
    for inputs, kernel in (((q, k, v), attend), (doubles, ScaledDotProductAttention(scale=attend.scale))):
        output, _ = kernel(*inputs, mask)
        assert output.dtype == inputs[0].dtype
        direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        results.append((output, *torch.autograd.grad((output * direction).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance, rtol=tolerance)


def check_masks():
    batch, heads, q_len, k_len = 2, 2, 18, 35
    q, k, v = randn(batch, heads, q_len, 8), randn(batch, 1, k_len, 8), randn(batch, 1, k_len, 8)
    real = torch.arange(k_len) < torch.tensor([[k_len], [17]])
    with_empty_rows = torch.rand(q_len, k_len) < 0.5
    with_empty_rows[3:7] = False
    for mask in (
        None,
        causal(),
        causal() & sliding_window(9),
        padding(real),
        causal() & padding(real.flip(1)),
        longformer(6, (0, 20)),
        causal() & random_blocks(1, 8),
        ~causal(),
        causal().at(torch.randint(0, k_len, (q_len,))),
        with_empty_rows,
        torch.rand(batch, q_len, k_len) < 0.5,
        torch.rand(batch, heads, q_len, k_len) < 0.1,
        torch.zeros(q_len, k_len, dtype=torch.bool),
    ):
        check(q, k, v, mask)


def check_shapes():
    for q, k, v in (
        (randn(1, 4, 20, 8), randn(1, 2, 20, 8), randn(1, 2, 20, 8)),  # grouped queries
        (randn(1, 3, 1, 5), randn(1, 3, 33, 5), randn(1, 3, 33, 20)),  # one query, and wide values
        (randn(2, 17, 8), randn(2, 17, 8), randn(2, 17, 8)),
        (randn(17, 1), randn(17, 1), randn(17, 1)),
        (randn(2, 1, 2, 5, 8), randn(2, 1, 1, 5, 8), randn(2, 1, 1, 5, 8)),
    ):
        check(q, k, v, causal())
    check(randn(2, 5, 8), randn(2, 5, 8), randn(2, 5, 8), padding(torch.rand(2, 5) < 0.5))
    tokens = randn(1, 20, 2, 8).transpose(1, 2)  # as projections give them
    check(tokens, tokens.detach().mT.contiguous().mT.requires_grad_(), tokens.detach().requires_grad_())
    for attend in (
        FlashAttention(scale=0.3, implementation="triton"),
        BlockSparseAttention(implementation="triton"),
        FlashAttention(0.5, implementation="triton").eval(),
    ):
        check(randn(1, 1, 9, 8), randn(1, 1, 9, 8), randn(1, 1, 9, 8), causal(), attend)
    attend = FlashAttention(implementation="triton")
    assert attend(randn(0, 1, 3, 8), randn(0, 1, 3, 8), randn(0, 1, 3, 8))[0].shape == (0, 1, 3, 8)
    flash_triton.block_sizes = BLOCK_SIZES
    check(*(randn(1, 1, 40, 8) for _ in range(3)), causal())
    check(*(randn(1, 1, 20, 200) for _ in range(3)), causal())


def check_dtypes():
    for dtype in (torch.bfloat16, torch.float16):
        q, k, v = (randn(1, heads, 20, 8, dtype=dtype) for heads in (2, 1, 1))
        check(q, k, v, causal(), tolerance=0.05)
    q, k, v = (randn(1, 1, 20, 8) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = FlashAttention(implementation="triton")(q, k, v)
    assert output.dtype == torch.bfloat16
    q, k, v = (randn(1, 1, 20, 8) for _ in range(3))
    attend = FlashAttention(scale=100.0, implementation="triton")  # exp(scores) is infinite in float32
    check(q, k, v, causal(), attend, tolerance=0.01)


def check_compile():
    """Compile for compute capability 8.0, which needs no GPU, and compare the shared memory."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    assert not flash_triton.IS_INTERPRETED
    names = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}
    for dtype, width in ((torch.bfloat16, 128), (torch.float32, 64)):
        x = torch.empty(1, width, dtype=dtype)
        for kernel in (flash_triton.forward, flash_triton.query_gradients, flash_triton.key_gradients):
            constants = flash_triton.constants(x, x)
            options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
            matrices = {"q", "k", "v", "output", "d_output", "d_q", "d_k", "d_v"}
            types = dict.fromkeys(matrices, names[dtype]) | dict.fromkeys(constants, "constexpr")
            types |= {"log_sums": "*fp32", "dots": "*fp32", "tiles": "*u8", "scale": "fp32"}
            types |= {
                f"{kind}_{what}": "*i32"
                for kind in ("partial", "full")
                for what in ("starts", "blocks", "tiles")
            }
            signature = {name: types.get(name, "i32") for name in kernel.arg_names}
            aligned = [
                name.endswith(("_batch", "_head", "_stride")) and not name.startswith("list")
                for name in signature
            ]
            attributes = {
                (i,): [["tt.divisibility", 16]] for i, is_aligned in enumerate(aligned) if is_aligned
            }
            source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
            compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
            assert compiled.metadata.shared <= flash_triton.SHARED_MEMORY, (kernel, compiled.metadata.shared)


BLOCK_SIZES = flash_triton.block_sizes

if __name__ == "__main__":
    torch.manual_seed(0)
    checks = {"masks": check_masks, "shapes": check_shapes, "dtypes": check_dtypes, "compile": check_compile}
    if sys.argv[1] != "compile":
        assert flash_triton.IS_INTERPRETED
        flash_triton.block_sizes = lambda q, v: (16, 16)  # several blocks in few tokens
    checks[sys.argv[1]]()
    print("passed")
