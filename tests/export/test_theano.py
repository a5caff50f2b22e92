"""The DCGAN paper's published weights: the same outputs as its program, rewritten in PyTorch."""

import numpy as np
import pytest

import minigan as mg
from minigan.data.files.npz import load_arrays, unpack
from minigan.export.import_run import import_run
from minigan.training.config import new_config
from minigan.training.game import Game
from minigan.training.open_game import open_game
from minigan.training.outline import outline
from tests.support.networks import assert_close
from tests.support.refusals import refusal
from tests.support.torch_or_skip import import_torch

WIDTH, N = 2, 6
STRIDES = {  # preset -> of G's transposed convolutions; of D's convolutions
    "radford-64:svhn": ((2, 2, 2), (2, 2, 2)),
    "radford-64:imagenet": ((2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2)),
    "radford-64": ((2, 2, 2, 2), (2, 2, 2, 2)),
}


class Program:
    """lib/ops.py and the nets of the program, on arrays as they are in its files."""

    def __init__(self, torch):
        self.torch, self.F = torch, torch.nn.functional

    def batchnorm(self, x, g=None, b=None):
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        var, mean = self.torch.var_mean(x, axes, correction=0, keepdim=True)
        shape = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
        y = (x - mean) / (var + 1e-8).sqrt()
        return y if g is None else y * g.reshape(shape) + b.reshape(shape)

    def conv(self, x, w, stride):
        """conv_mode="conv": the kernel is flipped."""
        return self.F.conv2d(x, w.flip(2, 3), stride=stride, padding=w.shape[2] // 2)

    def deconv(self, x, w, stride):
        """The gradient of such a convolution with respect to its input."""
        w, padding = w.flip(2, 3), w.shape[2] // 2
        return self.F.conv_transpose2d(x, w, None, stride, padding, output_padding=stride - 1)

    def leaky(self, x):
        return self.F.leaky_relu(x, 0.2)

    def labeled(self, x, y):
        planes = y.reshape(*y.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return self.torch.cat([x, planes], 1)

    def generator(self, z, arrays, strides):
        w, g, b, *arrays = arrays
        h = self.batchnorm(z @ w, g, b).relu().reshape(len(z), -1, 4, 4)
        for stride in strides[:-1]:
            w, g, b, *arrays = arrays
            h = self.batchnorm(self.deconv(h, w, stride), g, b).relu()
        return self.deconv(h, *arrays, strides[-1]).tanh()

    def discriminator(self, x, arrays, strides):
        w, *arrays = arrays
        h = self.leaky(self.conv(x, w, strides[0]))
        for stride in strides[1:]:
            w, g, b, *arrays = arrays
            h = self.leaky(self.batchnorm(self.conv(h, w, stride), g, b))
        return h.flatten(1) @ arrays[0]

    def conditional_generator(self, z, y, arrays):
        w, w2, w3, wx = arrays
        h = self.batchnorm(self.labeled(z, y) @ w).relu()
        h = self.batchnorm(self.labeled(h, y) @ w2).relu().reshape(len(z), -1, 7, 7)
        h = self.batchnorm(self.deconv(self.labeled(h, y), w3, 2)).relu()
        return self.deconv(self.labeled(h, y), wx, 2).sigmoid()

    def conditional_discriminator(self, x, y, arrays):
        w, w2, w3, wy = arrays
        h = self.leaky(self.conv(self.labeled(x, y), w, 2))
        h = self.leaky(self.batchnorm(self.conv(self.labeled(h, y), w2, 2))).flatten(1)
        h = self.leaky(self.batchnorm(self.labeled(h, y) @ w3))
        return self.labeled(h, y) @ wy


def publish(folder, preset, epoch=200):
    """Write random weights as joblib left them -> the arrays of G and of D."""
    folder.mkdir(exist_ok=True)
    rng, nets = np.random.default_rng(epoch), []
    for net, name in zip(outline(config_of(preset)), ("gen", "discrim"), strict=True):
        arrays = []
        for i, array in enumerate(net.params.values(), 1):
            shape = array.shape
            shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
            arrays.append(rng.normal(array.ndim == 1, 0.3, shape).astype(np.float32))
            np.save(folder / f"{epoch}_{name}_params.jl_{i:02}.npy", arrays[-1])
        (folder / f"{epoch}_{name}_params.jl").write_bytes(b"a pickle, never opened")
        nets.append(arrays)
    return nets


def config_of(preset):
    return new_config(dict(preset=preset, width=WIDTH))


def imported(path, preset, out):
    """-> Game with the networks of the run that the files become."""
    run = import_run([path], dict(preset=preset, width=WIDTH), out=out, log=lambda line: None)
    game = Game(run.load_config()[0])
    (file,) = run.checkpoints.found()
    game.load(*unpack(load_arrays(file), file), file)
    return game


@pytest.mark.parametrize(
    "preset",
    (
        "radford-64:svhn",
        "radford-64:imagenet",
        "radford-mnist-conditional",
        pytest.param("radford-64", marks=pytest.mark.slow),
    ),
)
def test_the_same_outputs(preset, tmp_path):
    torch = import_torch()
    program, (of_g, of_d) = Program(torch), publish(tmp_path / "models", preset)
    game = imported(tmp_path / "models", preset, tmp_path / "run")
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, (N, game.config.z_dim)).astype("f4")
    x = rng.uniform(-1, 1, (N, *game.D.in_shape)).astype("f4")
    labels = game.labels(rng.integers(0, 10, N))
    tensors = [torch.tensor(array) for array in (z, x.transpose(0, 3, 1, 2))]
    weights = [[torch.tensor(array) for array in arrays] for arrays in (of_g, of_d)]
    if labels is None:
        images = program.generator(tensors[0], weights[0], STRIDES[preset][0])
        logits = program.discriminator(tensors[1], weights[1], STRIDES[preset][1])
    else:
        y = torch.tensor(labels)
        images = program.conditional_generator(tensors[0], y, weights[0])
        logits = program.conditional_discriminator(tensors[1], y, weights[1])
    found = game.G.forward(z, train=False, labels=labels)  # by the batch's statistics
    assert_close(found, images.permute(0, 2, 3, 1).numpy(), "G", 1e-4)
    assert_close(game.D.forward(x, train=False, labels=labels), logits.numpy(), "D", 1e-5)


def test_one_of_several_epochs(tmp_path):
    preset, folder = "radford-64:svhn", tmp_path / "models"
    publish(folder, preset, 100)
    (_, gain, *_), _ = publish(folder, preset, 200)
    run = dict(preset=preset, width=WIDTH)
    line = refusal(import_run, [folder], run, out=tmp_path / "a", kind=mg.RunError)
    assert line.endswith("name one of its files; a run must be exported first")
    file = folder / "200_gen_params.jl_03.npy"
    made = import_run([file], run, out=tmp_path / "a", log=lambda line: None)
    found = open_game(made)[0].G.params["1.gain"]
    np.testing.assert_array_equal(
        found.reshape(4, 4, -1), gain.reshape(-1, 4, 4).transpose(1, 2, 0)
    )


@pytest.mark.parametrize(
    "file, change, message",
    (
        ("gen_params.jl_10.npy", None, "expected 10 arrays for G (0.W, 1.gain, 1.bias, 4.W, "),
        (
            "gen_params.jl_04.npy",
            lambda file: np.save(file, np.zeros((8, 4, 3, 3), "f4")),
            "must be float32 (8, 4, 5, 5) for G.4 (ConvTranspose2d 8->4, k5 s2 p2), got float32",
        ),
        (
            "discrim_params.jl_01.npy",
            lambda file: np.save(file, np.zeros((2, 3, 5, 5))),
            "must be float32 (2, 3, 5, 5) for D.0 (Conv2d 3->2, k5 s2 p2), got float64 (2",
        ),
        (
            "gen_params.jl_02.npy",
            lambda file: np.save(file, np.array([{}, 1]), allow_pickle=True),
            "cannot be read as arrays of numbers",
        ),
        (
            "gen_params.jl_02.npy",
            lambda file: file.write_bytes(b"x"),
            "cannot be read as arrays of numbers",
        ),
        (
            "gen_params.jl_02.npy",  # it declares a terabyte
            lambda file: file.write_bytes(
                b"\x93NUMPY\x01\x00\x76\x00"
                + b"{'descr': '<f4', 'fortran_order': False, 'shape': (300000000000,), }".ljust(117)
                + b"\n"
            ),
            "cannot be read as arrays of numbers",
        ),
        (
            "gen_params.jl_02.npy",
            lambda file: np.save(file, np.full(128, np.nan, "f4")),
            "has numbers that no network has, such as NaN",
        ),
    ),
)
def test_damaged_files(file, change, message, tmp_path):
    folder, preset = tmp_path / "models", "radford-64:svhn"
    publish(folder, preset)
    path = folder / f"200_{file}"
    path.unlink()
    if change:
        change(path)
    run = dict(preset=preset, width=WIDTH)
    kind = mg.DataError if message.startswith("cannot be read") else mg.RunError
    line = refusal(import_run, [folder], run, out=tmp_path / "a", kind=kind)
    assert message in line and not (tmp_path / "a").exists()


def test_other_folders(tmp_path):
    for path, preset, kind, message in (
        (tmp_path, "radford-64", mg.RunError, "expected files of one net, such as 200_gen_params"),
        (tmp_path / "no.npy", "radford-64", mg.RunError, "cannot read"),
        (tmp_path / "no", "radford-64", mg.ConfigError, "or a folder of published .npy"),
    ):
        line = refusal(import_run, [path], dict(preset=preset), kind=kind)
        assert message in line and str(path) in line
    publish(tmp_path, "radford-64:svhn")
    line = refusal(import_run, [tmp_path], dict(preset="mnist"), kind=mg.ConfigError)
    assert line == f"{tmp_path} has the DCGAN paper's weights: mnist is another network"
