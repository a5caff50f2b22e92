"""The text that is read is a text that runs: --backend plain runs every definition as it is."""

import pytest

from minigan import averaging, gan, losses, optimizers, training
from minigan.layers import LeakyReLU, ReLU, Tanh, batchnorm, conv2d, conv_transpose2d, linear
from tests.support.pictures import noise
from tests.support.training_runs import open_game_module

DEFINITIONS = {  # name -> where a print would be put
    "im2col": (conv2d, "im2col"),
    "col2im": (conv2d, "col2im"),
    "conv2d_forward": (conv2d, "conv2d_forward"),
    "conv2d_backward": (conv2d, "conv2d_backward"),
    "conv_transpose2d_forward": (conv_transpose2d, "conv_transpose2d_forward"),
    "conv_transpose2d_backward": (conv_transpose2d, "conv_transpose2d_backward"),
    "linear_forward": (linear, "linear_forward"),
    "linear_backward": (linear, "linear_backward"),
    "batch_statistics": (batchnorm, "batch_statistics"),
    "batchnorm_forward": (batchnorm, "batchnorm_forward"),
    "batchnorm_backward": (batchnorm, "batchnorm_backward"),
    "mean_bce": (losses, "mean_bce"),
    "mean_sigmoid": (gan, "mean_sigmoid"),
    "l2_norm": (gan, "l2_norm"),
    "adam_update": (optimizers, "adam_update"),
    "ema_update": (averaging, "ema_update"),
}
ELEMENT_WISE = {"relu": ReLU, "leaky_relu": LeakyReLU, "tanh": Tanh}


@pytest.fixture
def called(monkeypatch):
    """-> set that gets the name of each definition that runs."""
    names = set()

    def spy(name, function):
        def watched(*arguments, **options):
            names.add(name)
            return function(*arguments, **options)

        return watched

    for name, (module, function) in DEFINITIONS.items():
        monkeypatch.setattr(module, function, spy(name, getattr(module, function)))
    for name, layer in ELEMENT_WISE.items():
        for way in ("forward", "backward"):
            watched = spy(f"{name}_{way}", getattr(layer, f"{way}_definition"))
            monkeypatch.setattr(layer, f"{way}_definition", staticmethod(watched))
    monkeypatch.setattr(open_game_module, "load_dataset", noise(32))
    return names


def train(backend, out):
    options = dict(preset="mnist", backend=backend, width=2, batch_size=8, steps=2)
    training.train(options, out=out, log=lambda line: None)


def test_two_steps_of_mnist_on_the_plain_backend_run_every_definition(called, tmp_path):
    train("plain", tmp_path / "a")
    element_wise = {f"{name}_{way}" for name in ELEMENT_WISE for way in ("forward", "backward")}
    assert called == {*DEFINITIONS, *element_wise}


def test_the_fast_backend_replaces_them(called, tmp_path):
    """Which shows that the spies are where the plain backend looks, and not elsewhere."""
    train("numpy", tmp_path / "a")
    assert not {name for name in called if name.startswith(("conv", "linear", "batchnorm"))}
