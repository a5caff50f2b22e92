"""The drawn digits: the same for the same seed, placed as in MNIST, and readable."""

import os
import zlib

import numpy as np
import pytest

from minigan.data.sets.mnist import load_mnist
from minigan.data.sets.synthetic_digits import BOX, EDGE, draw_ink, fit_box, plans, strokes
from minigan.errors import ConfigError, DataError
from tests.support.torch_or_skip import import_torch

REAL_DATA = os.environ.get("MINIGAN_DATA", "none")  # before a fixture hides it
MNIST_CLASS_MEAN = [0.173, 0.076, 0.149, 0.142, 0.121, 0.129, 0.137, 0.115, 0.150, 0.123]
MNIST_CLASS_VARIANCE = [49.9, 22.5, 50.8, 44.9, 40.9, 47.6, 43.1, 37.5, 45.6, 38.6]


@pytest.fixture(scope="module")
def drawn():
    """5,000 pictures, for the tests that need many."""
    return strokes(5000, seed=1)


# --- what the seed determines ---


def test_same_seed_same_bytes():
    first, second = strokes(700, seed=3), strokes(700, seed=3)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


def test_same_bytes_on_every_machine():
    # Only a change of the drawing may change these numbers.
    images, labels = strokes(2000, seed=3)
    assert (zlib.crc32(images.tobytes()), zlib.crc32(labels.tobytes())) == (0xE3A40BAA, 0x65E7AF0F)


@pytest.mark.parametrize("n", [1, 100, 499, 500, 501, 1000])
def test_fewer_pictures_are_the_first_of_more(n):
    images, labels = strokes(n, seed=3)
    more_images, more_labels = strokes(1200, seed=3)
    assert np.array_equal(images, more_images[:n])
    assert np.array_equal(labels, more_labels[:n])


def test_other_seed_other_pictures():
    first, second = strokes(500, seed=0), strokes(500, seed=1)
    assert not (first[0] == second[0]).all((1, 2, 3)).any()
    assert not np.array_equal(first[1], second[1])


def test_seed_zero_is_the_default_and_numpy_integers_count():
    images, _ = strokes(np.int64(20), seed=np.uint8(0))
    assert np.array_equal(images, strokes(20)[0])


def test_global_generator_is_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    strokes(10)
    assert np.array_equal(np.random.get_state()[1], before)


# --- shapes and labels ---


def test_shapes_types_and_labels(drawn):
    images, labels = drawn
    assert images.shape == (5000, 28, 28, 1) and images.dtype == np.uint8
    assert labels.shape == (5000,) and labels.dtype == np.uint8
    assert np.array_equal(np.bincount(labels[:500]), [50] * 10)
    assert np.array_equal(np.bincount(labels), [500] * 10)


def test_labels_are_shuffled(drawn):
    _, labels = drawn
    same_as_next = (labels[1:] == labels[:-1]).mean()  # 0.1 by chance, 0.998 sorted, 0 in turn
    assert 0.08 < same_as_next < 0.12
    assert not np.array_equal(labels[:500], labels[500:1000])


def test_no_two_pictures_are_the_same(drawn):
    images, _ = drawn
    assert len({image.tobytes() for image in images}) == len(images)


# --- placed as in MNIST ---


def test_center_of_mass_is_in_the_middle(drawn):
    ink = drawn[0][..., 0] / 255
    mass, pixels = ink.sum((1, 2)), np.arange(28)
    # MNIST's center is pixel 14, and it moves by whole pixels: half of one is left over.
    for center in (ink.sum(1) @ pixels / mass, ink.sum(2) @ pixels / mass):
        off = np.abs(center - 14)
        assert (off < 0.51).mean() > 0.995  # all but a few top-heavy sevens
        assert off.max() < 1.5
        assert abs(center.mean() - 14) < 0.03


def test_digit_just_fits_the_box(drawn):
    ink = drawn[0][..., 0] > 0
    extents = []
    for present in (ink.any(1), ink.any(2)):  # columns, rows that have ink
        extents.append(28 - present.argmax(1) - present[:, ::-1].argmax(1))
    longer = np.maximum(*extents)
    assert longer.max() == 20 and longer.min() >= 17
    assert (longer >= 19).mean() > 0.95


def test_border_is_black(drawn):
    images, _ = drawn
    ring = np.ones((28, 28), bool)
    ring[1:-1, 1:-1] = False
    # 1.4% of MNIST's digits reach the outermost pixels, nearly all of them sevens.
    reaches = images[:, ring].max((1, 2)) > 0
    assert reaches.mean() < 0.04
    assert images[~reaches][:, ~ring].max((1, 2)).min() > 200
    corners = images[:, [0, 0, 27, 27], [0, 27, 0, 27]]
    assert corners.max() == 0


# --- inked as in MNIST (its numbers: 60,000 training images) ---


def test_amount_of_ink(drawn):
    images, labels = drawn
    assert images.mean() / 255 == pytest.approx(0.131, abs=0.01)
    assert (images > 0).mean() == pytest.approx(0.191, abs=0.02)
    assert (images >= 250).mean() == pytest.approx(0.074, abs=0.01)
    means = [images[labels == digit].mean() / 255 for digit in range(10)]
    assert np.allclose(means, MNIST_CLASS_MEAN, atol=0.025)
    per_picture = images.mean((1, 2, 3)) / 255
    assert per_picture.std() == pytest.approx(0.043, abs=0.006)
    assert per_picture.min() > 0.02 and per_picture.max() < 0.4


