"""The published nets, rewritten as their programs have them in Keras or PyTorch.

They give the same outputs from the same weights. So padding, order of layers, slopes, constants of
BatchNorm and which statistics it keeps are those of the source.
"""

import numpy as np
import pytest

import minigan as mg
from minigan.presets import get_preset
from tests.support.networks import assert_close
from tests.support.torch_or_skip import import_torch

N = 6  # samples


def ours(name, width=8):
    """-> G, D of a preset with random parameters and running statistics; z, x, labels or None."""
    preset, rng = get_preset(name), np.random.default_rng(0)
    backend = mg.get_backend("numpy", dtype="float64")
    G = mg.Sequential(preset.generator(width, preset.z_dim, preset.image_shape), name="G")
    D = mg.Sequential(preset.discriminator(width, preset.image_shape), name="D")
    G.setup((preset.z_dim,), backend=backend, rng=rng)
    D.setup(preset.image_shape, backend=backend, rng=rng)
    for net in (G, D):
        for key, p in net.params.items():
            std = 0.2 if p.ndim == 1 else p[..., 0].size ** -0.5
            p[...] = rng.normal(key.endswith("gain"), std, p.shape)
        for b in net.buffers.values():
            b[...] = rng.uniform(0.5, 1.5, b.shape)
    labels = np.eye(10)[rng.integers(0, 10, N)] if preset.classes else None
    x = np.tanh(rng.standard_normal((N, *preset.image_shape)))
    return G, D, rng.standard_normal((N, preset.z_dim)), x, labels


# -- Keras -------------------------------------------------------------------------------------

KERAS = (
    "shibuya-fnn",
    "shibuya-mnist",
    "shibuya-mnist:slope-0.2",
    "shibuya-svhn",
    "shibuya-celeba",
    "tensorflow-mnist",
    "tensorflow-cifar10",
    "fredriksson-fnn",
    "fredriksson-mnist",
    "jayathilaka-faces",
)
KERAS_RTOL = 1e-6  # its constants (slopes, eps, momentum) are float32 even in a float64 net


