"""Looking inside: walks and sums of z by their formulas, guided backpropagation against loops and PyTorch, pages, mistakes."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageSequence

import minigan as mg
import minigan.training.loop
from minigan.cli.main import main
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.data.files.png import load_png
from minigan.errors import ConfigError
from minigan.inspection import sample_groups as groups
from minigan.inspection.arithmetic import around, combine
from minigan.inspection.features import cut, last_map, strongest, window
from minigan.inspection.guided_backprop import guided, guided_gradient
from minigan.inspection.interpolation import linear, ring, spherical
from minigan.inspection.maps import filters, map_picture, stages
from minigan.inspection.open_run import (
    draw_z,
    hold_discriminator,
    open_discriminator,
    open_still,
    paint,
    untrained,
)
from minigan.inspection.page_layout import below, beside, cells, picture, words
from minigan.inspection.partial_passes import (
    activations,
    backward_from,
    forward_to,
    hold_statistics,
)
from tests.pictures import dataset, noise

RUNS = {  # name -> options of a few steps with narrow nets
    "conditional": ("--preset", "radford-mnist-conditional", "--width", 4, "--batch-size", 20),
    "plain": ("--width", 4, "--z-dim", 8, "--batch-size", 16),
    "colour": (
        "--preset",
        "color32",
        "--image-size",
        "16x24",
        "--width",
        4,
        "--z-dim",
        8,
        "--batch-size",
        16,
    ),
    "linear": ("--preset", "shibuya-fnn", "--batch-size", 16),
    "dropout": ("--preset", "tensorflow-mnist", "--width", 4, "--batch-size", 16),
}
SHAPES = {"colour": (16, 24, 3)}  # of the others (28, 28, 1)
DRAWING = ("interpolate", "filters", "activations", "features")


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory):
    """-> name -> folder of a run. Images are noise; what a run leaves at its end is left out."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minigan.training.loop, "load_dataset", noise(50))
        patch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)
        for name, options in RUNS.items():
            assert (
                main(["train", *map(str, options), "--steps", "3", "--out", str(folder / name)])
                == 0
            )
            generator = (
                folder / name / "generator.npz"
            )  # so young it draws the same grey for every z: larger weights, larger differences
            save_arrays(
                generator,
                {
                    key: array * (10 if key.endswith("W") else 1)
                    for key, array in load_arrays(generator).items()
                },
            )
        yield {name: folder / name for name in RUNS}


def look(command, run, *options):
    return main([command, str(run), *map(str, options)])


def net(*layers, in_shape=(6,), name="D"):
    made = mg.Sequential(layers, name=name)
    made.setup(
        in_shape, backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0)
    )
    return made


# -- walks --------------------------------------------------------------------


@pytest.mark.parametrize("path", (linear, spherical))
def test_a_walk_begins_and_ends_with_the_same_bits(path):
    rng = np.random.default_rng(0)
    for d in (1, 2, 64, 100):
        a, b = rng.standard_normal((2, d))
        walk = path(a, b, np.linspace(0, 1, 9))
        assert np.array_equal(walk[0], a) and np.array_equal(walk[-1], b)


def test_linear_is_the_formula():
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 5))
    t = np.linspace(0, 1, 7)
    assert np.array_equal(linear(a, b, t), [(1 - each) * a + each * b for each in t])


def test_spherical_turns_evenly_and_keeps_the_length():
    a, b = np.random.default_rng(0).standard_normal((2, 64))
    b *= 1.5
    t = np.linspace(0, 1, 17)
    walk, lengths = spherical(a, b, t), np.linalg.norm([a, b], axis=1)
    np.testing.assert_allclose(
        np.linalg.norm(walk, axis=1), (1 - t) * lengths[0] + t * lengths[1], rtol=1e-13
    )
    turned = np.arccos(np.clip(walk @ a / np.linalg.norm(walk, axis=1) / lengths[0], -1, 1))
    np.testing.assert_allclose(
        turned, t * turned[-1], atol=1e-7
    )  # arccos near 1 has half of the digits
    assert np.linalg.matrix_rank(np.vstack([walk, a, b]), tol=1e-9) == 2  # in the plane of a and b
    np.testing.assert_allclose(
        spherical(np.array([3.0, 0]), np.array([0, 3.0]), np.array([0.5])),
        [[4.5**0.5] * 2],
        rtol=1e-15,
    )


