"""The published systems: their parameter counts, epochs, variants; minigan's own at any size."""

import numpy as np
import pytest

import minigan as mg
from minigan.data import Batches
from minigan.presets import MODULES, get_preset, own
from minigan.training.config import new_config
from minigan.training.outline import outline
from minigan.training.switches import switched_preset
from tests.support.games import make_game
from tests.support.preset_counts import counts_of

# preset -> (G total, trained, not), (D total, trained, not), as Keras' summary counts them
PUBLISHED = {
    "shibuya-fnn": ((114_064, 114_064, 0), (100_609, 100_609, 0)),
    "shibuya-mnist": ((93_009, 92_913, 96), (633_073, 631_473, 1_600)),
    "shibuya-svhn": ((4_936_963, 4_935_171, 1_792), (1_034_881, 1_034_113, 768)),
    "shibuya-celeba": ((4_936_963, 4_935_171, 1_792), (1_034_881, 1_034_113, 768)),
    "tensorflow-mnist": ((2_330_944, 2_305_472, 25_472), (212_865, 212_865, 0)),
    # D counted by hand: the article has none
    "tensorflow-cifar10": ((3_192_256, 3_159_104, 33_152), (217_985, 217_985, 0)),
    "fredriksson-fnn": ((114_064, 114_064, 0), (100_609, 100_609, 0)),
    "fredriksson-mnist": ((2_078_337, 2_077_569, 768), (836_481, 835_713, 768)),
    "jindal-mnist64": ((12_658_176, 12_654_336, 3_840), (11_035_648, 11_032_064, 3_584)),
    "jayathilaka-faces": ((3_100_720, 3_097_136, 3_584), (1_336_321, 1_336_321, 0)),
    # these programs keep no running statistics, or print no table: what is trained is published
    "radford-64": ((18_920_320, 18_885_760, 34_560), (17_236_352, 17_232_768, 3_584)),
    "radford-mnist-conditional": ((6_835_258, 6_820_538, 14_720), (6_690_506, 6_688_202, 2_304)),
    "pytorch-64": ((3_578_624, 3_576_704, 1_920), (2_767_360, 2_765_568, 1_792)),
}
OWN = ("mnist", "color32", "image64")
EPOCHS = {  # preset -> images of its set, steps in an epoch as published
    "shibuya-fnn": (60_000, 937),
    "shibuya-mnist": (60_000, 468),
    "shibuya-svhn": (73_257, 572),
    "shibuya-celeba": (201_599, 1574),
    "tensorflow-mnist": (60_000, 235),
    "fredriksson-mnist": (60_000, 469),
    "jindal-mnist64": (60_000, 469),
    "radford-mnist-conditional": (50_000, 195.5),
    "jayathilaka-faces": (5_000, 313),
}


class Zeros(np.random.Generator):
    """A generator that does not draw: millions of random weights take seconds."""

    def normal(self, mean, std, shape):
        return np.zeros(shape)

    def uniform(self, low, high, shape):
        return np.zeros(shape)


@pytest.mark.parametrize("name", MODULES)
def test_counts(name):
    preset, backend = switched_preset(new_config({"preset": name})), mg.get_backend("plain")
    assert preset.name == name and preset.source
    G = mg.Sequential(preset.generator(preset.width, preset.z_dim, preset.image_shape), name="G")
    D = mg.Sequential(preset.discriminator(preset.width, preset.image_shape), name="D")
    rng = Zeros(np.random.PCG64(0))
    assert G.setup((preset.z_dim,), backend=backend, rng=rng) == preset.image_shape
    assert D.setup(preset.image_shape, backend=backend, rng=rng) == (1,)
    for player, net in (("G", G), ("D", D)):
        trained, kept = net.count()
        assert (trained, kept) == counts_of(name)["GD".index(player)]
        assert f"{trained:,} trained, {kept:,} not" in net.summary()
        if name in PUBLISHED:
            assert (trained + kept, trained, kept) == PUBLISHED[name]["GD".index(player)]


@pytest.mark.parametrize("name", MODULES)
def test_a_round_changes_everything_that_is_trained(name):
    game, batches = make_game(name, width=4)
    before = {
        player: {key: p.copy() for key, p in net.params.items()}
        for player, net in game.nets.items()
    }
    measured = game.read(game.round(batches))
    assert all(np.isfinite(value) for value in measured.values())
    for player, net in game.nets.items():
        same = {key for key, p in net.params.items() if np.array_equal(p, before[player][key])}
        assert not [key for key in same if np.any(net.grads[key])], "gradients, but no step"
        assert len(same) <= 2, same  # a bias before BatchNorm has no gradient but rounding
    images = game.sample(3, game.stream("sample"))
    assert images.shape == (3, *game.preset.image_shape) and images.dtype == np.uint8