def test_edges_are_soft(drawn):
    # All grays are about equally frequent: an even ramp, neither steps nor a blur.
    counts, _ = np.histogram(drawn[0], bins=[1, 64, 128, 192, 250])
    assert (counts / drawn[0].size > 0.02).all() and (counts / drawn[0].size < 0.04).all()


def test_variety_within_a_digit(drawn):
    images, labels = drawn
    for digit, expected in enumerate(MNIST_CLASS_VARIANCE):
        variance = (images[labels == digit] / 255).var(0).sum()
        assert 0.8 * expected < variance < 1.15 * expected, f"digit {digit}"


@pytest.mark.parametrize("width", [1.4, 2.5, 4.0])
def test_ink_is_by_distance_to_the_path(width):
    # A slanted line of 11 pieces of 1.3 pixels, against its geometric distance.
    start, end = np.array([3.3, 5.2]), np.array([16.9, 9.1])
    nodes = start + (end - start) * np.linspace(0, 1, 12)[:, None]
    ink = draw_ink(nodes[None], np.ones((1, 11)), np.array([width]))[0]
    y, x = np.mgrid[:BOX, :BOX] + 0.5
    across, along = (end - start)[::-1] * [-1, 1], end - start
    distance = np.abs((np.stack([x, y], -1) - start) @ across) / np.hypot(*along)
    reach = (np.stack([x, y], -1) - start) @ along / (along @ along)
    beside = (reach > 0.15) & (reach < 0.85)  # the ends taper
    expected = np.clip(0.5 + (width / 2 - distance) / EDGE, 0, 1)
    assert np.allclose(ink[beside], expected[beside], atol=0.06)
    assert ink[(reach < -0.25) | (reach > 1.25)].max() == 0


def test_path_and_pen_fill_the_box():
    nodes = np.random.default_rng(0).normal(5, [3, 2], (50, 9, 2))
    width = np.linspace(1.4, 5, 50)
    low, high = (edge(fit_box(nodes, width), axis=1) for edge in (np.min, np.max))
    assert np.allclose((high - low).max(1) + width, BOX)
    assert np.allclose((high + low) / 2, BOX / 2)


# --- the table ---


def test_plans_are_complete():
    points, matrix, down, chance = plans()
    assert np.allclose(matrix.sum(-1), 1)  # a path moves with its points
    assert np.abs(matrix @ points).max() < 1.2  # and stays near them
    assert set(np.unique(down)) == {0, 1} and (down.mean(1) > 0.9).all()
    assert (np.diff(chance, axis=1) >= 0).all() and (chance[:, -1] == 1).all()
    # The nodes are spaced evenly on each path: no piece is much longer than the others.
    pieces = np.hypot(*np.moveaxis(np.diff(matrix @ points, axis=1), -1, 0)) * down
    assert (pieces.max(1) < 2 * np.median(pieces, axis=1)).all()


# --- wrong arguments ---


@pytest.mark.parametrize("n", [0, -1, 2.0, 2.5, "10", None, True, np.float32(3)])
def test_bad_n(n):
    with pytest.raises(
        ConfigError, match="strokes: n must be a whole number of at least 1, got "
    ) as e:
        strokes(n)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("seed", [-1, 0.5, 1.0, "0", None, False])
def test_bad_seed(seed):
    with pytest.raises(
        ConfigError, match="strokes: seed must be a whole number of at least 0, got "
    ):
        strokes(1, seed=seed)


# --- readable ---


def test_pictures_go_with_their_labels(drawn):
    # By the nearest of 5,000 others: without training or another package.
    images, labels = drawn
    known = images.reshape(len(images), -1).astype(np.float32)
    asked, truth = strokes(500, seed=2)
    asked = asked.reshape(len(asked), -1).astype(np.float32)
    nearest = ((known**2).sum(1) - 2 * asked @ known.T).argmin(1)
    assert (labels[nearest] == truth).mean() > 0.9


@pytest.mark.slow
def test_a_classifier_trained_on_mnist_reads_them(drawn):
    torch = import_torch()
    try:
        (x, y), (x_test, y_test) = (load_mnist(REAL_DATA, split=s) for s in ("train", "test"))
    except DataError as error:
        pytest.skip(f"needs real MNIST: {error}")

    def tensor(images):
        return torch.tensor(images.reshape(-1, 1, 28, 28), dtype=torch.float32) / 255

    def accuracy(images, labels):
        with torch.no_grad():
            return (net(tensor(images)).argmax(1).numpy() == labels).mean()

    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    pictures, truth = tensor(x[:20_000]), torch.tensor(y[:20_000], dtype=torch.int64)
    for _ in range(3):
        for batch in torch.randperm(len(pictures)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(pictures[batch]), truth[batch]).backward()
            optimizer.step()
    net.eval()

    assert accuracy(x_test, y_test) > 0.97  # it reads MNIST
    images, labels = drawn
    assert accuracy(images, labels) >= 0.90
    for digit in range(10):
        assert accuracy(images[labels == digit], digit) >= 0.80, f"digit {digit}"