@pytest.mark.parametrize("b", ([2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]))
def test_spherical_is_linear_where_there_is_no_arc(b):
    a, t = np.array([1.0, 2.0]), np.linspace(0, 1, 5)
    assert np.array_equal(spherical(a, np.array(b), t), linear(a, np.array(b), t))


@pytest.mark.parametrize("path", ("linear", "spherical"))
def test_a_ring_closes(path):
    points = np.random.default_rng(0).standard_normal((4, 6))
    walk = ring(points, 3, path)
    assert walk.shape == (4, 4, 6)
    assert np.array_equal(walk[:, 0], points) and np.array_equal(walk[:, -1], points[[1, 2, 3, 0]])


# -- sums ---------------------------------------------------------------------


def test_the_sum_and_its_neighbours():
    a, b, c = np.arange(6.0).reshape(3, 2), np.ones((2, 2)), np.full((1, 2), 10.0)
    assert combine(a, b, c).tolist() == [2 - 1 + 10, 3 - 1 + 10]
    z = around(np.arange(5.0), np.random.default_rng(0))
    assert z.shape == (9, 5) and np.array_equal(z[4], np.arange(5.0))
    apart = np.abs(np.delete(z, 4, axis=0) - np.arange(5.0))
    assert apart.min() > 0 and apart.max() <= 0.25


def bars(width, across, count, size=28):
    """-> pictures of bars, all the same but for one pixel of light, somewhere."""
    pictures = np.zeros((count, size, size, 1), np.uint8)
    pictures[:, 4 : size - 4, 10 : 10 + width] = 255
    return pictures.swapaxes(1, 2) if across else pictures


def test_the_width_of_strokes():
    for across in (False, True):
        measured = np.concatenate(
            [groups.stroke_width(bars(width, across, 1)) for width in range(2, 8)]
        )
        of_bars = [
            2 * 20 * width / (2 * 20 + 2 * width) for width in range(2, 8)
        ]  # its ends are outline too
        np.testing.assert_allclose(measured, of_bars, rtol=0.05)
    assert groups.stroke_width(np.zeros((2, 8, 8, 3), np.uint8)).tolist() == [0, 0]


@pytest.mark.parametrize("classes", (0, 10))
def test_thick_and_thin_are_chosen_by_width(classes, monkeypatch):
    """Class 7 are upright bars and class 3 lying ones, 2 to 7 pixels wide; of the conditional G, half are told another class."""
    kinds = [(width, across) for across in (False, True) for width in range(2, 8)]
    pictures = np.concatenate([bars(width, across, 40) for width, across in kinds])
    widths, lying = (
        np.repeat([width for width, _ in kinds], 40),
        np.repeat([across for _, across in kinds], 40),
    )
    truth = np.where(lying, 3, 7)
    told = (
        np.where(np.arange(len(pictures)) % 2, truth, 5)
        if classes
        else np.zeros(len(pictures), int)
    )
    z = np.random.default_rng(0).standard_normal((len(pictures), 6))
    monkeypatch.setattr(groups, "drawn", lambda game, count, seed: (z, told))
    monkeypatch.setattr(groups, "paint", lambda game, z, numbers: pictures)
    data = dataset(pictures)
    data = type(data)(data.name, data.images, truth, data.classes, data.fingerprint, None)
    game = SimpleNamespace(preset=SimpleNamespace(classes=classes))
    thick, thin, other = groups.choose(game, data, ("7", "3"), 0)
    assert [group.name for group in (thick, thin, other)] == ["thick 7", "thin 7", "thin 3"]
    for group, number, width in ((thick, 7, 7), (thin, 7, 2), (other, 3, 2)):
        assert (
            len(set(group.numbers)) == 3
            and (truth[group.numbers] == number).all()
            and (widths[group.numbers] == width).all()
        )
        assert not classes or (told[group.numbers] == number).all()


def test_pairs_are_those_whose_z_are_nearest():
    z = np.array([[0.0], [10.0], [20.0], [30.0], [0.1], [10.3], [20.2], [99.0]])
    assert groups.pairs(z, np.arange(4), np.arange(4, 8)) == ([0, 2, 1], [4, 6, 5])