def in_keras(name, w, layers):
    """-> (layers of G, layers of D) as the source builds them, at width w."""
    L, base = layers, name.partition(":")[0]
    norm, flat = L.BatchNormalization, L.Flatten

    def leaky(slope):
        return L.LeakyReLU(negative_slope=slope)

    def conv(channels, **options):
        return L.Conv2D(channels, kernel_size=5, strides=2, padding="same", **options)

    def deconv(channels, strides=2, **options):
        return L.Conv2DTranspose(
            channels, kernel_size=5, strides=strides, padding="same", **options
        )

    def tanh():
        return L.Activation("tanh")

    if base == "shibuya-fnn":
        return (
            [L.Dense(w), leaky(0.01), L.Dense(784), tanh(), L.Reshape((28, 28, 1))],
            [flat(), L.Dense(w), leaky(0.01), L.Dense(1)],
        )
    if base == "shibuya-mnist":
        a = 0.2 if "slope" in name else 0.01
        return (
            [
                L.Dense(7 * 7 * w // 2),
                L.Reshape((7, 7, w // 2)),
                norm(),
                leaky(a),
                deconv(w),
                norm(),
                leaky(a),
                deconv(1),
                tanh(),
            ],
            [
                conv(w),
                leaky(a),
                conv(w // 2),
                norm(),
                leaky(a),
                flat(),
                L.Dense(49 * w // 2),
                norm(),
                leaky(a),
                L.Dense(1),
            ],
        )
    if base in ("shibuya-svhn", "shibuya-celeba"):
        return (
            [
                L.Dense(16 * 4 * w),
                L.Reshape((4, 4, 4 * w)),
                norm(),
                leaky(0.2),
                deconv(2 * w),
                norm(),
                leaky(0.2),
                deconv(w),
                norm(),
                leaky(0.2),
                deconv(3),
                tanh(),
            ],
            [
                conv(w // 2),
                leaky(0.2),
                conv(w),
                norm(),
                leaky(0.2),
                conv(2 * w),
                norm(),
                leaky(0.2),
                flat(),
                L.Dense(1),
            ],
        )
    if base.startswith("tensorflow"):
        size, c = (7, 1) if base == "tensorflow-mnist" else (8, 3)
        return (
            [
                L.Dense(size * size * 4 * w, use_bias=False),
                norm(),
                L.LeakyReLU(),
                L.Reshape((size, size, 4 * w)),
                deconv(2 * w, strides=1, use_bias=False),
                norm(),
                L.LeakyReLU(),
                deconv(w, use_bias=False),
                norm(),
                L.LeakyReLU(),
                deconv(c, use_bias=False),
                tanh(),
            ],
            [
                conv(w),
                L.LeakyReLU(),
                L.Dropout(0.3),
                conv(2 * w),
                L.LeakyReLU(),
                L.Dropout(0.3),
                flat(),
                L.Dense(1),
            ],
        )
    if base == "fredriksson-fnn":
        return (
            [L.Dense(w, activation="relu"), L.Dense(784), tanh(), L.Reshape((28, 28, 1))],
            [flat(), L.Dense(w, activation="relu"), L.Dense(1)],
        )
    if base == "fredriksson-mnist":
        return (
            [
                L.Reshape((1, 1, 100)),
                L.Conv2DTranspose(2 * w, 7, padding="valid", use_bias=False),
                norm(),
                leaky(0.2),
                deconv(w, use_bias=False),
                norm(),
                leaky(0.2),
                deconv(1),
                tanh(),
            ],
            [
                conv(w, use_bias=False),
                norm(),
                leaky(0.2),
                conv(2 * w, use_bias=False),
                norm(),
                leaky(0.2),
                L.Conv2D(1, 7, padding="valid"),
                flat(),
            ],
        )
    return (
        [
            layer
            for units in (w, 2 * w, 4 * w)
            for layer in (L.Dense(units), leaky(0.2), norm(momentum=0.8))
        ]
        + [L.Dense(28 * 28 * 3), tanh(), L.Reshape((28, 28, 3))],
        [flat(), L.Dense(2 * w), leaky(0.2), L.Dense(w), leaky(0.2), L.Dense(1)],
    )


@pytest.fixture(scope="module")
def keras():
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras' own
@pytest.mark.parametrize("name", KERAS)
def test_in_keras(name, keras):
    G, D, z, x, _ = ours(name)
    for net, inputs, layers in zip((G, D), (z, x), in_keras(name, 8, keras.layers), strict=True):
        model = keras.Sequential([keras.Input(net.in_shape), *layers])

        def run(x, training):
            return keras.ops.convert_to_numpy(model(x, training=training))

        weights, arrays = [], {**net.params, **net.buffers}
        for i in range(len(net.layers)):
            weights += [
                arrays[f"{i}.{key}"]
                for key in ("W", "b", "gain", "bias", "running_mean", "running_var")
                if f"{i}.{key}" in arrays
            ]
        assert [tuple(w.shape) for w in model.get_weights()] == [w.shape for w in weights]
        model.set_weights(weights)
        if not any(isinstance(layer, mg.Dropout) for layer in net.layers):  # it draws its masks
            y = net.forward(inputs)
            assert_close(y, run(inputs, training=True), f"{net.name} in training", KERAS_RTOL)
        for layer in net.layers:
            layer.sampling = "running"  # as Keras' `predict`, whatever the preset samples by
        # what a batch has left in the running statistics shows in sampling mode
        y = net.forward(inputs, train=False)
        assert_close(y, run(inputs, training=False), f"{net.name} in sampling", KERAS_RTOL)


# -- PyTorch -----------------------------------------------------------------------------------

TORCH = ("pytorch-64", "jindal-mnist64", "radford-64", "radford-mnist-conditional")


def in_torch(name, w, nn):
    """-> (modules of G, modules of D) as the source builds them, at width w.

    "label" where it appends the labels, "first" and "last" where images begin and end to be
    channels-first. Theano's border of 2 pixels is PyTorch's padding 2, with output_padding 1
    where it doubles.
    """
    tanh, sigmoid, relu, flat = nn.Tanh(), nn.Sigmoid(), nn.ReLU(), nn.Flatten()

    def leaky():
        return nn.LeakyReLU(0.2)

    if name in ("pytorch-64", "jindal-mnist64"):
        c, last = (3, 1) if name == "pytorch-64" else (1, 2)

        def up(a, b, k=4, s=2, p=1):
            return nn.ConvTranspose2d(a, b, k, s, p, bias=False)

        def down(a, b, k=4, s=2, p=1):
            return nn.Conv2d(a, b, k, s, p, bias=False)

        return (
            [
                nn.Unflatten(1, (100, 1, 1)),
                up(100, 8 * w, 4, 1, 0),
                nn.BatchNorm2d(8 * w),
                relu,
                up(8 * w, 4 * w),
                nn.BatchNorm2d(4 * w),
                relu,
                up(4 * w, 2 * w),
                nn.BatchNorm2d(2 * w),
                relu,
                up(2 * w, w),
                nn.BatchNorm2d(w),
                relu,
                up(w, c),
                tanh,
            ],
            [
                down(c, w),
                leaky(),
                down(w, 2 * w),
                nn.BatchNorm2d(2 * w),
                leaky(),
                down(2 * w, 4 * w),
                nn.BatchNorm2d(4 * w),
                leaky(),
                down(4 * w, 8 * w),
                nn.BatchNorm2d(8 * w),
                leaky(),
                down(8 * w, 1, 4, last, 0),
                flat,
            ],
        )

    def up(a, b):
        return nn.ConvTranspose2d(a, b, 5, 2, 2, output_padding=1, bias=False)

    def down(a, b):
        return nn.Conv2d(a, b, 5, 2, 2, bias=False)

    def dense(a, b):
        return nn.Linear(a, b, bias=False)

    if name == "radford-64":
        norm1, norm2 = (
            (lambda c: nn.BatchNorm1d(c, eps=1e-8)),
            (lambda c: nn.BatchNorm2d(c, eps=1e-8)),
        )
        return (
            [
                dense(100, 16 * 8 * w),
                norm1(16 * 8 * w),
                relu,
                nn.Unflatten(1, (4, 4, 8 * w)),
                "first",
                up(8 * w, 4 * w),
                norm2(4 * w),
                relu,
                up(4 * w, 2 * w),
                norm2(2 * w),
                relu,
                up(2 * w, w),
                norm2(w),
                relu,
                up(w, 3),
                tanh,
            ],
            [
                down(3, w),
                leaky(),
                down(w, 2 * w),
                norm2(2 * w),
                leaky(),
                down(2 * w, 4 * w),
                norm2(4 * w),
                leaky(),
                down(4 * w, 8 * w),
                norm2(8 * w),
                leaky(),
                "last",
                flat,
                dense(16 * 8 * w, 1),
            ],
        )
    norm1, norm2 = (
        (lambda c: nn.BatchNorm1d(c, eps=1e-8, affine=False)),
        (lambda c: nn.BatchNorm2d(c, eps=1e-8, affine=False)),
    )
    return (
        [
            "label",
            dense(110, 16 * w),
            norm1(16 * w),
            relu,
            "label",
            dense(16 * w + 10, 49 * 2 * w),
            norm1(49 * 2 * w),
            relu,
            nn.Unflatten(1, (7, 7, 2 * w)),
            "first",
            "label",
            up(2 * w + 10, w),
            norm2(w),
            relu,
            "label",
            up(w + 10, 1),
            sigmoid,
        ],
        [
            "label",
            down(11, w),
            leaky(),
            "label",
            down(w + 10, 2 * w),
            norm2(2 * w),
            leaky(),
            "last",
            flat,
            "label",
            dense(49 * 2 * w + 10, 16 * w),
            norm1(16 * w),
            leaky(),
            "label",
            dense(16 * w + 10, 1),
        ],
    )


def run_torch(torch, modules, x, labels):
    """x (n, ...) and the result are channels-last, as minigan's."""
    x = torch.tensor(x)
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2)
    for module in modules:
        if module == "label":
            planes = torch.tensor(labels).reshape(*labels.shape, *[1] * (x.ndim - 2))
            x = torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)
        elif module == "first":
            x = x.permute(0, 3, 1, 2)
        elif module == "last":
            x = x.permute(0, 2, 3, 1)
        else:
            x = module(x)
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).detach().numpy()


@pytest.mark.parametrize("name", TORCH)
def test_in_torch(name):
    torch = import_torch()
    G, D, z, x, labels = ours(name, width=4)
    for net, inputs, modules in zip((G, D), (z, x), in_torch(name, 4, torch.nn), strict=True):
        theirs = [
            module.double()
            for module in modules
            if not isinstance(module, str) and [*module.parameters(), *module.buffers()]
        ]
        own = [
            layer for layer in net.layers if layer.has_parameters or isinstance(layer, mg.BatchNorm)
        ]
        with torch.no_grad():
            for module, layer in zip(theirs, own, strict=True):
                if not isinstance(layer, mg.BatchNorm):
                    W = torch.tensor(layer.W)
                    module.weight.copy_(W.T if W.ndim == 2 else W.permute(3, 2, 0, 1))
                elif layer.gain is not None:
                    module.weight.copy_(torch.tensor(layer.gain))
                    module.bias.copy_(torch.tensor(layer.bias))
        y = net.forward(inputs, labels=labels)
        assert_close(y, run_torch(torch, modules, inputs, labels), net.name, 1e-9)
        # they sample by the batch's statistics
        np.testing.assert_array_equal(net.forward(inputs, train=False, labels=labels), y)
