"""Weights of PyTorch's DCGAN: the same images and the same logits as in PyTorch."""

import numpy as np
import pytest

import minigan as mg
from minigan.data.files.npz import load_arrays, unpack
from minigan.export.import_run import import_run
from minigan.training.game import Game
from tests.support.networks import assert_close
from tests.support.refusals import refusal
from tests.support.torch_dcgan import make_nets
from tests.support.torch_or_skip import import_torch

WIDTH, Z, N = 3, 7, 5
PRESETS = {"pytorch-64": (3, 1), "jindal-mnist64": (1, 2)}  # channels, last stride of D
RTOL = 1e-5


@pytest.fixture
def torch():
    torch = import_torch()
    pytest.importorskip("safetensors.torch")
    return torch


def save(torch, path, *nets, prefixes=("",)):
    """The state of networks, each name after its prefix, as a user saves it."""
    arrays = {}
    for net, prefix in zip(nets, prefixes, strict=True):
        arrays |= {prefix + name: array for name, array in net.state_dict().items()}
    import safetensors.torch

    safetensors.torch.save_file(arrays, path)
    return path


def save_each(torch, folder, nets):
    """-> netG.safetensors and netD.safetensors, as PyTorch's program leaves a file for each."""
    pairs = zip("GD", nets, strict=True)
    return [save(torch, folder / f"net{name}.safetensors", net) for name, net in pairs]


def imported(paths, preset, folder, log=lambda line: None):
    """-> Game with the networks of the run that the files become."""
    run = import_run(paths, dict(preset=preset, width=WIDTH, z_dim=Z), out=folder, log=log)
    game = Game(run.load_config()[0])
    (file,) = run.checkpoints.found()
    game.load(*unpack(load_arrays(file), file), file)
    return game


@pytest.mark.parametrize(
    "preset", (pytest.param("pytorch-64", marks=pytest.mark.slow), "jindal-mnist64")
)
def test_the_same_outputs(preset, torch, tmp_path):
    channels, stride = PRESETS[preset]
    nets = make_nets(torch, WIDTH, Z, channels, stride)
    files = save_each(torch, tmp_path, nets)
    game = imported(files, preset, tmp_path / "a")
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, Z)).astype("f4")
    x = rng.uniform(-1, 1, (N, *game.D.in_shape)).astype("f4")
    given = (z[:, :, None, None], x.transpose(0, 3, 1, 2))
    for net, twin, ours, theirs in zip((game.G, game.D), nets, (z, x), given, strict=True):
        for train in (False, True):  # first: training changes its running statistics
            for layer in net.layers:
                layer.sampling = "batch" if train else "running"
            with torch.no_grad():
                expected = twin.train(train)(torch.tensor(theirs)).numpy()
            y = net.forward(ours, train=False)
            y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
            assert_close(y, expected, f"{net.name}, training {train}", RTOL)


def test_other_prefixes_and_nested_modules(torch, tmp_path):
    """nn.DataParallel, both nets in one file, and a program with a Sequential for each block."""
    nets = make_nets(torch, WIDTH, Z, 3)
    plain = save_each(torch, tmp_path, nets)
    both = save(torch, tmp_path / "b.safetensors", *nets, prefixes=("netG.module.", "netD.module."))
    nn = torch.nn
    for net in nets:
        layers, blocks = list(net.main), []
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                blocks.append([])
            blocks[-1].append(layer)
        net.main = nn.Sequential(*(nn.Sequential(*block) for block in blocks))
    nested = save(torch, tmp_path / "n.safetensors", *nets, prefixes=("gen.", "disc."))
    games = [
        imported(files, "pytorch-64", tmp_path / str(i))
        for i, files in enumerate((plain, [both], [nested]))
    ]
    for game in games[1:]:
        for name in ("G", "D"):
            states = (game.nets[name].ready().state(), games[0].nets[name].ready().state())
            for key, array in states[1].items():
                np.testing.assert_array_equal(states[0][key], array)