# -- a picture depends on its z alone -----------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_a_picture_depends_on_its_z_alone(name, runs):
    game, _ = open_still(str(runs[name]))
    classes = max(game.preset.classes, 1)
    z, numbers = draw_z(game, 47, 3), np.arange(47) % classes
    pictures = paint(game, z, numbers)
    assert pictures.shape == (47, *SHAPES.get(name, (28, 28, 1)))
    assert (
        np.abs(pictures[0].astype(int) - pictures[10 * (classes > 1) or 1]).mean() > 1
    )  # or it would say nothing
    assert np.array_equal(paint(game, z[:5], numbers[:5]), pictures[:5])
    order = np.random.default_rng(0).permutation(47)
    assert np.array_equal(paint(game, z[order], numbers[order]), pictures[order])
    assert all(
        np.array_equal(paint(game, z[i : i + 1], numbers[i])[0], pictures[i]) for i in (0, 46)
    )


def test_they_are_the_pictures_of_the_command_sample(runs, tmp_path):
    assert look("sample", runs["plain"], "--n", 30, "--seed", 4, "--out", tmp_path / "a.npy") == 0
    game, _ = open_still(str(runs["plain"]))
    assert np.array_equal(np.load(tmp_path / "a.npy"), paint(game, draw_z(game, 30, 4)))


def test_a_generator_that_samples_by_batches_is_held_at_the_first_batch_of_its_grids(runs):
    game, _ = open_still(str(runs["conditional"]))
    by_batches = minigan.training.loop.Game(game.config)
    by_batches.G.ready().load_state(
        load_arrays(runs["conditional"] / "generator.npz"), "generator.npz"
    )
    wanted = by_batches.sample(20, by_batches.stream("fixed z"))
    z = game.backend.to_host(game.draw_z(20, game.stream("fixed z"))).astype(float)
    assert (
        np.abs(paint(game, z, np.arange(20) % 10).astype(int) - wanted).max() <= 1
    )  # other order of sums


def test_statistics_are_those_of_the_batch_and_stay():
    D = net(
        mg.Conv2d(4, 3),
        mg.BatchNorm(sampling="batch"),
        mg.LeakyReLU(0.2),
        mg.Flatten(),
        mg.Linear(5),
        mg.BatchNorm(),
        mg.ReLU(),
        mg.Linear(1),
        in_shape=(8, 8, 2),
    )
    x = np.random.default_rng(0).standard_normal((12, 8, 8, 2))
    with_batch = D.forward(x)
    hold_statistics(D, x)
    np.testing.assert_allclose(D.forward(x, train=False), with_batch, rtol=1e-10)
    np.testing.assert_allclose(D.forward(x[3:4], train=False), with_batch[3:4], rtol=1e-10)
    np.testing.assert_allclose(activations(D, x)[-1], with_batch, rtol=1e-10)


# -- guided backpropagation ---------------------------------------------------


def test_guided_backpropagation_by_loops():
    D = net(mg.Linear(5), mg.LeakyReLU(0.2), mg.Linear(4), mg.ReLU(), mg.Linear(3))
    x, dy = np.random.default_rng(1).standard_normal((2, 7, 6))
    dy = dy[:, :3]
    first, second, third = (D.layers[i] for i in (0, 2, 4))
    wanted = np.zeros_like(x)
    for n in range(len(x)):
        h1 = x[n] @ first.W + first.b
        h2 = np.maximum(h1, 0.2 * h1) @ second.W + second.b
        for i in range(5):
            from_above = 0
            for j in range(4):
                of_j = sum(third.W[j, k] * dy[n, k] for k in range(3))
                from_above += second.W[i, j] * of_j if h2[j] > 0 and of_j > 0 else 0
            if h1[i] > 0 and from_above > 0:
                wanted[n] += first.W[:, i] * from_above
    dx = guided_gradient(D, 4, x, dy)
    np.testing.assert_allclose(dx, wanted, rtol=1e-12, atol=1e-14)
    assert np.abs(dx).max() > 0