def test_every_published_system_is_here_and_nothing_more():
    assert set(MODULES) == {*PUBLISHED, *OWN}


@pytest.mark.parametrize("name", EPOCHS)
def test_an_epoch_has_as_many_steps_as_published(name):
    images, steps = EPOCHS[name]
    preset, config = get_preset(name), new_config(dict(preset=name))
    pixels = np.empty((images, 1, 1, 1), np.uint8)
    options = dict(shuffle=config.shuffle, drop_last=config.drop_last)
    batches = Batches(pixels, config.batch_size, **options)
    assert batches.per_epoch / preset.images_per_round == steps
    assert config.limit in (None, images)


def test_variants():
    nets = {
        name: get_preset(name).discriminator(32, (28, 28, 1))
        for name in ("shibuya-mnist", "shibuya-mnist:slope-0.2")
    }
    assert [layers[1].slope for layers in nets.values()] == [0.01, 0.2]
    runs = [get_preset(f"shibuya-svhn:{name}") for name in ("T1", "T2", "T3")]
    assert [(p.lr_g, p.lr_d, p.beta1) for p in runs] == [
        (2e-4, 2e-4, 0.5),
        (1e-4, 1e-3, 0.5),
        (1e-4, 1e-3, 0.9),
    ]
    games = {
        name: make_game(f"jayathilaka-faces:{name}", width=2)[0]
        for name in ("adam", "rmsprop", "sgd")
    }
    kinds = {name: type(game.optimizers["G"]) for name, game in games.items()}
    assert kinds == dict(adam=mg.Adam, rmsprop=mg.RMSprop, sgd=mg.SGD)
    assert games["sgd"].optimizers["D"].momentum == 0.5
    assert games["sgd"].optimizers["D"].lr == 0.01
    for base in MODULES:
        for variant in get_preset(base).variants:
            preset = get_preset(f"{base}:{variant}")
            assert preset.name == f"{base}:{variant}"
            G, D = outline(new_config({"preset": preset.name}))
            assert counts_of(preset.name) == (G.count(), D.count())


@pytest.mark.parametrize(
    "name, message",
    (
        ("shibuyamnist", "unknown preset 'shibuyamnist'"),
        ("shibuya-svhn:T9", "has no variant 'T9': choose one of shibuya-svhn:T1, shibuya-svhn:T2"),
        ("mnist:T1", "preset mnist has no variant 'T1': it has no variants"),
        (7, "unknown preset 7"),
    ),
)
def test_unknown_names(name, message):
    with pytest.raises(mg.ConfigError) as caught:
        get_preset(name)
    assert message in str(caught.value)


@pytest.mark.parametrize("variant, std", (("T2", 0.02), ("T4", 0.1)))
def test_first_weights_of_the_celeba_runs(variant, std):
    game, _ = make_game(f"shibuya-celeba:{variant}", width=32)
    for net in game.nets.values():
        for name, W in net.params.items():
            if name.endswith(".W") and W.size > 5000:
                assert W.std() == pytest.approx(std, rel=0.1), name


# -- minigan's own, at any size ----------------------------------------------------------------


@pytest.mark.parametrize("size", ("6x6", "37x53", "96x40", "9x120", "15x16", "64x64"))
def test_images_of_any_size(size):
    for channels in (1, 3):
        game, batches = make_game("mnist", image_size=size, channels=channels, width=1)
        h, w = map(int, size.split("x"))
        assert game.G.out_shape == (h, w, channels) and game.D.out_shape == (1,)
        smallest = game.G.layers[1].shape
        assert 3 <= min(smallest[:2]) < 6
        measured = game.read(game.round(batches))
        assert all(np.isfinite(value) for value in measured.values())


def test_the_three_own_presets_are_one_architecture():
    for name in OWN:
        preset = get_preset(name)
        assert preset.generator is own.generator and preset.discriminator is own.discriminator


@pytest.mark.parametrize("size, more", (("8x8", 0), ("12x12", 1), ("28x28", 1), ("75x64", 1)))
def test_one_more_convolution_before_the_smallest_map(size, more):
    game, _ = make_game("mnist", image_size=size, width=2)
    for player in "GD":
        net = game.nets[player]
        maps = [layer for layer in net.layers if isinstance(layer, (mg.Conv2d, mg.ConvTranspose2d))]
        place = 1 if player == "G" else len(maps) - 2
        stride_1 = [i for i, layer in enumerate(maps) if layer.stride == (1, 1)]
        assert stride_1 == [place] * more
        sizes = [layer.out_shape[:2] for layer in maps if layer.stride == (2, 2)]
        assert not more or maps[place].in_shape[:2] == sizes[0 if player == "G" else -2]


