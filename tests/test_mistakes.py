"""Every mistake meets one clear line, and leaves what was there untouched."""

import errno
import gzip
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import minigan as mg
import minigan.files
import minigan.training.loop
from minigan.cli.main import main
from minigan.data.files.npz import load_arrays, save_arrays
from tests.pictures import noise

# -- in the library -----------------------------------------------------------


def net(*layers, in_shape=(28, 28, 1), name="D", dtype="float32"):
    made = mg.Sequential(layers, name=name)
    made.setup(in_shape, backend=mg.get_backend("numpy", dtype=dtype), rng=np.random.default_rng(0))
    return made


def conv():
    return net(mg.Conv2d(8, 5, stride=2, padding="same"), mg.BatchNorm(), mg.LeakyReLU(0.2))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def backward_first():
    conv().backward(zeros(2, 14, 14, 8))


def stale_backward():
    made = conv()
    dy = made.forward(np.random.default_rng(0).random((2, 28, 28, 1), np.float32))
    opt = mg.Adam(made)
    made.backward(dy)
    opt.step()
    made.backward(dy)


def stale_optimizer():
    made = conv()
    opt = mg.Adam(made)
    made.setup((28, 28, 1), backend=made.backend, rng=np.random.default_rng(0))
    opt.step()


def dy_of(*shape):
    made = conv()
    made.forward(zeros(2, 28, 28, 1))
    made.backward(zeros(*shape))


