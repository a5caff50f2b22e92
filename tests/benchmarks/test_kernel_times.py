"""A profile of a captured step: which kernels it has, and how long each takes."""

import pytest

from benchmarks import kernel_times
from benchmarks.interleaved import BenchmarkError
from minigan.backends.gpu import kernels

IM2COL = "im2col<float, G14_14_128_7_7_256_5_5_2_2_1_1, 4>"
CUTLASS = "cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4"
NAMES = (
    f"void {IM2COL}(float const*, float*, int)",
    "sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize64x128x32_execute_segment_k_off_kernel__5x",
    f"void cutlass::Kernel2<{CUTLASS}>({CUTLASS})",
    "Memset (Device)",
    "void fold<float>(float const*, float*, int)",
    "void fold_moments<float>(float const*, float*, int)",
    "void activate_backward<float, LeakyReLU, 4>(float const*)",
    "void norm_sums<float, ReLU, 4>(float)",
    "memcpy32_post",
    f"void {IM2COL}(float const*, float*, int)",
)


def test_kernels_by_kind():
    """Three replays; each node is twice as slow in all but one; nodes may change their order."""
    events = []
    for replay in range(3):
        for node, name in enumerate(NAMES):
            place = {2: 3, 3: 2}.get(node, node) if replay == 1 else node
            start = 1000 * replay + 10 * place
            events.append((start, start + (node + 1) * (1 if replay == node % 3 else 2), name))
    found = kernel_times.table(events[::-1], 3)
    assert found["nodes"] == len(NAMES)
    assert found["microseconds"] == {
        "columns": 11,
        "products": 2 + 3 + 4,
        "sums": 5,
        "BatchNorm": 6 + 8,
        "activations and biases": 7,
        "the rest": 9,
    }
    assert found["kernels"][IM2COL] == [2, 11] and found["kernels"]["Memset"] == [1, 4]
    assert all("(" not in name for name in found["kernels"])
    other_events = [*events, (5000, 5001, "Memcpy HtoD")], [*events[:-1], (5000, 5001, "x")], []
    for other in other_events:
        with pytest.raises(BenchmarkError, match="not 3 times the same"):
            kernel_times.table(other, 3)


def test_every_kernel_of_minigan_has_a_kind():
    for name in kernels.signatures():
        assert kernel_times.kind(f"{name}<float, 4>") != "products", name
