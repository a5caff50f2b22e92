"""What a step costs: the operations that a round needs are those that its layers do."""

from functools import partial

import numpy as np
import pytest

import minigan as mg
from minigan.cli.costs import forward_flops, step_bytes, step_flops
from minigan.gan import Players, plain_round
from minigan.objective import Objective
from minigan.presets import get_preset
from minigan.presets.fredriksson import generator_first_round
from minigan.presets.keras_round import keras_round
from minigan.presets.radford import alternating_round
from minigan.presets.tensorflow import simultaneous_round
from minigan.training.config import new_config
from minigan.training.outline import outline

BATCH = 4
ROUNDS = {
    "plain": plain_round,
    "keras": keras_round,
    "keras, twice the z": partial(keras_round, generator_batch=2),
    "generator first": generator_first_round,
    "alternating": alternating_round,
    "simultaneous": simultaneous_round,
}
GIGAFLOPS = {  # of a step, as the formulas of minigan 0.1 have them
    "mnist": 1.684078592,
    # with transposed convolutions 5.556928512; kernels of 3 on the large map take 9/4 of theirs
    "color32": 5.556928512 + 64 * 3 * 5_308_416e-9 * 5 / 4,
    "radford-64": 1959.192952832,
    "radford-mnist-conditional": 60.415930368,
    "shibuya-svhn": 166.102827008,
    "tensorflow-mnist": 115.627982848,
    "jindal-mnist64": 1139.575619584,
    "fredriksson-mnist": 125.907238912,
    "jayathilaka-faces": 1.040695296,
}


def count(layer, done):
    """Append to `done` the operations of each forward, dW and dx of a layer."""
    forward, backward = layer.forward, layer.backward

    def counted_forward(x, train=True):
        done.append(forward_flops(layer) * len(x))
        return forward(x, train)

    def counted_backward(dy, need_dx=True, need_dw=True):
        done.append(forward_flops(layer) * len(dy) * (need_dx + need_dw))
        return backward(dy, need_dx, need_dw)

    layer.forward, layer.backward = counted_forward, counted_backward


@pytest.mark.parametrize("r1", (0.0, 1.0))
@pytest.mark.parametrize("name", ROUNDS)
def test_the_operations_of_a_round_are_those_of_its_layers(name, r1):
    backend, done, rng = mg.get_backend("plain"), [], np.random.default_rng(1)
    layers = [mg.Linear(32), mg.Reshape((4, 4, 2)), mg.BatchNorm()]
    G = mg.Sequential([*layers, mg.ConvTranspose2d(1, 4, 2, 1), mg.Tanh()], name="G")
    layers = [mg.Conv2d(3, 4, 2, 1), mg.LeakyReLU(0.2), mg.Conv2d(4, 3)]
    D = mg.Sequential([*layers, mg.Flatten(), mg.Linear(1)], name="D")
    for net, in_shape in ((G, (5,)), (D, (8, 8, 1))):
        net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
        for layer in net.layers:
            count(layer, done)

    def draw_images():
        return rng.random((BATCH, 8, 8, 1), np.float32), None

    def draw_z(n):
        return rng.random((n, 5), np.float32)

    objective = Objective(r1=r1)
    optimizers = mg.SGD(G, 0.1), mg.SGD(D, 0.1)
    ROUNDS[name](Players(G, D, *optimizers, draw_images, draw_z, objective=objective))
    assert sum(done) == step_flops(G, D, BATCH, ROUNDS[name], objective) > 0


@pytest.mark.parametrize("name", GIGAFLOPS)
def test_the_operations_of_presets(name):
    preset = get_preset(name)
    G, D = outline(new_config({"preset": name}))
    flops = step_flops(G, D, preset.batch_size, partial(preset.round, **preset.round_options))
    assert flops == round(GIGAFLOPS[name] * 1e9)


def test_the_operations_of_layers_by_hand():
    layers = [mg.Conv2d(4, 3, 2), mg.ConvTranspose2d(2, 5), mg.Flatten(), mg.Linear(3)]
    net = mg.Sequential([*layers, mg.BatchNorm()])
    net.setup((9, 7, 2), backend=mg.get_backend("plain"), rng=np.random.default_rng(0))
    counts = [2 * 4 * 3 * 9 * 2 * 4, 2 * 4 * 3 * 25 * 4 * 2, 0, 2 * 8 * 7 * 2 * 3, 0]
    assert [forward_flops(layer) for layer in net.layers] == counts


def test_the_bytes_of_a_step_by_hand():
    G = mg.Sequential([mg.Linear(6), mg.BatchNorm(), mg.ReLU()])
    D = mg.Sequential([mg.Linear(1)])
    for net, in_shape in ((G, (5,)), (D, (6,))):
        net.setup(in_shape, backend=mg.get_backend("plain"), rng=np.random.default_rng(0))
    parameters, statistics = (5 * 6 + 6 + 12) + (6 + 1), 12
    held = (5 + 6) + (6 + 6) + (6 + 1)  # dx and y of Linear, BatchNorm and Linear
    assert step_bytes(G, D, 8) == 4 * (4 * parameters + statistics + 8 * held)
    assert step_bytes(G, D, 8, moments=0) == 4 * (2 * parameters + statistics + 8 * held)


def test_an_upsampled_image_takes_no_memory():
    """Fast backends never make it, nor its gradient."""
    layers = [mg.Upsample(2), mg.Conv2d(3, 3, 1, 1, bias=False)]
    G, D = mg.Sequential(layers), mg.Sequential([mg.Linear(1, bias=False)])
    for net, in_shape in ((G, (4, 5, 2)), (D, (6,))):
        net.setup(in_shape, backend=mg.get_backend("plain"), rng=np.random.default_rng(0))
    parameters, of_images = 3 * 3 * 2 * 3 + 6, 4 * 5 * 2 + 8 * 10 * 3 + 6 + 1
    assert step_bytes(G, D, 7) == 4 * (4 * parameters + 7 * of_images)