MISTAKES = {
    "wrong shape": (
        lambda: conv().forward(zeros(2, 20, 20, 1)),
        mg.ShapeError,
        "D.0 (Conv2d 1->8, k5 s2 same): expected x (n, 28, 28, 1), got (2, 20, 20, 1)",
    ),
    "wrong channels": (
        lambda: conv().forward(zeros(2, 28, 28, 3)),
        mg.ShapeError,
        "D.0 (Conv2d 1->8, k5 s2 same): expected x (n, 28, 28, 1), got (2, 28, 28, 3)",
    ),
    "channels first": (
        lambda: conv().forward(zeros(2, 1, 28, 28)),
        mg.ShapeError,
        "expected x (n, 28, 28, 1), got (2, 1, 28, 28): minigan is channels-last, call x.transpose(0, 2, 3, 1)",
    ),
    "channels first of another size": (
        lambda: net(mg.Conv2d(8, 3), in_shape=(64, 64, 3)).forward(zeros(2, 3, 32, 32)),
        mg.ShapeError,
        "got (2, 3, 32, 32): this looks channels-first; minigan is channels-last, call x.transpose(0, 2, 3, 1)",
    ),
    "no batch axis": (
        lambda: conv().forward(zeros(28, 28, 1)),
        mg.ShapeError,
        "the batch axis is missing, pass x[None]",
    ),
    "empty batch": (
        lambda: conv().forward(zeros(0, 28, 28, 1)),
        mg.ShapeError,
        "got an empty batch",
    ),
    "wrong dtype": (
        lambda: conv().forward(zeros(2, 28, 28, 1, dtype=np.float64)),
        mg.ArrayTypeError,
        "expected x of dtype float32, got float64: call backend.asarray(x) first",
    ),
    "a list": (
        lambda: conv().forward([[1.0]]),
        mg.ArrayTypeError,
        "got builtins.list as x on the numpy backend",
    ),
    "dy of the wrong shape": (
        lambda: dy_of(2, 14, 14, 1),
        mg.ShapeError,
        "D: expected dy (n, 14, 14, 8), got (2, 14, 14, 1)",
    ),
    "dy of another batch": (
        lambda: dy_of(3, 14, 14, 8),
        mg.ShapeError,
        "D: expected dy of the 2 samples of the last forward, got 3",
    ),
    "layers of two networks": (
        lambda: net(*conv().layers, name="N"),
        mg.StateError,
        "N: layer 0, Conv2d 1->8, k5 s2 same, is part of another network",
    ),
    "a network inside of another": (
        lambda: net(conv(), name="N"),
        mg.StateError,
        "D: is set up as a network of its own: put new layers into N",
    ),
    "an optimizer of an older setup": (
        stale_optimizer,
        mg.StateError,
        "Adam: D was set up anew since: make a new optimizer",
    ),
    "no logits": (
        lambda: mg.bce_with_logits(zeros(0, 1), 1.0),
        mg.ShapeError,
        "expected at least one logit",
    ),
    "batch of 1": (
        lambda: conv().forward(zeros(1, 28, 28, 1)),
        mg.ShapeError,
        "D.1 (BatchNorm 8): a batch of 1 has no batch statistics: expected n of at least 2",
    ),
    "backward before forward": (
        backward_first,
        mg.StateError,
        "D: backward before forward: call forward(x) first",
    ),
    "backward after an update": (
        stale_backward,
        mg.StateError,
        "D: the parameters were updated since the last forward",
    ),
    "forward before setup": (
        lambda: mg.Sequential([mg.Tanh()], name="D").forward(zeros(2, 3)),
        mg.StateError,
        "D: call setup(in_shape",
    ),
    "parameters before setup": (
        lambda: mg.Sequential([mg.Tanh()]).params,
        mg.StateError,
        "net: call setup(in_shape",
    ),
    "padding as large as the kernel": (
        lambda: mg.Conv2d(8, 3, padding=3),
        mg.ConfigError,
        "Conv2d: padding 3 must be smaller than the kernel, 3 in height",
    ),
    "padding that leaves nothing": (
        lambda: net(mg.ConvTranspose2d(8, 5, padding=4), in_shape=(2, 2, 1)),
        mg.ShapeError,
        "D.0 (ConvTranspose2d 1->8, k5 s1 p4): padding 4+4 leaves nothing of height 2",
    ),
    "negative padding": (
        lambda: mg.Conv2d(8, 3, padding=-1),
        mg.ConfigError,
        "padding must be a whole number of at least 0, got -1",
    ),
    "padding by a wrong name": (
        lambda: mg.Conv2d(8, 3, padding="full"),
        mg.ConfigError,
        "got 'full'",
    ),
    "padding of two numbers": (
        lambda: mg.Conv2d(8, 3, padding=(1, 1)),
        mg.ConfigError,
        "padding must be a number or ((top, bottom), (left, right))",
    ),
    "kernel larger than the image": (
        lambda: net(mg.Conv2d(8, 5), in_shape=(4, 9, 1)),
        mg.ShapeError,
        "kernel 5 does not fit height 4 with padding 0+0",
    ),
    "kernel 0": (
        lambda: mg.Conv2d(8, 0),
        mg.ConfigError,
        "Conv2d: kernel_size must be a whole number of at least 1, got 0",
    ),
    "kernel of three": (
        lambda: mg.Conv2d(8, (3, 3, 3)),
        mg.ConfigError,
        "kernel_size must be a number or a pair",
    ),
    "stride 0": (
        lambda: mg.Conv2d(8, 3, stride=0),
        mg.ConfigError,
        "Conv2d: stride must be a whole number of at least 1, got 0",
    ),
    "stride 0 of a transposed": (
        lambda: mg.ConvTranspose2d(8, 3, stride=0),
        mg.ConfigError,
        "ConvTranspose2d: stride must",
    ),
    "stride 1.5": (lambda: mg.Conv2d(8, 3, stride=1.5), mg.ConfigError, "got 1.5"),
    "no channels": (
        lambda: mg.Conv2d(0, 3),
        mg.ConfigError,
        "channels must be a whole number of at least 1, got 0",
    ),
    "output_padding of a stride": (
        lambda: mg.ConvTranspose2d(8, 3, stride=2, output_padding=2),
        mg.ConfigError,
        "output_padding must be smaller than the stride 2",
    ),
    "output_padding with same": (
        lambda: mg.ConvTranspose2d(8, 3, stride=2, padding="same", output_padding=1),
        mg.ConfigError,
        "leave output_padding at 0",
    ),
    "vectors into a convolution": (
        lambda: net(mg.Conv2d(8, 3), in_shape=(9,)),
        mg.ShapeError,
        "expected an image (h, w, c), got (9,): put Reshape((h, w, c)) before",
    ),
    "images into Linear": (
        lambda: net(mg.Linear(8)),
        mg.ShapeError,
        "D.0 (Linear ?->8): expected vectors (in,), got (28, 28, 1): put Flatten() before it",
    ),
    "BatchNorm of a sequence": (
        lambda: net(mg.BatchNorm(), in_shape=(3, 4)),
        mg.ShapeError,
        "expected vectors (c,) or images",
    ),
    "Reshape that does not fit": (
        lambda: net(mg.Reshape((5, 5, 1))),
        mg.ShapeError,
        "D.0 (Reshape (5, 5, 1)): (28, 28, 1) has 784 numbers, (5, 5, 1) wants 25",
    ),
    "Reshape of a number": (
        lambda: mg.Reshape(5),
        mg.ConfigError,
        "Reshape: expected a shape without the batch axis",
    ),
    "slope 1": (
        lambda: mg.LeakyReLU(1),
        mg.ConfigError,
        "LeakyReLU: slope must be at least 0 and below 1, got 1",
    ),
    "Dropout of all": (
        lambda: mg.Dropout(1.0),
        mg.ConfigError,
        "Dropout: p must be at least 0 and below 1, got 1.0",
    ),
    "running_rate": (
        lambda: mg.BatchNorm(running_rate=0),
        mg.ConfigError,
        "BatchNorm: running_rate must be above 0",
    ),
    "eps": (
        lambda: mg.BatchNorm(eps=0),
        mg.ConfigError,
        "BatchNorm: eps must be above 0 and below 1, got 0",
    ),
    "sampling": (
        lambda: mg.BatchNorm(sampling="eval"),
        mg.ConfigError,
        'sampling must be "running" or "batch", got \'eval\'',
    ),
    "in_shape with a batch of None": (
        lambda: net(mg.Tanh(), in_shape=(None, 3)),
        mg.ShapeError,
        "whole numbers of at least 1",
    ),
    "in_shape of a number": (
        lambda: net(mg.Tanh(), in_shape=3),
        mg.ShapeError,
        "expected a shape without the batch axis",
    ),
    "no layers": (lambda: mg.Sequential([]), mg.ConfigError, "needs at least one layer"),
    "a class for a layer": (
        lambda: mg.Sequential([mg.Tanh]),
        mg.ConfigError,
        "expected layers, got <class",
    ),
    "one layer twice": (
        lambda: mg.Sequential([mg.Tanh()] * 2),
        mg.ConfigError,
        "the same layer instance stands twice",
    ),
    "learning rate": (
        lambda: mg.Adam(conv(), lr=-1),
        mg.ConfigError,
        "Adam: lr must be at least 0, got -1",
    ),
    "learning rate beyond all floats": (
        lambda: mg.Adam(conv(), lr=10**400),
        mg.ConfigError,
        "Adam: lr must be at least 0, got 1000",
    ),
    "learning rate NaN": (
        lambda: mg.SGD(conv(), lr=float("nan")),
        mg.ConfigError,
        "SGD: lr must be at least 0, got nan",
    ),
    "beta": (
        lambda: mg.Adam(conv(), beta1=1),
        mg.ConfigError,
        "Adam: beta1 must be at least 0 and below 1, got 1",
    ),
    "l2": (
        lambda: mg.RMSprop(conv(), l2=-1),
        mg.ConfigError,
        "RMSprop: l2 must be at least 0, got -1",
    ),
    "eps of Adam": (
        lambda: mg.Adam(conv(), eps=0),
        mg.ConfigError,
        "Adam: eps must be above 0 and below 1, got 0",
    ),
    "parameters for a network": (
        lambda: mg.Adam(conv().params),
        mg.ConfigError,
        "Adam: expected a network, a Sequential, got dict",
    ),
    "layers without a list": (
        lambda: mg.Sequential(mg.Tanh()),
        mg.ConfigError,
        "net: expected a list of layers, got Tanh",
    ),
    "backend by name": (
        lambda: mg.Sequential([mg.Tanh()]).setup(
            (3,), backend="numpy", rng=np.random.default_rng(0)
        ),
        mg.ConfigError,
        "net: expected backend as from get_backend(\"numpy\"), got 'numpy'",
    ),
    "rng by seed": (
        lambda: mg.Sequential([mg.Tanh()]).setup((3,), backend=mg.get_backend("numpy"), rng=0),
        mg.ConfigError,
        "net: expected rng as from numpy.random.default_rng(seed), got 0",
    ),
    "initializer by name": (
        lambda: net(mg.Conv2d(2, 3, initializer="he")),
        mg.ConfigError,
        "0.W: expected an initializer",
    ),
    "initializer not called": (
        lambda: net(mg.Conv2d(2, 3, initializer=mg.initializers.he)),
        mg.ConfigError,
        "was it called, as he()?",
    ),
    "slope as text": (lambda: mg.LeakyReLU("0.2"), mg.ConfigError, "got '0.2'"),
    "a size beyond all memory": (
        lambda: mg.Conv2d(10**20, 3),
        mg.ConfigError,
        "channels must be a whole number of at least 1 and at most",
    ),
    "floats for a picture": (
        lambda: mg.images.grid(zeros(2, 3, 3, 1)),
        mg.ShapeError,
        "got float32 (2, 3, 3, 1): floats in [-1, 1] become pixels by data.to_pixels",
    ),
    "a grid of no columns": (
        lambda: mg.images.grid(zeros(2, 3, 3, 1, dtype=np.uint8), columns=-1),
        mg.ConfigError,
        "grid: columns must be",
    ),
    "float pictures for batches": (
        lambda: mg.data.Batches(zeros(9, 3, 3, 1), 4),
        mg.DataError,
        "expected uint8 images, got float32",
    ),
    "nesterov alone": (
        lambda: mg.SGD(conv(), 0.1, nesterov=True),
        mg.ConfigError,
        "give a momentum above 0",
    ),
    "std": (
        lambda: mg.initializers.normal(-1),
        mg.ConfigError,
        "normal: std must be 0 or more, got -1",
    ),
    "preset": (
        lambda: mg.presets.get_preset("mnits"),
        mg.ConfigError,
        "unknown preset 'mnits': choose one of mnist,",
    ),
    "grid": (
        lambda: mg.images.grid(zeros(2, 3, 3, 2, dtype=np.uint8)),
        mg.ShapeError,
        "grid: expected uint8 images (n, h, w, 1 or 3), got uint8 (2, 3, 3, 2)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_in_the_library(mistake):
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_failed_setup_leaves_no_network():
    made = net(mg.Conv2d(4, 3), mg.Flatten(), mg.Linear(2), in_shape=(8, 8, 3))
    with pytest.raises(mg.ShapeError):
        made.setup((2, 2, 3), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    with pytest.raises(mg.StateError, match="call setup"):
        made.forward(zeros(3, 2, 2, 3))


def test_a_mistake_leaves_the_network_usable():
    made = conv()
    x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    y = made.forward(x, train=False)
    for wrong in (zeros(2, 1, 28, 28), zeros(1, 28, 28, 1)):
        with pytest.raises(mg.ShapeError):
            made.forward(wrong)
    with pytest.raises(mg.StateError):
        made.backward(zeros(2, 14, 14, 8))  # the failed forward left nothing to go back through
    np.testing.assert_array_equal(made.forward(x, train=False), y)


# -- on the command line --------------------------------------------------------


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.setattr(minigan.training.loop, "load_dataset", noise(40))
    monkeypatch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)


SMALL = ["--width", "4", "--batch-size", "16", "--z-dim", "8"]


def refused(capsys, *arguments):
    """-> the one line on stderr of a command that ends with exit code 2."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minigan: error: ") and captured.err.count("\n") == 1, (
        captured.err
    )
    return captured.err


def files(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "options, message",
    (
        (["--preset", "mnits"], "unknown preset 'mnits': choose one of mnist, color32"),
        (
            ["--dataset", "cifar"],
            "--dataset must be one of auto, mnist, fashion-mnist, kmnist, cifar10, svhn, celeba, folder, strokes, got 'cifar'",
        ),
        (["--backend", "torch"], "--backend must be one of numpy, cupy, got 'torch'"),
        (["--z", "cauchy"], "--z must be one of normal, uniform, got 'cauchy'"),
        (["--batch-size", "1"], "--batch-size must be a whole number of at least 2, got 1"),
        (["--width", "0"], "--width must be a whole number of at least 1, got 0"),
        (["--z-dim", "-5"], "--z-dim must be a whole number of at least 1, got -5"),
        (["--epochs", "0"], "--epochs must be a whole number of at least 1, got 0"),
        (["--steps", "0"], "--steps must be a whole number of at least 1, got 0"),
        (
            ["--steps", "ten"],
            "argument --steps: invalid int value: 'ten' (see minigan train --help)",
        ),
        (["--steps", "3", "--epochs", "3"], "argument --epochs: not allowed with argument --steps"),
        (["--seed", "-1"], "--seed must be a whole number of at least 0, got -1"),
        (["--sample-every", "0"], "--sample-every must be a whole number of at least 1"),
        (["--lr-g", "0"], "--lr-g must be above 0 and at most 1, got 0.0"),
        (["--lr-d", "nan"], "--lr-d must be above 0 and at most 1, got nan"),
        (["--beta1", "1"], "--beta1 must be at least 0 and below 1, got 1.0"),
        (
            ["--width", "1" + "0" * 20],
            "--width must be a whole number of at least 1 and at most 65536",
        ),
        (
            ["--batch-size", "1" + "0" * 20],
            "--batch-size must be a whole number of at least 2 and at most",
        ),
        (["--batch-size", "41"], "batch_size 41 is larger than the whole set, 40 images"),
        (["--threads", "0"], "--threads must be a whole number of at least 1, got 0"),
        (["--momentum", "1"], "unrecognized arguments: --momentum 1"),
        (["--resume", "runs/none"], "runs/none is not the folder of a run: it has no config.json"),
        (
            ["--resume", "a", "--out", "b"],
            "--resume goes on in the run's own folder: leave --out away",
        ),
    ),
)
def test_options(options, message, pictures, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "train", *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    (
        (
            [],
            "the following arguments are required: train|sample|presets|judge|evaluate|animate|plot|compare|report|",
        ),
        (["trian"], "invalid choice: 'trian'"),
        (["sample"], "the following arguments are required"),
        (["sample", "nowhere", "--out", "a.png"], "nowhere is not the folder of a run"),
        (
            ["sample", "nowhere", "--out", "a.jpg"],
            "--out must end in .png (a grid) or .npy (an array), got 'a.jpg'",
        ),
        (
            ["sample", "nowhere", "--out", "a.png", "--n", "0"],
            "--n must be a whole number of at least 1, got 0",
        ),
        (
            ["sample", "nowhere", "--out", "a.png", "--seed", "-1"],
            "--seed must be a whole number of at least 0, got -1",
        ),
    ),
)
def test_commands(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_cupy_without_cupy(pictures, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    line = refused(capsys, "train", *SMALL, "--backend", "cupy", "--out", tmp_path / "a")
    assert "CuPy is not installed: install it with: pip install 'cupy-cuda13x[ctk]'" in line
    assert not (tmp_path / "a").exists()


@pytest.fixture
def run(pictures, tmp_path, capsys):
    """-> the folder of a finished run"""
    assert main(["train", *SMALL, "--steps", "3", "--out", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def test_a_run_folder_that_exists(run, capsys):
    before = files(run)
    assert f"{run} exists already: go on with --resume {run}" in refused(
        capsys, "train", *SMALL, "--out", run
    )
    assert files(run) == before
    (run.parent / "file").write_text("mine")
    assert "exists already" in refused(capsys, "train", *SMALL, "--out", run.parent / "file")
    assert (run.parent / "file").read_text() == "mine"


def test_an_empty_folder_is_taken(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["train", *SMALL, "--steps", "1", "--out", str(tmp_path / "empty")]) == 0


def test_options_that_a_resumed_run_cannot_take(run, capsys):
    before = files(run)
    line = refused(capsys, "train", "--resume", run, "--width", 8, "--steps", 5)
    assert "--width 8 does not fit the run, which has 4: leave it out to go on" in line
    assert files(run) == before
    assert (
        main(["train", "--resume", str(run), "--width", "4", "--steps", "4"]) == 0
    )  # the same value does no harm


@pytest.mark.parametrize("command", ("train", "sample"))
def test_a_checkpoint_of_another_architecture(command, run, capsys):
    other = run.parent / "other"
    assert main(["train", *SMALL, "--width", "6", "--steps", "3", "--out", str(other)]) == 0
    for name in ("generator.npz", "checkpoints/step-00000000.npz", "checkpoints/step-00000003.npz"):
        shutil.copy(other / name, run / name)
    before = files(run)
    arguments = (
        ["--resume", run, "--steps", 5]
        if command == "train"
        else [run, "--out", run.parent / "s.png"]
    )
    line = refused(capsys, command, *arguments)
    assert (
        "G.0.W is float32 (8, 216) in the file and float32 (8, 144) here: it is of another architecture"
        in line
    )
    assert files(run) == before and not (run.parent / "s.png").exists()


def test_a_checkpoint_of_another_preset(run, capsys):
    other = run.parent / "other"
    assert (
        main(
            ["train", *SMALL, "--preset", "fredriksson-mnist", "--steps", "3", "--out", str(other)]
        )
        == 0
    )
    shutil.copy(other / "generator.npz", run / "generator.npz")
    assert "it is of another architecture" in refused(
        capsys, "sample", run, "--out", run.parent / "s.png"
    )


def bit_flipped(content):
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    (
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"<html>login</html>" * 50,
        bit_flipped,
    ),
    ids=("empty", "truncated", "html", "bit flipped"),
)
def test_damaged_checkpoint(damage, run, capsys):
    for name in ("generator.npz", "checkpoints/step-00000003.npz"):
        (run / name).write_bytes(damage((run / name).read_bytes()))
    assert "damaged" in refused(capsys, "sample", run, "--out", run.parent / "s.png")
    shutil.copytree(run, run.parent / "copy")
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 0  # from the one before
    out = capsys.readouterr().out
    assert (
        f"passing over a checkpoint: {run / 'checkpoints/step-00000003.npz'} is damaged" in out
        and "going on from step 0" in out
    )
    run = run.parent / "copy"
    path = run / "checkpoints/step-00000000.npz"
    path.write_bytes(damage(path.read_bytes()))
    before = files(run)
    assert (
        "no checkpoint in" in (line := refused(capsys, "train", "--resume", run, "--steps", 5))
        and "damaged" in line
    )
    assert files(run) == before


@pytest.mark.parametrize(
    "content",
    (b"", b"{", b"[]", b'{"options": {}}', b'{"options": {"width": "wide"}}', b"\xff\xfe"),
)
def test_damaged_config(content, run, capsys):
    (run / "config.json").write_bytes(content)
    before = files(run)
    assert f"{run / 'config.json'} is damaged" in refused(
        capsys, "train", "--resume", run, "--steps", 5
    )
    assert files(run) == before


def test_a_run_without_checkpoints(run, capsys):
    """As after a kill in its first second: it begins anew, and comes to the same."""
    wanted = (run / "generator.npz").read_bytes()
    for name in ("checkpoints", "samples"):
        shutil.rmtree(run / name)
    for name in ("generator.npz", "metrics.csv", "real.png"):
        (run / name).unlink()
    assert "exists already: go on with --resume" in refused(capsys, "train", *SMALL, "--out", run)
    assert "generator.npz does not exist" in refused(
        capsys, "sample", run, "--out", run.parent / "s.png"
    )
    assert main(["train", "--resume", str(run)]) == 0
    assert (run / "generator.npz").read_bytes() == wanted and (run / "real.png").exists()
    assert len((run / "metrics.csv").read_text().splitlines()) == 4


def test_pickles_are_refused(run, capsys, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    np.savez(run / "generator.npz", **{"0.W": np.array([Evil()], dtype=object)})
    assert "damaged" in refused(capsys, "sample", run, "--out", run.parent / "s.png")
    assert not (tmp_path / "owned").exists()


def test_strange_metrics_do_no_harm(run):
    for content in (None, b"step\xff\n\xb2,1\n1,1,0,0,0,0,0,0\n9,9\n"):
        (run / "metrics.csv").unlink()
        if content:
            (run / "metrics.csv").write_bytes(content)
        steps = 5 if content is None else 7
        assert main(["train", "--resume", str(run), "--steps", str(steps)]) == 0
        assert (run / "metrics.csv").read_text().splitlines()[-1].startswith(f"{steps},")


def test_only_its_own_checkpoints_are_taken(run):
    """Copies that the user made under names of theirs are neither resumed from nor removed."""
    own = run / "checkpoints/step-00000003.npz"
    for name in (
        "step-best.npz",
        "step-00000009-mine.npz",
    ):  # kept-*: those that an alarm has put aside
        shutil.copy(own, run / "checkpoints" / name)
    assert main(["train", "--resume", str(run), "--steps", "5"]) == 0
    assert main(["train", "--resume", str(run), "--steps", "6"]) == 0
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {
        "step-best.npz",
        "step-00000009-mine.npz",
        "step-00000005.npz",
        "step-00000006.npz",
    }


def test_missing_samples_folder_is_made_again(run):
    shutil.rmtree(run / "samples")
    assert main(["train", "--resume", str(run), "--steps", "5"]) == 0
    assert (run / "samples/step-00000005.png").exists()


def test_a_generator_that_went_astray(run, capsys):
    arrays = load_arrays(run / "generator.npz")
    arrays["0.W"] = np.full_like(arrays["0.W"], np.nan)
    save_arrays(run / "generator.npz", arrays)
    assert "the generator gives NaN: its training went astray" in refused(
        capsys, "sample", run, "--out", run.parent / "s.png"
    )


@pytest.mark.parametrize("number", (errno.ENOSPC, errno.EIO, errno.EROFS))
def test_full_disk(number, run, capsys, monkeypatch):
    """The write fails half way: the last checkpoint stays, no temporary file remains, one line says so."""
    before = {
        path: content
        for path, content in files(run).items()
        if "checkpoints" in str(path) or "generator" in str(path)
    }

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    def save(self, *arguments):  # the first write of the run that matters
        monkeypatch.setattr(minigan.files.os, "fsync", fail)
        return original(self, *arguments)

    original = minigan.training.loop.Run.save
    monkeypatch.setattr(minigan.training.loop.Run, "save", save)
    line = refused(capsys, "train", "--resume", run, "--steps", 5)
    assert (
        f"cannot write {run / 'generator.npz'}: {os.strerror(number)}" in line
        and "the last good checkpoint is of step 3" in line
    )
    after = files(run)
    assert all(after[path] == content for path, content in before.items())
    assert not [path for path in after if path.name.endswith(".tmp")]
    monkeypatch.undo()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_under_metrics(run, capsys, monkeypatch):
    monkeypatch.setattr(minigan.training.loop.Run, "forget_after", lambda self, step: None)
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to("/dev/full")
    line = refused(capsys, "train", "--resume", run, "--steps", 5)
    assert (
        f"cannot write {run / 'metrics.csv'}: No space left on device: free some space; the checkpoint of step 5 is written"
        in line
    )
    assert (run / "checkpoints/step-00000005.npz").exists()


def test_no_permission(pictures, tmp_path, capsys):
    """A folder that cannot be made. (A file in its way: permissions do not stop the root user.)"""
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, "train", *SMALL, "--out", tmp_path / "file" / "run")
    assert f"{tmp_path / 'file' / 'run'}: Not a directory: choose another" in line
    assert files(tmp_path) == {tmp_path / "file": b"mine"}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the root user may write anywhere"
)
def test_no_permission_as_a_user(pictures, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied: choose another" in refused(
        capsys, "train", *SMALL, "--out", tmp_path / "locked" / "run"
    )


def test_sample_into_no_folder(run, capsys):
    assert "No such file or directory" in refused(
        capsys, "sample", run, "--out", run.parent / "none" / "s.png"
    )


def test_too_little_memory(pictures, capsys, monkeypatch, tmp_path):
    def no_memory(*arguments):
        raise MemoryError("Unable to allocate 1 TiB")

    monkeypatch.setattr(minigan.training.loop.Game, "round", no_memory)
    line = refused(capsys, "train", *SMALL, "--steps", 2, "--out", tmp_path / "a")
    assert "not enough memory (Unable to allocate 1 TiB): take a smaller --batch-size" in line


IDX = b"\x00\x00\x08\x03\x00\x00\xea\x60\x00\x00\x00\x1c\x00\x00\x00\x1c"  # the header of MNIST's training images


def gzip_bomb():
    """Half a GiB of nothing behind a right header, in half a MiB."""
    return gzip.compress(IDX) + b"".join([gzip.compress(bytes(1 << 24), compresslevel=9)] * 32)


@pytest.mark.parametrize(
    "content, message",
    (
        (None, "no MNIST here: looked for train-images-idx3-ubyte"),
        (IDX + bytes(1000), "train-images-idx3-ubyte"),  # truncated
        (IDX + bytes(60000 * 784), "train-images-idx3-ubyte"),  # other pixels than MNIST's
        ("bomb", "train-images-idx3-ubyte"),
        (b"<html>Please log in</html>", "train-images-idx3-ubyte"),
    ),
    ids=("missing", "truncated", "other bytes", "gzip bomb", "html"),
)
def test_data_files(content, message, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    if content is not None:
        (data / "train-images-idx3-ubyte").write_bytes(
            gzip_bomb() if content == "bomb" else content
        )
        (data / "train-labels-idx1-ubyte").write_bytes(
            b"\x00\x00\x08\x01\x00\x00\xea\x60" + bytes(60000)
        )
    before = files(tmp_path)
    for dataset in (
        "mnist",
        "auto",
    ):  # a folder that was named is never replaced by something else in silence
        line = refused(
            capsys,
            "train",
            *SMALL,
            "--dataset",
            dataset,
            "--data-dir",
            data,
            "--out",
            tmp_path / "a",
        )
        assert message in line and str(data) in line
    assert files(tmp_path) == before


def test_one_flipped_bit_in_mnist(tmp_path, capsys):
    try:
        images, labels = mg.data.load_mnist(download=False)
    except mg.DataError:
        pytest.skip("MNIST is not on this machine: set MINIGAN_DATA")
    content = bytearray(IDX + images.tobytes())
    content[1_000_000] ^= 1
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(
        b"\x00\x00\x08\x01\x00\x00\xea\x60" + labels.tobytes()
    )
    assert "train-images-idx3-ubyte" in refused(
        capsys, "train", "--data-dir", tmp_path, "--out", tmp_path / "a"
    )


def test_no_traceback_in_a_whole_process(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "minigan", "train", "--preset", "mnits"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_help_is_no_mistake(capsys):
    for arguments in (["--help"], ["train", "--help"], ["sample", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    assert "--sample-every" in capsys.readouterr().out


def test_arrays_of_a_file_come_back(tmp_path):
    arrays = {"a/b.c": np.arange(6.0).reshape(2, 3), "n": np.zeros(0, np.uint8)}
    save_arrays(tmp_path / "x.npz", arrays)
    save_arrays(tmp_path / "y.npz", arrays)
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    for name, array in load_arrays(tmp_path / "x.npz").items():
        np.testing.assert_array_equal(array, arrays[name])
    np.save(tmp_path / "one.npy", np.zeros(3))
    for path, message in (
        ("one.npy", "is damaged, or not written by minigan"),
        ("none.npz", "does not exist"),
    ):
        with pytest.raises(mg.RunError, match=message):
            load_arrays(tmp_path / path)
