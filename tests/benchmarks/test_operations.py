"""Nets as lists of plain operations, for frameworks with other layouts."""

import numpy as np
import pytest

import minigan as mg
from benchmarks.contenders import NoTwin
from benchmarks.contenders.operations import needs_rotation, operations_of, pixel_order, rotate


def test_pixel_order_rotates_and_moves_channels():
    image = np.arange(12).reshape(2, 2, 3)
    order = pixel_order(image.shape, rotated=False, channels_first=True)
    assert image.ravel()[order].tolist() == image.transpose(2, 0, 1).ravel().tolist()
    order = pixel_order(image.shape, rotated=True, channels_first=False)
    assert order.tolist() == image[::-1, ::-1].ravel().tolist() == rotate(image).ravel().tolist()


def make(*layers, shape=(8, 8, 2)):
    net = mg.Sequential(layers)
    net.setup(shape, backend=mg.get_backend("plain"), rng=np.random.default_rng(0))
    return net


@pytest.mark.parametrize(
    "kernel, padding, rotated",
    [(5, "same", True), (4, 1, False), (4, "same", False), (5, 2, False)],
)
def test_only_uneven_padding_needs_rotation(kernel, padding, rotated):
    net = make(mg.Conv2d(3, kernel, stride=2, padding=padding))
    assert needs_rotation(net.layers) == rotated
    (op,) = operations_of(net, rotated)
    assert op.kind == "conv"
    np.testing.assert_array_equal(op.W, net.params["0.W"][:: 1 - 2 * rotated, :: 1 - 2 * rotated])


def test_vectors_are_permuted_between_linear_layers_and_images():
    net = make(mg.Flatten(), mg.Linear(8), mg.Reshape((2, 2, 2)))
    _, linear, _ = operations_of(net, channels_first=True)
    before, after = (pixel_order(shape, False, True) for shape in ((8, 8, 2), (2, 2, 2)))
    np.testing.assert_array_equal(linear.W, net.params["1.W"][before][:, after])


def test_layers_without_a_twin_are_refused():
    with pytest.raises(NoTwin, match=r"net\.0 \(Dropout.*\) has no twin"):
        operations_of(make(mg.Dropout(0.5)))
    with pytest.raises(NoTwin, match="has no twin here"):
        needs_rotation(make(mg.Conv2d(3, 3, padding=((0, 1), (1, 0)))).layers)
    with pytest.raises(NoTwin, match="a z that is an image itself"):
        operations_of(make(mg.Reshape((2, 2, 2)), shape=(8,)))
