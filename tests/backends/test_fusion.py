"""Which layers run as one step, and which are left alone."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.blocks import Block
from minigan.backends.fusion import find_runs, has_kernels, is_exactly, sees_samples_alone
from minigan.backends.steps import AppendLabelsStep, DropoutStep
from tests.support.networks import Skip
from tests.support.strict_cupy import make_module


class Louder(mg.Conv2d):
    """Means something else."""

    def forward(self, x, train=True):
        return 2 * super().forward(x, train)


class Named(mg.Conv2d):
    """Has the same passes."""


def runs(*layers):
    """-> how many layers each run has, with its roles"""
    return [(len(part), sorted(roles)) for part, roles in find_runs(layers)]


def test_runs_of_core_norm_and_activation():
    assert runs(mg.Conv2d(3, 3), mg.BatchNorm(), mg.ReLU()) == [(3, ["activation", "core", "norm"])]
    assert runs(mg.Linear(3), mg.Tanh()) == [(2, ["activation", "core"])]
    assert runs(mg.BatchNorm(), mg.ReLU()) == [(2, ["activation", "norm"])]
    assert runs(mg.ReLU(), mg.BatchNorm()) == [(1, ["activation"]), (1, ["norm"])]
    assert runs(mg.Conv2d(3, 3), mg.Conv2d(3, 3)) == [(1, ["core"]), (1, ["core"])]
    assert runs(mg.Dropout(0.1), mg.AppendLabels(2)) == [(1, []), (1, [])]


def test_reshapes_join_their_neighbors():
    layers = (mg.Linear(8), mg.Reshape((2, 2, 2)), mg.BatchNorm(), mg.Flatten(), mg.ReLU())
    assert runs(*layers) == [(5, ["activation", "core", "norm"])]
    assert runs(mg.Flatten(), mg.Linear(1)) == [(2, ["core"])]
    assert runs(mg.Linear(4), mg.Flatten()) == [(1, ["core"]), (1, [])]


class HalfDropout(mg.Dropout):
    def forward(self, x, train=True):
        return x / 2


class HalfUpsample(mg.Upsample):
    def forward(self, x, train=True):
        return super().forward(x, train) / 2


class HalfLabels(mg.AppendLabels):
    def forward(self, x, train, labels):
        return super().forward(x, train, labels) / 2


@pytest.mark.parametrize("layer", (HalfDropout(0.1), HalfUpsample(2), HalfLabels(2)))
def test_a_class_with_other_passes_runs(layer):
    """Of the layers that are not fused, too."""
    net = mg.Sequential([layer])
    backend = mg.get_backend("numpy", "float64")
    net.setup((3, 3, 2), backend=backend, rng=np.random.default_rng(0))
    y = net.forward(np.ones((1, 3, 3, 2)), labels=np.eye(2)[:1] if net.classes else None)
    assert net.steps == [layer] and y.max() == 0.5


def test_a_class_with_other_passes_is_left_alone():
    assert runs(Named(3, 3), mg.Tanh()) == [(2, ["activation", "core"])]
    assert runs(Louder(3, 3), mg.Tanh()) == [(1, []), (1, ["activation"])]
    assert is_exactly(Named(3, 3), mg.Conv2d) and not is_exactly(Louder(3, 3), mg.Conv2d)
    nets = []
    for backend in (Backend("float64"), mg.get_backend("numpy", "float64")):
        net = mg.Sequential([Louder(3, 3), mg.Sequential([mg.Tanh()])])
        net.setup((6, 6, 2), backend=backend, rng=np.random.default_rng(0))
        nets.append(net)
    x = np.random.default_rng(1).standard_normal((2, 6, 6, 2))
    np.testing.assert_allclose(nets[1].forward(x), nets[0].forward(x), rtol=1e-12)


def test_which_networks_see_each_sample_alone():
    def steps(*layers):
        net = mg.Sequential(layers)
        net.setup((4, 4, 2), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
        return net.steps

    within = mg.Sequential([mg.AppendLabels(3), mg.Conv2d(3, 3), mg.BatchNorm()])
    assert sees_samples_alone(steps(within, mg.Flatten(), mg.Linear(1)), Block)
    assert not sees_samples_alone(steps(mg.Conv2d(3, 3), mg.Dropout(0.1)), Block)
    assert not sees_samples_alone(steps(Louder(3, 3)), Block)
    assert not sees_samples_alone(steps(mg.Sequential([Louder(3, 3)])), Block)


def test_a_network_with_other_passes_is_a_layer_of_ones_own():
    """Its layers alone would give another y."""
    for inner, is_known in ((mg.Sequential, True), (Skip, False)):
        net = mg.Sequential([mg.Linear(3), mg.Sequential([inner([mg.Tanh()])])])
        net.setup((3,), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
        assert has_kernels(net) == is_known
        assert sees_samples_alone(net.steps, Block) == is_known


def test_a_norm_with_running_statistics_of_its_own_is_left_alone():
    class Fixed(mg.BatchNorm):
        def update_running(self, mean, var, m):
            pass

    assert runs(mg.Linear(3), Fixed(), mg.Tanh()) == [(1, ["core"]), (1, []), (1, ["activation"])]


@pytest.mark.parametrize("name", ("numpy", "cupy"))
def test_labels_and_dropout_have_steps_of_both_backends(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    net = mg.Sequential([mg.AppendLabels(3), mg.Dropout(0.5)])
    net.setup((4,), backend=mg.get_backend(name), rng=np.random.default_rng(0))
    assert [type(step) for step in net.steps] == [AppendLabelsStep, DropoutStep]
