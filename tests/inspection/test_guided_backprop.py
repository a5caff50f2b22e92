"""Guided backpropagation, against loops and PyTorch; and what it leaves alone."""

import numpy as np
import pytest

import minigan as mg
from minigan.frozen_statistics import freeze_statistics
from minigan.inspection.features import last_map
from minigan.inspection.guided_backprop import guided_gradient
from minigan.inspection.open_run import load_net
from minigan.layers.sequential import backward_pass, forward_pass
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run
from tests.support.networks import network
from tests.support.torch_or_skip import import_torch


def test_loops():
    layers = [mg.Linear(5), mg.LeakyReLU(0.2), mg.Linear(4), mg.ReLU(), mg.Linear(3)]
    D = network(layers, (6,))
    x, dy = np.random.default_rng(1).standard_normal((2, 7, 6))
    dy = dy[:, :3]
    first, second, third = (D.layers[i] for i in (0, 2, 4))
    wanted = np.zeros_like(x)
    for n in range(len(x)):
        h1 = x[n] @ first.W + first.b
        h2 = np.maximum(h1, 0.2 * h1) @ second.W + second.b
        for i in range(5):
            from_above = 0
            for j in range(4):
                of_j = sum(third.W[j, k] * dy[n, k] for k in range(3))
                from_above += second.W[i, j] * of_j if h2[j] > 0 and of_j > 0 else 0
            if h1[i] > 0 and from_above > 0:
                wanted[n] += first.W[:, i] * from_above
    dx = guided_gradient(D, 4, x, dy)
    np.testing.assert_allclose(dx, wanted, rtol=1e-12, atol=1e-14)
    assert np.abs(dx).max() > 0


def test_pytorch():
    torch = import_torch()

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.nn.functional.leaky_relu(x, 0.2)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, dy):
            return dy.clamp(min=0) * (ctx.saved_tensors[0] > 0)

    layers = [
        mg.Conv2d(4, 5, stride=2, padding="same"),
        mg.LeakyReLU(0.2),
        mg.Conv2d(6, 3, stride=2, padding=1),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.Flatten(),
        mg.Linear(1),
    ]
    D = network(layers, (13, 10, 3))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 13, 10, 3))
    freeze_statistics(D, x)
    y = forward_pass(D.layers[:5], x, False, None)
    _, h, w, c = y.shape
    dy = np.zeros_like(y)
    dy[np.arange(5), rng.integers(0, h, 5), rng.integers(0, w, 5), rng.integers(0, c, 5)] = 1

    def torch_conv(t, layer):
        (top, bottom), (left, right) = layer.pads
        padded = torch.nn.functional.pad(t, (left, right, top, bottom))
        W, b = torch.tensor(layer.W.transpose(3, 2, 0, 1)), torch.tensor(layer.b)
        return torch.nn.functional.conv2d(padded, W, b, layer.stride)

    t = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    norm = D.layers[3]
    statistics = (norm.running_mean, norm.running_var, norm.gain, norm.bias)
    hidden = torch_conv(Guided.apply(torch_conv(t, D.layers[0])), D.layers[2])
    hidden = torch.nn.functional.batch_norm(hidden, *map(torch.tensor, statistics), eps=norm.eps)
    Guided.apply(hidden).backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    wanted = t.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(guided_gradient(D, 4, x, dy), wanted, rtol=1e-10, atol=1e-12)
    forward_pass(D.layers[:5], x, False, None)
    assert not np.allclose(backward_pass(D.layers[:5], dy, True, False), wanted)  # the plain one


@pytest.mark.parametrize("name", ("plain", "conditional", "linear"))
def test_the_plain_backward_stays_bit_for_bit(name, runs):
    game, _ = open_game(Run(runs[name]))
    load_net(game.D, "D", Run(runs[name]), print)
    D, rng = game.D, np.random.default_rng(0)
    x = rng.standard_normal((8, *D.in_shape)).astype(np.float32)
    labels = game.labels(np.arange(8))
    dy = rng.standard_normal((8, *D.out_shape)).astype(np.float32)

    def plain():
        D.zero_grads()
        D.forward(x, labels=labels)
        return D.backward(dy), D.ready().flat_grads.copy()

    dx, grads = plain()
    index = last_map(D)
    guided_gradient(D, index, x, np.ones((8, *D.layers[index].out_shape), np.float32), labels)
    assert np.array_equal(D.ready().flat_grads, grads)  # it does not add into the gradients
    again, grads_again = plain()
    assert np.array_equal(again, dx) and np.array_equal(grads_again, grads)
