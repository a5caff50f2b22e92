"""Blocks on the GPU against the layers' definitions.

On a GPU if there is one, otherwise on the stand-in for CuPy, as all tests of this folder.
"""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.gpu.blocks import Block, activation_of
from minigan.backends.gpu.convolution import IDENTITY
from tests.support.gpu_cases import CHAINS, RTOL, build, check_chain, expect_close


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_layers(name, dtype, make_cupy):
    check_chain(name, dtype, make_cupy)


@pytest.mark.parametrize("name", ("one channel in", "transposed k5 s2 same", "vectors to images"))
def test_gradients(name, make_cupy):
    net = build(name, make_cupy("float64"))
    x = net.backend.asarray(np.random.default_rng(9).standard_normal((3, *net.in_shape)))
    assert mg.check_gradients(net, x, directions=2)


def test_two_parts_of_a_batch_have_their_own_statistics(make_cupy):
    """As D takes real images and fakes: gradients of both together."""
    nets = [build("k4 s2 p1", backend) for backend in (Backend("float64"), make_cupy("float64"))]
    (plain, fast), rng, n = nets, np.random.default_rng(12), 9
    (block,), host = fast.steps, fast.backend.to_host
    x = rng.standard_normal((2 * n, *plain.in_shape))
    dy = rng.standard_normal((2 * n, *plain.out_shape))
    expected = []
    for half in (slice(n), slice(n, 2 * n)):
        expected.append(plain.forward(x[half]))
        plain.backward(dy[half], need_dx=False)
    y = block.forward(fast.backend.asarray(x), True, parts=2)
    expect_close(host(y), np.concatenate(expected), 1e-12, "y")
    block.backward(fast.backend.asarray(dy), need_dx=False)
    for key, array in (plain.grads | plain.buffers).items():
        expect_close(host((fast.grads | fast.buffers)[key]), array, 1e-11, key)


def test_arrays_that_kernels_cannot_read_are_copied(make_cupy):
    net = build("k5 s2 same", make_cupy())  # reads 16 bytes at a time
    backend, host = net.backend, net.backend.to_host
    x = np.random.default_rng(0).standard_normal((3, *net.in_shape)).astype(np.float32)
    wide = backend.asarray(np.repeat(x, 2, axis=-1))[..., ::2]  # not contiguous
    odd = backend.asarray(np.append(np.zeros(1), x))[1:].reshape(x.shape)  # off by 4 bytes
    expected = host(net.forward(backend.asarray(x)))
    for given in (wide, odd):
        np.testing.assert_array_equal(host(net.forward(given)), expected)


def test_a_block_per_run_and_its_activation(make_cupy):
    net = build("linear, reshape, activation", make_cupy())
    assert [type(step) for step in net.steps] == [Block, Block]
    assert activation_of(mg.LeakyReLU(0.2)) == ("LeakyReLU", 0.2)
    assert activation_of(mg.Tanh()) == ("Tanh", 0.0) and activation_of(None) == IDENTITY