def test_a_run_without_d(torch, tmp_path):
    """D is as the run's seed draws it."""
    G, D = make_nets(torch, WIDTH, Z, 3)
    lines = []
    file = save(torch, tmp_path / "netG.safetensors", G)
    game = imported([file], "pytorch-64", tmp_path / "a", lines.append)
    assert lines[0] == "NOTE: netG.safetensors has no D: it starts untrained"
    fresh = Game(game.config).D.ready().state()
    for name, array in game.D.ready().state().items():
        np.testing.assert_array_equal(array, fresh[name])
    file = save(torch, tmp_path / "netD.safetensors", D)
    line = refusal(imported, [file], "pytorch-64", tmp_path / "b", kind=mg.RunError)
    assert line == "netD.safetensors has no generator, and a run needs one: add its file"
    files = [save(torch, tmp_path / f"{name}.safetensors", G) for name in "ab"]
    line = refusal(imported, files, "pytorch-64", tmp_path / "b", kind=mg.RunError)
    assert line.endswith("b.safetensors has weights of G, which another file has, too")
    assert not (tmp_path / "b").exists()


def change(name, to):
    """-> a function that renames an array of a state, or drops it, or casts it."""

    def changed(state):
        array = state.pop(name)
        if to is not None:
            state[to] = array
        return state

    return changed


@pytest.mark.parametrize(
    "changed, message",
    (
        (
            change("main.3.weight", None),
            ": after 2 modules that are those of G: expected weight, got main.4.bias, ",
        ),
        (
            change("main.4.bias", None),
            ": after 3 modules that are those of G: expected weight, bias, running_mean, "
            "running_var, got main.4.running_mean, main.4.running_var, main.4.weight",
        ),
        (change("main.12.weight", None), ": expected weight, got nothing more"),
        (change("main.12.weight", "main.12.kernel"), ": expected weight, got main.12.kernel"),
        (change("main.0.weight", "first.weight"), "such as main.0.weight, got 'first.weight'"),
        (change("main.0.weight", "main.99.weight"), ": after 0 modules"),
        (
            lambda state: {**state, "main.14.weight": state["main.0.weight"].clone()},
            ": after 9 modules that are those of G: expected nothing more, got main.14.weight",
        ),
        (
            lambda state: {
                **state, **{f"twice.{name}": array.clone() for name, array in state.items()}
            },
            " has G twice",
        ),
        (
            lambda state: {name: array.double() for name, array in state.items()},
            "main.0.weight must be float32 (7, 24, 4, 4) for G.1 (ConvTranspose2d 7->24, k4 s1 "
            "valid), got F64 (7, 24, 4, 4): convert it, or give --width, --z-dim or another",
        ),
        (
            lambda state: {name: array.bfloat16() for name, array in state.items()},
            "got BF16 (7, 24, 4, 4): convert it",
        ),
        (
            lambda state: {**state, "main.3.weight": state["main.3.weight"][:, :-1].contiguous()},
            "main.3.weight must be float32 (24, 12, 4, 4) for G.4 (ConvTranspose2d 24->12, k4 s2 "
            "p1), got float32 (24, 11, 4, 4): convert it, or give --width, ",
        ),
        (
            lambda state: {**state, "main.6.weight": state["main.6.weight"] / 0},
            "main.6.weight has numbers that no network has",
        ),
        (
            lambda state: {**state, "main.1.running_var": -state["main.1.running_var"]},
            "main.1.running_var has numbers that no network has",
        ),
    ),
)  # fmt: skip
def test_arrays_that_do_not_fit(changed, message, torch, tmp_path):
    G, _ = make_nets(torch, WIDTH, Z, 3)
    import safetensors.torch

    file = tmp_path / "netG.safetensors"
    safetensors.torch.save_file(changed(dict(G.state_dict())), file)
    line = refusal(imported, [file], "pytorch-64", tmp_path / "a", kind=mg.RunError)
    assert line.startswith(str(file)) and message in line
    assert not (tmp_path / "a").exists()


def test_other_presets_are_refused(torch, tmp_path):
    G, _ = make_nets(torch, WIDTH, Z, 3)
    file = save(torch, tmp_path / "netG.safetensors", G)
    line = refusal(imported, [file], "image64", tmp_path / "a", kind=mg.ConfigError)
    assert "known for pytorch-64 and jindal-mnist64 only, not for image64" in line