def test_guided_backpropagation_of_convolutions_by_pytorch():
    torch = pytest.importorskip("torch")

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.nn.functional.leaky_relu(x, 0.2)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, dy):
            return dy.clamp(min=0) * (ctx.saved_tensors[0] > 0)

    D = net(
        mg.Conv2d(4, 5, stride=2, padding="same"),
        mg.LeakyReLU(0.2),
        mg.Conv2d(6, 3, stride=2, padding=1),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.Flatten(),
        mg.Linear(1),
        in_shape=(13, 10, 3),
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 13, 10, 3))
    for parameter in D.params.values():
        parameter[...] = rng.standard_normal(parameter.shape)
    hold_statistics(D, x)
    y = forward_to(D, 4, x)
    dy = np.zeros_like(y)
    dy[
        np.arange(5),
        rng.integers(0, y.shape[1], 5),
        rng.integers(0, y.shape[2], 5),
        rng.integers(0, 6, 5),
    ] = 1

    def torch_conv(t, layer):
        (top, bottom), (left, right) = layer.pads
        padded = torch.nn.functional.pad(t, (left, right, top, bottom))
        return torch.nn.functional.conv2d(
            padded, torch.tensor(layer.W.transpose(3, 2, 0, 1)), torch.tensor(layer.b), layer.stride
        )

    t = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    norm = D.layers[3]
    h = torch_conv(Guided.apply(torch_conv(t, D.layers[0])), D.layers[2])
    h = torch.nn.functional.batch_norm(
        h,
        torch.tensor(norm.running_mean),
        torch.tensor(norm.running_var),
        torch.tensor(norm.gain),
        torch.tensor(norm.bias),
        eps=norm.eps,
    )
    Guided.apply(h).backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(
        guided_gradient(D, 4, x, dy), t.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-10, atol=1e-12
    )
    forward_to(D, 4, x)
    assert not np.allclose(
        backward_from(D, 4, dy), t.grad.numpy().transpose(0, 2, 3, 1)
    )  # the plain gradient is another


@pytest.mark.parametrize("name", ("plain", "conditional", "linear"))
def test_the_ordinary_backward_stays_bit_for_bit(name, runs):
    game, _ = open_still(str(runs[name]))
    open_discriminator(game, str(runs[name]), print)
    D, rng = game.D, np.random.default_rng(0)
    x = rng.standard_normal((8, *D.in_shape)).astype(np.float32)
    labels = game.labels(np.arange(8))
    dy = rng.standard_normal((8, *D.out_shape)).astype(np.float32)

    def ordinary():
        D.zero_grads()
        D.forward(x, labels=labels)
        return D.backward(dy), D.ready().flat_grads.copy()

    dx, grads = ordinary()
    index = last_map(D)
    guided_gradient(D, index, x, np.ones((8, *D.layers[index].out_shape), np.float32), labels)
    assert np.array_equal(D.ready().flat_grads, grads)  # it does not add into the gradients
    again, grads_again = ordinary()
    assert np.array_equal(again, dx) and np.array_equal(grads_again, grads)
    with pytest.raises(ZeroDivisionError), guided(D):
        raise ZeroDivisionError
    again, _ = ordinary()
    assert np.array_equal(again, dx)


# -- what a unit sees, and what it finds --------------------------------------


