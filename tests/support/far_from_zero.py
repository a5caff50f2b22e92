"""BatchNorm of numbers far from 0, where float32 sums lose digits; exact results in float64.

Tolerances are multiples of eps, the rounding of float32 (1.2e-7), of the largest term of a sum.
"""

import numpy as np

import minigan as mg
from minigan.arrays import Backend

EPS = float(np.finfo(np.float32).eps)
ROUNDINGS = 64
KINDS = {  # mean, deviation
    "constant 100.3": (100.3, 0.0),
    "mean 1000, deviation 0.01": (1e3, 1e-2),
    "mean 10,000, deviation 0.01": (1e4, 1e-2),
    "mean -1,000,000, deviation 1": (-1e6, 1.0),
    "one number of 10,000": (0.0, 1e-3),
    "of both signs": (0.0, 1e3),
}


def numbers(kind, shape, seed=0):
    """-> x, dy (n, ..., c) float32"""
    (mean, std), rng = KINDS[kind], np.random.default_rng(seed)
    x, dy = mean + std * rng.standard_normal(shape), 3 + rng.standard_normal(shape)
    if kind == "one number of 10,000":
        x[(0,) * x.ndim] = 1e4
    if kind == "of both signs":
        x = std * np.sign(x)
    return x.astype(np.float32), dy.astype(np.float32)


def network(shape, backend, fused=False, gain=True, bias=True):
    """-> BatchNorm, which keeps the last batch's statistics; fused: with a convolution and Tanh.

    The convolution multiplies by 1, so BatchNorm's input is x exactly.
    """
    norm = mg.BatchNorm(gain=gain, bias=bias, running_rate=1.0, unbiased=False)
    layers = [mg.Conv2d(shape[-1], 1), norm, mg.Tanh()] if fused else [norm]
    net = mg.Sequential(layers)
    net.setup(shape, backend=backend, rng=np.random.default_rng(0))
    if fused:
        net.params["0.W"][...] = backend.asarray(np.eye(shape[-1])[None, None])
    return net


def passes(net, x, dy):
    """-> name -> result of a forward and a backward pass, on the host"""
    backend = net.backend
    found = {"y": net.forward(backend.asarray(x)), "dx": net.backward(backend.asarray(dy))}
    arrays = {**net.grads, **net.buffers}
    found |= {name.split(".")[-1]: array for name, array in arrays.items()}
    return {name: backend.to_host(array).astype(np.float64) for name, array in found.items()}


def expect_exact(found, x, dy, fused=False, gain=True, bias=True):
    """Fails unless `found` is what the definitions give in float64, but for float32's rounding."""
    net = network(x.shape[1:], Backend("float64"), fused, gain, bias)
    exact = passes(net, x.astype(np.float64), dy.astype(np.float64))
    axes = tuple(range(x.ndim - 1))
    x_hat = np.abs(x - exact["running_mean"]) / np.sqrt(exact["running_var"] + 1e-5)
    terms = {  # the largest numbers that are added up or rounded
        "y": np.maximum(1, x_hat.max(axes)),
        "dx": np.abs(dy).max() * (1 + x_hat.max(axes)) / np.sqrt(exact["running_var"] + 1e-5),
        "running_mean": np.abs(exact["running_mean"]) + np.sqrt(exact["running_var"]),
        "running_var": exact["running_var"] + EPS,
        "gain": np.sum(np.abs(dy) * (1 + x_hat), axes),
        "bias": np.abs(dy).sum(axes),
    }
    if fused:  # gradients of the convolution: b's is 0, and W's too, but for eps of BatchNorm
        x_sum = np.abs(x).reshape(-1, x.shape[-1]).sum(axis=0)
        terms |= {"b": terms["dx"] * x.size, "W": terms["dx"] * x_sum[:, None]}
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        off = np.max(np.abs(found[name] - value) / (EPS * terms[name]))
        assert off <= ROUNDINGS, f"{name}: off by {off:.0f} roundings"


def check(kind, shape, backend, **options):
    """Both passes of one batch on a float32 backend, and its running statistics."""
    x, dy = numbers(kind, shape)
    net = network(shape[1:], backend, **options)
    expect_exact(passes(net, x, dy), x, dy, **options)
