"""Captured rounds and samples give the bits of those that are played operation by operation."""

import copy
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import minigan as mg
from minigan.presets import get_preset
from minigan.training import switches
from minigan.training.captured_round import ROWS, CapturedSampler
from tests.support.games import make_game
from tests.support.networks import assert_same_arrays
from tests.support.strict_cupy import make_module


class Double(mg.Layer):
    """A layer that has no kernels."""

    def forward(self, x, train=True):
        return x * 2.0

    def backward(self, dy, need_dx=True, need_dw=True):
        return dy * 2.0 if need_dx else None


def doubled(layers):
    return [Double(), *layers]


def spectral(layers):
    return [mg.SpectralNorm(each) if isinstance(each, mg.Linear) else each for each in layers]


@pytest.fixture(params=("plain", "numpy", "strict"))
def make(request, monkeypatch):
    """-> function (preset) -> Game, Batches. "strict": on the stand-in for CuPy."""
    options = {"backend": request.param}
    if request.param == "strict":
        monkeypatch.setitem(sys.modules, "cupy", make_module())
        options["backend"] = "cupy"
    if request.param == "numpy":
        options["threads"] = 1
    return lambda preset="shibuya-fnn", **more: make_game(preset, width=2, **options, **more)


@pytest.mark.parametrize("preset", ("mnist", "radford-mnist-conditional", "jayathilaka-faces"))
def test_the_same_bits_as_eager_rounds(preset, make):
    """Over an epoch with a smaller last batch."""
    games = [make(preset, images=10) for _ in range(2)]
    (captured, batches), (eager, eager_batches) = games
    assert captured.captured is not None
    eager.captured = None
    for _ in range(4):
        found = captured.round(batches)
        expected = eager.round(eager_batches)
        assert found["images"] == expected["images"]
        assert captured.read(found) == eager.read(expected)
    for a, b in zip(captured.state()[0].values(), eager.state()[0].values(), strict=True):
        assert_same_arrays(a, b)


def test_measurements_stay_right_until_they_are_read(make):
    """The loop reads ten rounds at a time; a row of the table is not written again so soon."""
    game, batches = make()
    results = [game.round(batches) for _ in range(12)]
    late = [game.read(result) for result in results]
    game, batches = make()
    assert late == [game.read(game.round(batches)) for _ in range(12)]
    assert all(a != b for a, b in pairwise(late))


def test_results_may_be_kept(make):
    game, batches = make()
    kept = game.round(batches)
    first = game.read(kept)
    for _ in range(ROWS):
        last = game.round(batches)
    assert game.read(kept) == first != game.read(last)


@pytest.mark.parametrize("net", ("generator", "discriminator"))
@pytest.mark.parametrize("change", (spectral, doubled), ids=("SpectralNorm", "a user's"))
def test_layers_without_kernels_are_not_recorded(net, change, monkeypatch):
    """Rounds and samples are then played operation by operation."""
    monkeypatch.setitem(sys.modules, "cupy", make_module())

    def get(name):
        preset = get_preset(name)
        make_layers = getattr(preset, net)
        return replace(preset, **{net: lambda *arguments: change(make_layers(*arguments))})

    monkeypatch.setattr(switches, "get_preset", get)
    game, batches = make_game("shibuya-fnn", width=2, backend="cupy", images=10)
    assert game.captured is None
    game.round(batches)
    assert game.sample(4, game.stream("sample")).shape[0] == 4


def test_images_stay_on_the_device_if_they_fit(monkeypatch):
    """As bytes, if they take at most half of the free memory; otherwise batches are uploaded."""
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    rows = []
    for free in (2**32, 100):
        game, batches = make_game("shibuya-fnn", width=2, backend="cupy", images=10)
        game.backend.xp.device.free = free
        rows.append([game.read(game.round(batches)) for _ in range(4)])
        assert (game.captured.pixels is None) == (free == 100)
        pinned = game.backend.xp.device.most_pinned
        assert (pinned >= game.captured.images[0].array.nbytes) == (free == 100)
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_after_close_the_round_is_captured_again(make):
    game, batches = make()
    rows = [game.read(game.round(batches)) for _ in range(2)]
    game.captured.close()
    assert game.captured.replay is None
    rows += [game.read(game.round(batches)) for _ in range(2)]
    other, batches = make()
    assert rows == [other.read(other.round(batches)) for _ in range(4)]


def test_after_an_interrupted_capture_samples_are_of_the_net_that_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    game, _ = make_game("shibuya-fnn", width=2, backend="cupy", images=10)
    sampler = CapturedSampler(game)
    numbers = np.zeros(sampler.size, int)
    first = game.sampled_net()
    sampler.z.host_rows(sampler.size)
    sampler.draw(game, first, numbers)
    other = copy.deepcopy(first)
    with monkeypatch.context() as patch:
        patch.setattr(game.backend, "capture", lambda *arguments: 1 / 0)
        for _ in range(2):
            sampler.z.host_rows(sampler.size)
            with pytest.raises(ZeroDivisionError):
                sampler.draw(game, other, numbers)


@pytest.mark.parametrize("preset", ("fredriksson-fnn", "radford-mnist-conditional"))
def test_samples_follow_the_weights(preset, make):
    """A captured sampler draws from G as it is now."""
    game, batches = make(preset)
    for _ in range(3):
        found = game.sample(6, game.stream("sample"))
        z = game.stream("sample")
        expected = []
        for start in (0, 4):
            x = np.empty((4, game.config.z_dim), np.float32)
            game.fill_z(x, z)
            numbers = np.arange(start, start + 4) % max(game.preset.classes, 1)
            expected.append(game.images_of(game.backend.asarray(x), numbers))
        np.testing.assert_array_equal(found, np.concatenate(expected)[:6])
        game.round(batches)