@pytest.mark.parametrize(
    "size, halves, nearest", (("5x5", "5x5 to 2x2", "6x6"), ("4x60", "4x60 to 2x30", "6x60"))
)
def test_an_image_too_small_gets_the_layer_and_the_nearest_size(size, halves, nearest):
    with pytest.raises(mg.ShapeError) as caught:
        make_game("mnist", image_size=size)
    assert f"D.0 (Conv2d k4 s2 p1): halves {halves}" in str(caught.value)
    assert f"the nearest size is {nearest}" in str(caught.value)


KERAS, TF, L2 = dict(eps=1e-8, eps_hat=True), dict(eps=1e-7, eps_hat=True), dict(l2=1e-5)
BOX = "box:14,34,144,184"
# as published: see the module of each preset for its source
NUMBERS = {  # lr_g, lr_d, beta1, settings; batch, epochs; z, z_dim; decay, fit, shuffle
    "radford-64": (2e-4, 2e-4, 0.5, L2, 128, 25, "uniform", 100, None, "crop", "epoch"),
    "radford-64:svhn": (5e-4, 5e-4, 0.5, L2, 64, 200, "normal", 100, None, "crop", "epoch"),
    "radford-64:imagenet": (2e-4, 2e-4, 0.5, L2, 128, 30, "uniform", 256, None, "crop", "epoch"),
    "radford-mnist-conditional": (
        2e-4, 2e-4, 0.5, dict(l2=2.5e-5), 128, 200, "uniform", 100, (100, 100), "crop", "epoch",
    ),
    "shibuya-fnn": (1e-4, 1e-3, 0.9, KERAS, 64, 100, "normal", 100, None, "crop", "never"),
    "shibuya-mnist": (1e-4, 1e-3, 0.9, KERAS, 128, 100, "normal", 100, None, "crop", "never"),
    "shibuya-svhn": (1e-4, 1e-3, 0.5, KERAS, 128, 25, "normal", 100, None, "crop", "never"),
    "shibuya-celeba": (1e-4, 1e-3, 0.5, KERAS, 128, 3, "normal", 100, None, BOX, "never"),
    "shibuya-celeba:T1": (2e-4, 2e-4, 0.5, KERAS, 128, 3, "normal", 100, None, BOX, "never"),
    "shibuya-celeba:T3": (1e-4, 1e-3, 0.9, KERAS, 128, 3, "normal", 100, None, BOX, "never"),
    "tensorflow-mnist": (1e-4, 1e-4, 0.9, TF, 256, 50, "normal", 100, None, "crop", "epoch"),
    "tensorflow-cifar10": (1e-4, 1e-4, 0.9, TF, 256, 50, "normal", 128, None, "crop", "epoch"),
    "pytorch-64": (2e-4, 2e-4, 0.5, {}, 64, 25, "normal", 100, None, "crop", "epoch"),
    "jindal-mnist64": (2e-4, 2e-4, 0.5, {}, 128, 10, "normal", 100, None, "crop", "epoch"),
    "fredriksson-fnn": (2e-4, 2e-4, 0.5, KERAS, 128, 100, "uniform", 100, None, "crop", "once"),
    "fredriksson-mnist": (2e-4, 2e-4, 0.5, KERAS, 128, 20, "uniform", 100, None, "crop", "once"),
    "jayathilaka-faces": (
        2e-4, 2e-4, 0.5, KERAS, 16, 16, "normal", 100, None, "centre:108", "epoch",
    ),
    "jayathilaka-faces:rmsprop": (
        2e-4, 2e-4, None, dict(rho=0.9, eps=1e-8), 16, 16, "normal", 100, None, "centre:108",
        "epoch",
    ),
    "jayathilaka-faces:sgd": (
        0.01, 0.01, None, dict(momentum=0.5), 16, 16, "normal", 100, None, "centre:108", "epoch",
    ),
}  # fmt: skip


def test_the_numbers_are_those_that_were_published():
    assert {name.partition(":")[0] for name in NUMBERS} == set(MODULES) - set(own.PRESETS)
    for name, numbers in NUMBERS.items():
        p = get_preset(name)
        found = (p.lr_g, p.lr_d, p.beta1, p.settings, p.batch_size, p.epochs, p.z, p.z_dim)
        assert (*found, p.decay, p.fit, p.shuffle) == numbers, name