@pytest.mark.parametrize(
    "k, s, padding",
    ((5, 2, "same"), (4, 2, "valid"), (3, 1, 2), (5, 2, ((0, 1), (2, 3))), (2, 3, "same")),
)
def test_a_window_is_where_the_gradient_is(k, s, padding):
    D = net(
        mg.Conv2d(2, k, stride=s, padding=padding),
        mg.LeakyReLU(0.2),
        mg.Conv2d(3, 3, padding=1),
        mg.ReLU(),
        in_shape=(31, 37, 1),
    )
    for parameter in D.params.values():
        parameter[...] = 1
    x = np.ones((1, 31, 37, 1))
    h, w, c = D.out_shape
    for place in ((h // 2, w // 3), (0, 0), (h - 1, w - 1)):
        dy = np.zeros((1, h, w, c))
        dy[(0, *place, 1)] = 1
        seen = guided_gradient(D, 3, x, dy)[0] != 0
        top, bottom, left, right = window(D, 3, place)
        wanted = np.zeros_like(seen)
        wanted[max(top, 0) : bottom, max(left, 0) : right] = True
        assert seen.any() and not (seen & ~wanted).any()
        if place == (h // 2, w // 3) and s <= k:  # no padding within, and no gaps
            assert np.array_equal(seen, wanted)
        assert cut(x[0], (top, bottom, left, right)).shape == (bottom - top, right - left, 1)


def test_a_cut_reaches_out_of_the_image():
    image = np.arange(12).reshape(3, 4, 1)
    assert cut(image, (-1, 1, 3, 5), beyond=9)[:, :, 0].tolist() == [[9, 9], [3, 9]]
    assert np.array_equal(cut(image, (-5, 9, 0, 1)), image)


def test_the_strongest_answers_are_found(runs):
    game, _ = open_still(str(runs["conditional"]))
    data = minigan.training.loop.load_dataset("mnist")
    hold_discriminator(game, game.D, data)
    numbers = np.arange(3, 50, 2)
    index = last_map(game.D)
    images, places = strongest(game, game.D, index, data, numbers, 2, 4)
    x = data.images[numbers] / np.float32(255)  # this G ends in a sigmoid: black is 0
    maps = forward_to(game.D, index, x.astype(np.float32), game.labels(numbers % 10))
    for unit in range(2):
        peaks = maps[..., unit].reshape(len(numbers), -1)
        assert images[unit].tolist() == numbers[np.argsort(-peaks.max(axis=1))[:4]].tolist()
        assert places[unit].tolist() == [
            int(peaks[numbers == number][0].argmax()) for number in images[unit]
        ]


def test_layers_are_found_where_they_should_be(runs):
    games = {name: open_still(str(folder))[0] for name, folder in runs.items()}
    assert {name: game.D.layers[last_map(game.D)].describe() for name, game in games.items()} == {
        "conditional": "LeakyReLU 0.2",
        "plain": "LeakyReLU 0.2",
        "colour": "LeakyReLU 0.2",
        "linear": "LeakyReLU 0.01",
        "dropout": "LeakyReLU 0.3",
    }
    assert len(games["conditional"].D.layers[last_map(games["conditional"].D)].out_shape) == 3
    assert len(games["linear"].D.layers[last_map(games["linear"].D)].out_shape) == 1
    only_maps = net(mg.Conv2d(4, 4), mg.LeakyReLU(0.2), mg.Conv2d(1, 5), in_shape=(8, 8, 1))
    assert last_map(only_maps) == 1  # not the logit
    assert last_map(net(mg.Linear(3), mg.Linear(1))) == 1
    assert stages(only_maps) == [(0, 1), (2, 2)]


def test_the_net_before_training_is_the_one_that_the_run_began_with(runs):
    game, _ = open_still(str(runs["plain"]))
    began = minigan.training.loop.Game(game.config)  # its D has not been loaded
    assert np.array_equal(untrained(game).ready().flat_params, began.D.ready().flat_params)


def test_filters_are_the_weights_by_which_an_image_is_read(runs):
    for name, folder in runs.items():
        game, _ = open_still(str(folder))
        h, w, c = game.D.in_shape
        W = filters(game.D)
        assert W.shape[3] == c and (W.shape[1:3] == (h, w) if name == "linear" else W.shape[1] <= 5)
    D = net(mg.Flatten(), mg.Linear(3, bias=False), in_shape=(4, 5, 2))
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 2))
    np.testing.assert_allclose(D.forward(x)[0], (filters(D) * x).sum(axis=(1, 2, 3)), rtol=1e-12)


def test_maps_as_pictures():
    assert map_picture(np.array([[0.0, 1], [2, 4]]))[:, :, 0].tolist() == [
        [0, 64, 128, 255][:2],
        [128, 255],
    ]
    assert map_picture(np.array([[-1.0, 0], [0.5, 1]]))[:, :, 0].tolist() == [[0, 128], [191, 255]]
    assert map_picture(np.zeros((1, 2)))[:, :, 0].tolist() == [[0, 0]]


# -- pages --------------------------------------------------------------------


def test_blocks_have_the_sizes_that_they_should():
    a, b = picture(np.zeros((3, 4, 1), np.uint8), 2), picture(np.zeros((5, 6, 3), np.uint8))
    assert a.shape == (6, 8, 3) and b.shape == (5, 6, 3)
    assert beside([a, b], gap=2).shape == (6, 16, 3) and below([a, b], gap=2).shape == (13, 8, 3)
    assert below([a, b], gap=0, at=1.0)[-1, :, 0].tolist() == [255, 255, 0, 0, 0, 0, 0, 0]
    assert cells(np.zeros((7, 4, 4, 1), np.uint8), 3, factor=2, gap=1).shape == (
        3 * 8 + 2,
        3 * 8 + 2,
        3,
    )
    narrow, wide = (
        words("some words that want a second line", width=120),
        words("some words that want a second line"),
    )
    assert narrow.shape[1] == 120 and narrow.shape[0] > wide.shape[0] and narrow.min() < 100


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("command", DRAWING)
def test_every_command_draws_a_page_of_every_run(command, name, runs, tmp_path, capsys):
    assert look(command, runs[name], "--out", tmp_path / "page.png") == 0
    page = load_png(tmp_path / "page.png")
    assert min(page.shape[:2]) > 150 and max(page.shape[:2]) < 2000 and page.std() > 5
    assert page.shape[2] == (3 if name == "colour" and command != "activations" else page.shape[2])
    assert (page[:20] == 255).all() and (page[:, -20:] == 255).all()  # a margin
    assert len(capsys.readouterr().out.splitlines()) == 1 + (command == "features")
    if name == "conditional":
        assert look(command, runs[name], "--out", tmp_path / "again.png") == 0
        assert (tmp_path / "again.png").read_bytes() == (tmp_path / "page.png").read_bytes()


@pytest.mark.parametrize("name", ("plain", "conditional"))
def test_the_page_of_a_walk(name, runs):
    """Each row ends with the first picture of the next, and these are samples; the conditional run's all of one class."""
    assert (
        look(
            "interpolate",
            runs[name],
            *(("--label", 3) if name == "conditional" else ()),
            "--seed",
            2,
        )
        == 0
    )
    page = load_png(runs[name] / "interpolation.png")
    rows, side = 9, 56
    assert page.shape[1:] == (9 * side + 8 * 3 + 2 * 20, 1)
    bottom = page[-20 - rows * side - (rows - 1) * 3 : -20, 20:-20]
    shown = [
        [bottom[i * 59 : i * 59 + side, j * 59 : j * 59 + side] for j in range(9)]
        for i in range(rows)
    ]
    assert all(np.array_equal(shown[i][8], shown[(i + 1) % rows][0]) for i in range(rows))
    assert not np.array_equal(shown[0][0], shown[1][0])
    game, _ = open_still(str(runs[name]))
    drawn = paint(game, draw_z(game, rows, 2), 3 if name == "conditional" else 0)
    assert all(np.array_equal(shown[i][0], drawn[i].repeat(2, 0).repeat(2, 1)) for i in range(rows))


@pytest.mark.parametrize(
    "name, ending, size",
    (
        ("plain", "gif", (366, 366)),
        ("conditional", "gif", (456, 186)),
        ("colour", "webp", (424, 296)),
    ),
)
def test_an_animated_walk(name, ending, size, runs, tmp_path, capsys):
    assert look("interpolate", runs[name], "--out", tmp_path / f"walk.{ending}") == 0
    with Image.open(tmp_path / f"walk.{ending}") as image:
        times = []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            times.append(frame.info["duration"])
        assert image.size == size and image.info["loop"] == 0
    assert sum(times) == 7200 and len(times) <= 144  # equal frames may be kept as one
    assert "144 frames, 7.2 s" in capsys.readouterr().out


def test_sums_by_hand(runs, capsys):
    for name in ("plain", "colour", "conditional"):
        picked = (
            ("0,10,20", "31,41", "2")
            if name == "conditional"
            else ("3,14,15", "92,65,35", "89,79,32")
        )
        assert look("arithmetic", runs[name], "--pick") == 0
        assert load_png(runs[name] / "candidates.png").shape[0] > 500
        assert look("arithmetic", runs[name], "--pick", *picked) == 0
        page = load_png(runs[name] / "arithmetic.png")
        assert page.shape[0] > 300 and page.shape[2] == (3 if name == "colour" else 1)
    assert "choose three groups" in capsys.readouterr().out


@pytest.mark.parametrize("layer", ("G", "G.1", "D.1", "D.13"))
def test_activations_of_any_layer(layer, runs, tmp_path, capsys):
    assert (
        look(
            "activations",
            runs["conditional"],
            "--layer",
            layer,
            "--image",
            3,
            "--out",
            tmp_path / "a.png",
        )
        == 0
    )
    assert ("class 3" in capsys.readouterr().out) and load_png(tmp_path / "a.png").shape[0] > 150


# -- mistakes -----------------------------------------------------------------

MISTAKES = (
    ("interpolate nowhere", "is not the folder of a run"),
    ("filters plain --out a.jpg", "--out must end in .png"),
    ("filters plain --out a.gif", "--out must end in .png"),
    ("interpolate plain --out walk", "--out must end in .png or .gif or .webp"),
    ("interpolate plain --path straight", "--path must be linear or spherical"),
    ("interpolate plain --label 3", "--label is for a conditional run"),
    ("interpolate conditional --label 10", "--label must be in 0 .. 9, got 10"),
    ("interpolate plain --seed -1", "--seed must be a whole number"),
    ("activations plain --layer D.99", "there is no 'D.99' here: choose one of G.0 ("),
    ("activations plain --layer x", "there is no 'x' here"),
    ("features plain --layer G.0", "there is no 'G.0' here: choose one of D.0 ("),
    ("activations plain --image 50", "--image must be a whole number of at least 0 and at most 49"),
    ("activations plain --layer G --image -1", "--image must be a whole number"),
    ("arithmetic plain", "samples are clearly of class '7': train for longer"),
    ("arithmetic plain --classes 7 seven", "has no class 'seven': take two of 0, 1, 2"),
    ("arithmetic colour", "are in colour: draw numbered samples by --pick"),
    ("arithmetic plain --pick 1,2 3", "--pick: expected three groups of samples, as 3,14,15"),
    ("arithmetic plain --pick 1 2 x", "got 'x'"),
    ("arithmetic plain --pick 1 2 4096", "below 4096"),
    ("arithmetic plain --pick 1 2 " + 9999 * "9", "below 4096"),
    ("arithmetic conditional --pick 1 2 3,4", "group C is of the classes 3, 4"),
    ("arithmetic plain --pick 1 2 3 --classes 1 2", "not allowed with"),
    ("filters", "arguments are required: RUN"),
)


@pytest.mark.parametrize("line, message", MISTAKES, ids=[line[:40] for line, _ in MISTAKES])
def test_mistakes_meet_one_line(line, message, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs["plain"].parent)
    before = sorted(path.name for path in runs["plain"].parent.rglob("*"))
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("minigan: error: ") and message in error
    assert sorted(path.name for path in runs["plain"].parent.rglob("*")) == before


def test_runs_that_lack_something(runs, tmp_path, monkeypatch, capsys):
    def refused(*words):
        assert look(*words) == 2
        return capsys.readouterr()

    broken = shutil.copytree(runs["plain"], tmp_path / "broken")
    for checkpoint in (broken / "checkpoints").iterdir():
        checkpoint.write_bytes(b"no archive")
    shown = refused("filters", broken)
    assert "passing over a checkpoint" in shown.out and "has none that can be used" in shown.err
    shutil.rmtree(broken / "checkpoints")
    assert "has none that can be used: wait" in refused("features", broken).err
    assert look("interpolate", broken) == 0  # G is all that it needs
    game, _ = open_still(str(broken))
    game.G.ready().flat_params[:] = np.nan
    save_arrays(broken / "generator.npz", game.G.ready().state())
    capsys.readouterr()
    assert "NaN" in refused("interpolate", broken).err
    assert "NaN" in refused("activations", broken, "--layer", "G.0").err
    (broken / "generator.npz").unlink()
    assert "has no generator.npz yet" in refused("interpolate", broken).err
    monkeypatch.setattr(
        minigan.training.loop, "load_dataset", lambda *a, **k: dataset_of_another_time()
    )
    assert "are not those that the run was trained on" in refused("features", runs["plain"]).err


def dataset_of_another_time():
    data = dataset(np.zeros((50, 28, 28, 1), np.uint8))
    return type(data)(data.name, data.images, data.labels, data.classes, "1" * 16, None)


def test_pick_by_hand_asks_for_three_groups():
    with pytest.raises(ConfigError, match="three groups"):
        groups.picked(["1", "2"])


def test_the_command_line_starts_without_what_only_pictures_need():
    code = "import minigan.cli.main, sys; print([m for m in ('PIL', 'tqdm', 'minigan.training.loop', 'minigan.inspection.interpolation') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
