"""ONNX files, computed by onnxruntime: every layer, every preset; and what a file says."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import minigan as mg
from minigan.export import onnx as export
from minigan.export.onnx import onnx_file
from minigan.frozen_statistics import freeze_statistics
from minigan.presets import MODULES
from tests.support.games import make_game
from tests.support.networks import (
    LAYERS_AND_CHAINS,
    assert_close,
    draw_labels,
    draw_x,
    named_network,
    network,
)
from tests.support.refusals import refusal

RTOL = 1e-5  # of the largest number


def channels_first(x):
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def expect_equal(net, file, rows=(1, 5)):
    """onnxruntime computes of a file what the network does, for batches of any size."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for n in rows:
        x, labels = draw_x(net, n), draw_labels(net, n)
        given = {"x": channels_first(x)} | ({} if labels is None else {"labels": labels})
        (y,) = session.run(["y"], given)
        expected = channels_first(net.forward(x, train=False, labels=labels))
        assert_close(y, expected, net.summary(), RTOL)
        assert np.abs(expected).max() > 0


@pytest.mark.parametrize("name", LAYERS_AND_CHAINS)
def test_every_layer(name):
    net = named_network(name, mg.get_backend("numpy"))
    for buffer in net.buffers.values():
        buffer[...] = np.random.default_rng(8).uniform(0.1, 0.9, buffer.shape)
    if name == "Dropout":  # nothing is left of it alone
        net = network([mg.Dropout(0.4), mg.Linear(2)], (9,), mg.get_backend("numpy"))
    expect_equal(net, onnx_file(net, "x", "y", {}))


@pytest.mark.parametrize("stride", (1, 2, 3))
@pytest.mark.parametrize("kernel", (1, 2, 4, 5))
def test_uneven_padding(kernel, stride):
    """TensorFlow's "same" at odd and even sizes, down and up."""
    layers = [mg.Conv2d(3, kernel, stride, "same"), mg.ConvTranspose2d(2, kernel, stride, "same")]
    net = network(layers, (7, 6, 2), mg.get_backend("numpy"))
    expect_equal(net, onnx_file(net, "x", "y", {}), rows=(2,))


@pytest.mark.parametrize("name", MODULES)
def test_every_preset(name):
    game, _ = make_game(name, width=2)
    for net in (game.G, game.D):
        for key, p in net.params.items():  # so large that every layer matters
            if p.ndim > 1:
                p[...] *= 0.4 * (p[..., 0].size ** -0.5) / p.std()
            elif not key.endswith("gain"):
                p[...] = np.random.default_rng(len(p)).normal(0, 0.1, p.shape)
        freeze_statistics(net, draw_x(net, 8), draw_labels(net, 8))
        expect_equal(net, onnx_file(net, "x", "y", {}))


def test_what_a_file_says():
    net = network([mg.Linear(12), mg.Reshape((2, 3, 2)), mg.AppendLabels(4)], (5,))
    file = onnx_file(net, "z", "image", {"preset": "mnist", "step": "3"})
    model = onnx.load_from_string(file)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8 and model.producer_name == "minigan"
    assert {entry.key: entry.value for entry in model.metadata_props} == dict(
        preset="mnist", step="3"
    )
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"z": ["n", 5], "labels": ["n", 4], "image": ["n", 6, 2, 3]}
    assert "N.0.W" in {constant.name for constant in model.graph.initializer}
    assert file == onnx_file(net, "z", "image", {"preset": "mnist", "step": "3"})


class Unknown(mg.Tanh):
    """A layer of somebody's own: that it derives from Tanh does not say what it computes."""


def test_what_cannot_be_written(monkeypatch):
    net = network([mg.Linear(3), mg.Sequential([Unknown()])], (5,))
    line = refusal(onnx_file, net, "x", "y", {}, kind=mg.ConfigError)
    assert line.startswith("N.1.0 (Unknown) cannot be written as ONNX: known are Linear, Conv2d,")
    net = network([mg.Linear(3)], (5,))
    with monkeypatch.context() as patch:
        patch.setattr(export, "LARGEST", 100)
        line = refusal(onnx_file, net, "x", "y", {}, kind=mg.RunError)
        assert "export it as .safetensors" in line
    monkeypatch.setitem(sys.modules, "onnx", None)
    line = refusal(onnx_file, net, "x", "y", {}, kind=mg.ConfigError)
    assert line.startswith("a .onnx file needs onnx (") and line.endswith("pip install onnx")
