"""Small networks and random numbers for them, on any backend."""

import numpy as np

import minigan as mg

IMAGE = (6, 5, 3)
LAYERS = {  # name -> layers, in_shape
    "Linear": (lambda: [mg.Linear(4)], (5,)),
    "Linear without bias": (lambda: [mg.Linear(4, bias=False)], (5,)),
    "Conv2d k3": (lambda: [mg.Conv2d(3, 3)], (5, 6, 2)),
    "Conv2d k1": (lambda: [mg.Conv2d(4, 1)], IMAGE),
    "Conv2d to one pixel": (lambda: [mg.Conv2d(4, (6, 5))], IMAGE),
    "Conv2d k5 s2 same": (lambda: [mg.Conv2d(3, 5, 2, "same", bias=False)], (6, 7, 2)),
    "Conv2d k2 s3": (lambda: [mg.Conv2d(2, 2, 3)], (7, 8, 1)),
    "Conv2d uneven": (lambda: [mg.Conv2d(2, (2, 3), (1, 2), ((1, 0), (2, 1)))], (4, 6, 3)),
    "ConvTranspose2d k4 s2 p1": (lambda: [mg.ConvTranspose2d(3, 4, 2, 1)], (3, 4, 2)),
    "ConvTranspose2d k5 s2 same": (
        lambda: [mg.ConvTranspose2d(2, 5, 2, "same", bias=False)],
        (3, 2, 2),
    ),
    "ConvTranspose2d k2 s3 same": (lambda: [mg.ConvTranspose2d(2, 2, 3, "same")], (2, 3, 2)),
    "ConvTranspose2d uneven": (
        lambda: [mg.ConvTranspose2d(2, (3, 2), (2, 3), ((1, 0), (0, 1)), (1, 2))],
        (2, 3, 3),
    ),
    "BatchNorm of vectors": (lambda: [mg.BatchNorm()], (6,)),
    "BatchNorm of images": (lambda: [mg.BatchNorm(eps=1e-3)], (3, 2, 4)),
    "BatchNorm without gain": (lambda: [mg.BatchNorm(gain=False)], (4,)),
    "BatchNorm without bias": (lambda: [mg.BatchNorm(bias=False)], (4,)),
    "BatchNorm bare": (lambda: [mg.BatchNorm(gain=False, bias=False)], (2, 2, 3)),
    "Upsample": (lambda: [mg.Upsample(2)], (3, 4, 2)),
    "Upsample x3": (lambda: [mg.Upsample(3)], (2, 1, 3)),
    "LeakyReLU": (lambda: [mg.LeakyReLU(0.2)], (3, 4, 2)),
    "ReLU": (lambda: [mg.ReLU()], (7,)),
    "Tanh": (lambda: [mg.Tanh()], (3, 4, 2)),
    "Sigmoid": (lambda: [mg.Sigmoid()], (7,)),
    "Dropout": (lambda: [mg.Dropout(0.4)], (9,)),
    "AppendLabels to vectors": (lambda: [mg.AppendLabels(3)], (4,)),
    "AppendLabels to images": (lambda: [mg.AppendLabels(2)], (3, 2, 4)),
    "Flatten": (lambda: [mg.Flatten()], (2, 3, 2)),
    "Reshape": (lambda: [mg.Reshape((3, 2, 2))], (12,)),
}
CHAINS = {  # the same, of several layers
    "Sequential": (lambda: [mg.Sequential([mg.Linear(3), mg.Tanh()])], (4,)),
    "discriminator": (
        lambda: [
            mg.Conv2d(4, 5, 2, "same"),
            mg.LeakyReLU(0.2),
            mg.Conv2d(5, 3, 1, 1, bias=False),
            mg.BatchNorm(),
            mg.LeakyReLU(0.2),
            mg.Flatten(),
            mg.Linear(1),
        ],
        IMAGE,
    ),
    "generator": (
        lambda: [
            mg.Linear(24),
            mg.Reshape((2, 3, 4)),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(3, 5, 2, "same", bias=False),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(2, 4, 2, 1),
            mg.Tanh(),
        ],
        (7,),
    ),
    "activation after activation": (lambda: [mg.Tanh(), mg.LeakyReLU(0.3), mg.Sigmoid()], IMAGE),
    "activation between reshapes": (
        lambda: [mg.Flatten(), mg.ReLU(), mg.Reshape(IMAGE), mg.BatchNorm()],
        IMAGE,
    ),
}
LAYERS_AND_CHAINS = {**LAYERS, **CHAINS}


def network(layers, in_shape, backend=None, name="N"):
    """-> Sequential that is set up, on the numpy backend in float64 if none is given.

    Its parameters are drawn so that biases and gains matter too: none is 0 or 1.
    """
    net = mg.Sequential(layers, name=name)
    backend = backend or mg.get_backend("numpy", dtype="float64")
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(5))
    for i, array in enumerate(net.params.values()):
        rng = np.random.default_rng([6, i])
        size = rng.uniform(0.5, 1.5, array.shape) * rng.choice([-1, 1], array.shape)
        array[...] = backend.asarray(size)
    return net


def named_network(name, backend=None):
    """-> one of LAYERS_AND_CHAINS."""
    make, in_shape = LAYERS_AND_CHAINS[name]
    return network(make(), in_shape, backend)


def draw_x(net, n, seed=1):
    """-> x (n, *in_shape), not close to the kink of a ReLU at 0."""
    x = np.random.default_rng(seed).standard_normal((n, *net.in_shape))
    return net.backend.asarray(np.sign(x) * (np.abs(x) + 0.01))


def draw_dy(net, n, seed=2):
    """-> dy (n, *out_shape)"""
    return net.backend.asarray(np.random.default_rng(seed).standard_normal((n, *net.out_shape)))


def draw_labels(net, n, seed=7):
    """-> one-hot labels (n, classes) for a conditional network, None for any other."""
    if not net.classes:
        return None
    numbers = np.random.default_rng(seed).integers(0, net.classes, n)
    return net.backend.asarray(np.eye(net.classes)[numbers])


def forward(net, x, train=True):
    """net.forward with the labels that the network needs, and the same Dropout masks every time."""
    for generator in net.store.generators.values():
        generator.bit_generator.state = np.random.default_rng(0).bit_generator.state
    return net.forward(x, train=train, labels=draw_labels(net, len(x)))


def to_host(net, arrays):
    """dict of arrays -> host copies."""
    return {name: net.backend.to_host(array).copy() for name, array in arrays.items()}


def assert_same_arrays(found, expected):
    """Two dicts of host arrays are equal, bit for bit."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_close(found, expected, what, rtol=1e-10):
    """Same shape, and equal to rtol of the largest number expected."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what}: {found.shape}, expected {expected.shape}"
    error, largest = np.abs(found - expected).max(), np.abs(expected).max()
    assert error <= rtol * largest, f"{what}: off by {error:.3g} of {largest:.3g}"  # not for NaN


class Skip(mg.Sequential):
    """y = x + layers(x): its layers alone would give another y."""

    def forward(self, x, train=True):
        return x + super().forward(x, train)
