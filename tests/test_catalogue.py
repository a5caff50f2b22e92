"""What a step costs, counted and estimated, and the table of presets."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.cli.costs import Machine, forward_flops, step_bytes, step_flops, step_seconds
from minigan.cli.main import main
from minigan.cli.presets_table import catalogue, clock
from minigan.gan import Rules, play_round
from minigan.presets import MODULES, get_preset

RULES = (
    Rules(),
    Rules(same_z=True),
    Rules(first="G"),
    Rules(first="G", same_z=True),
    Rules(first="both"),
    Rules(d_steps=3),
    Rules(same_z=True, running_statistics=True),
    Rules(generator_batch=2, apart=True),
    Rules(first="G", own_batches=True),
)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_operations_of_a_round_are_those_that_the_layers_are_asked_for(rules, monkeypatch):
    """Every forward, dx and dW of every layer with weights is noted while a round is played, and added up."""
    backend, batch, done = Backend(np), 4, []
    G = mg.Sequential(
        [
            mg.Linear(32),
            mg.Reshape((4, 4, 2)),
            mg.BatchNorm(),
            mg.ConvTranspose2d(1, 4, 2, 1),
            mg.Tanh(),
        ],
        name="G",
    )
    D = mg.Sequential(
        [mg.Conv2d(3, 4, 2, 1), mg.LeakyReLU(0.2), mg.Conv2d(4, 3), mg.Flatten(), mg.Linear(1)],
        name="D",
    )
    G.setup((5,), backend=backend, rng=np.random.default_rng(0))
    D.setup((8, 8, 1), backend=backend, rng=np.random.default_rng(0))

    def note(layer):
        forward, backward = layer.forward, layer.backward

        def noted_forward(x, train=True):
            done.append(forward_flops(layer) * len(x))
            return forward(x, train)

        def noted_backward(dy, need_dx=True, need_dw=True):
            done.append(forward_flops(layer) * len(dy) * (need_dx + need_dw))
            return backward(dy, need_dx, need_dw)

        layer.forward, layer.backward = noted_forward, noted_backward

    for layer in (*G.layers, *D.layers):
        note(layer)
    rng = np.random.default_rng(1)
    play_round(
        G,
        D,
        dict(G=mg.SGD(G, 0.1), D=mg.SGD(D, 0.1)),
        lambda: (rng.random((batch, 8, 8, 1), np.float32), None),
        lambda n: rng.random((n, 5), np.float32),
        rules,
    )
    assert sum(done) == step_flops(G, D, batch, rules)


def test_estimates_grow_with_the_work():
    preset, backend = get_preset("mnist"), mg.get_backend("numpy")
    machine = Machine(flops=1e11, bytes=1e10)

    def nets(width):
        G, D = (
            mg.Sequential(preset.generator(width, 64, (28, 28, 1))),
            mg.Sequential(preset.discriminator(width, (28, 28, 1))),
        )
        G.setup((64,), backend=backend, rng=np.random.default_rng(0))
        D.setup((28, 28, 1), backend=backend, rng=np.random.default_rng(0))
        return G, D

    narrow, wide = nets(8), nets(32)
    assert step_bytes(*narrow, 128) < step_bytes(*wide, 128) < step_bytes(*wide, 256)
    times = [
        step_seconds(*pair, n, preset.rules, machine)
        for pair, n in ((narrow, 128), (wide, 128), (wide, 256))
    ]
    assert times == sorted(times) and times[2] == pytest.approx(2 * times[1], rel=0.1)
    assert step_seconds(*wide, 128, preset.rules, Machine(2e11, 2e10)) == pytest.approx(
        times[1] / 2, rel=0.05
    )


def test_the_table_has_every_preset_once_with_its_numbers():
    lines = list(catalogue())
    rows = [line for line in lines if line.split() and line.split()[0] in MODULES]
    assert [row.split()[0] for row in rows] == list(MODULES)
    for row in rows:
        preset = get_preset(row.split()[0])
        for player in "GD":
            assert f" {sum(preset.counts[player]):,} " in row
        assert (
            preset.source in row and "x".join(map(str, preset.image_shape)) in row and " MiB" in row
        )
    assert (
        "variants: jayathilaka-faces:adam, jayathilaka-faces:rmsprop, jayathilaka-faces:sgd"
        in "\n".join(lines)
    )
    starts = {row.index(" MiB") for row in rows}
    assert len(starts) == 1  # columns stand below each other


@pytest.mark.parametrize("name", ("shibuya-svhn:T3", "radford-mnist-conditional"))
def test_one_in_detail(name, capsys):
    assert main(["presets", name]) == 0
    out = capsys.readouterr().out
    preset = get_preset(name)
    for player in "GD":
        trained, kept = preset.counts[player]
        assert f"{trained:,} trained, {kept:,} not" in out
    assert f"lr {preset.lr_g:g} of G and {preset.lr_d:g} of D, beta1 {preset.beta1:g}" in out


def test_an_unknown_one(capsys):
    assert main(["presets", "shibuya"]) == 2
    assert capsys.readouterr().err.startswith(
        "minigan: error: unknown preset 'shibuya': choose one of mnist, "
    )


def test_clock():
    assert [clock(seconds) for seconds in (0.2, 59.7, 61, 3599, 3600, 36_000)] == [
        "0:01",
        "1:00",
        "1:01",
        "59:59",
        "1:00:00",
        "10:00:00",
    ]
