"""The published systems: their parameter counts, their steps, their variants; and minigan's own at any size."""

import numpy as np
import pytest

import minigan as mg
from minigan.data import Batches
from minigan.presets import MODULES, get_preset, own
from minigan.training.config import new_config
from minigan.training.game import Game

PUBLISHED = {  # preset: (G total, trainable, not), (D total, trainable, not), as Keras' summary counts them
    "shibuya-fnn": ((114_064, 114_064, 0), (100_609, 100_609, 0)),
    "shibuya-mnist": ((93_009, 92_913, 96), (633_073, 631_473, 1_600)),
    "shibuya-svhn": ((4_936_963, 4_935_171, 1_792), (1_034_881, 1_034_113, 768)),
    "shibuya-celeba": ((4_936_963, 4_935_171, 1_792), (1_034_881, 1_034_113, 768)),
    "tensorflow-mnist": ((2_330_944, 2_305_472, 25_472), (212_865, 212_865, 0)),
    "tensorflow-cifar10": (
        (3_192_256, 3_159_104, 33_152),
        (217_985, 217_985, 0),
    ),  # D counted by hand: the article has none
    "fredriksson-fnn": ((114_064, 114_064, 0), (100_609, 100_609, 0)),
    "fredriksson-mnist": ((2_078_337, 2_077_569, 768), (836_481, 835_713, 768)),
    "jindal-mnist64": ((12_658_176, 12_654_336, 3_840), (11_035_648, 11_032_064, 3_584)),
    "jayathilaka-faces": ((3_100_720, 3_097_136, 3_584), (1_336_321, 1_336_321, 0)),
    # their programs keep no running statistics, or print no table: the trained numbers are the published ones
    "radford-64": ((18_920_320, 18_885_760, 34_560), (17_236_352, 17_232_768, 3_584)),
    "radford-mnist-conditional": ((6_835_258, 6_820_538, 14_720), (6_690_506, 6_688_202, 2_304)),
    "pytorch-64": ((3_578_624, 3_576_704, 1_920), (2_767_360, 2_765_568, 1_792)),
}
OWN = ("mnist", "color32", "image64")
EPOCHS = {  # preset: images of its set, steps in an epoch as published
    "shibuya-fnn": (60_000, 937),
    "shibuya-mnist": (60_000, 468),
    "shibuya-svhn": (73_257, 572),
    "shibuya-celeba": (201_599, 1574),
    "tensorflow-mnist": (60_000, 235),
    "fredriksson-mnist": (60_000, 469),
    "jindal-mnist64": (60_000, 469),
    "radford-mnist-conditional": (50_000, 195.5),
}


def game(name, **options):
    """-> Game of a preset and batches of noise in the place of its data"""
    made = Game(new_config(dict(preset=name, batch_size=4, **options)))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, *made.config.image_shape), np.uint8)
    labels = rng.integers(0, made.preset.classes, 8) if made.preset.classes else None
    return made, Batches(
        images,
        4,
        labels=labels,
        shuffle=made.config.shuffle,
        drop_last=made.config.drop_last,
        pixel_min=made.preset.pixel_min,
    )


@pytest.mark.parametrize("name", MODULES)
def test_counts_and_a_step(name):
    """Every preset: its parameters, and one update of each player that changes all that is trained."""
    made, batches = game(name)
    found = {}
    for player, net in (("G", made.G), ("D", made.D)):
        trained, kept = found[player] = net.count()
        if name in PUBLISHED:
            assert (trained + kept, trained, kept) == PUBLISHED[name]["GD".index(player)]
        assert f"{trained:,} trained, {kept:,} not" in net.summary()
    assert found == made.preset.counts
    assert tuple(made.G.out_shape) == made.preset.image_shape and made.D.out_shape == (1,)
    assert made.preset.name == name and made.preset.source
    before = {
        player: {key: p.copy() for key, p in net.params.items()}
        for player, net in made.nets.items()
    }
    losses = made.read(made.round(batches))
    assert all(np.isfinite(value) for value in losses.values())
    for player, net in made.nets.items():
        same = [key for key, p in net.params.items() if np.array_equal(p, before[player][key])]
        assert not [key for key in same if np.any(net.grads[key])], "gradients, but no step"
        assert len(same) <= 2, same  # (a bias before BatchNorm has no gradient but rounding)
    pictures = made.sample(3, made.stream("sample"))
    assert pictures.shape == (3, *made.preset.image_shape)


def test_every_published_system_is_here_and_nothing_more():
    assert set(MODULES) == {*PUBLISHED, *OWN}


@pytest.mark.parametrize("name", EPOCHS)
def test_an_epoch_has_as_many_steps_as_published(name):
    images, steps = EPOCHS[name]
    preset, config = get_preset(name), new_config(dict(preset=name))
    pictures = np.empty((images, 1, 1, 1), np.uint8)
    batches = Batches(
        pictures, config.batch_size, shuffle=config.shuffle, drop_last=config.drop_last
    )
    assert batches.per_epoch / preset.rules.batches == steps
    assert config.limit in (None, images)


def test_variants():
    assert get_preset("shibuya-mnist").discriminator(32, (28, 28, 1))[1].slope == 0.01
    assert get_preset("shibuya-mnist:slope-0.2").discriminator(32, (28, 28, 1))[1].slope == 0.2
    rates = {name: get_preset(f"shibuya-svhn:{name}") for name in ("T1", "T2", "T3")}
    assert [(p.lr_g, p.lr_d, p.beta1) for p in rates.values()] == [
        (2e-4, 2e-4, 0.5),
        (1e-4, 1e-3, 0.5),
        (1e-4, 1e-3, 0.9),
    ]
    made = {
        name: Game(new_config(dict(preset=f"jayathilaka-faces:{name}")))
        for name in ("adam", "rmsprop", "sgd")
    }
    kinds = {name: type(each.optimizers["G"]) for name, each in made.items()}
    assert kinds == dict(adam=mg.Adam, rmsprop=mg.RMSprop, sgd=mg.SGD)
    assert made["sgd"].optimizers["D"].momentum == 0.5 and made["sgd"].optimizers["D"].lr == 0.01
    for base in MODULES:
        for variant in get_preset(base).variants:
            preset = get_preset(f"{base}:{variant}")
            assert preset.name == f"{base}:{variant}" and preset.counts == get_preset(base).counts


@pytest.mark.parametrize("variant, std", (("T2", 0.02), ("T4", 0.1)))
def test_first_weights_of_the_celeba_runs(variant, std):
    made, _ = game(f"shibuya-celeba:{variant}", width=32)
    for net in made.nets.values():
        for name, W in net.params.items():
            if name.endswith(".W") and W.size > 5000:
                assert W.std() == pytest.approx(std, rel=0.1), name


def test_rates_fall_in_a_line_after_the_constant_epochs():
    made, _ = game("radford-mnist-conditional", width=2)
    seen = []
    for epoch in (0, 99, 100, 150, 199, 200, 300):
        made.set_rates(epoch)
        seen.append([optimizer.lr for optimizer in made.optimizers.values()])
    wanted = [2e-4, 2e-4, 2e-4, 1e-4, 2e-6, 0, 0]
    np.testing.assert_allclose(seen, np.repeat(np.array(wanted)[:, None], 2, axis=1), atol=1e-18)


def test_the_joint_update_is_a_third_optimizer_that_is_saved():
    made, batches = game("shibuya-mnist", joint_update=True, width=4)
    assert (
        set(made.optimizers) == {"G", "D", "D joint"}
        and made.optimizers["D joint"].lr == made.config.lr_g
    )
    made.round(batches)
    assert made.optimizers["D joint"].steps == 1 and made.optimizers["D"].steps == 2
    sections, record = made.state()
    assert np.any(sections["optimizer D joint"]["m"]) and record["optimizer_steps"] == {
        "G": 1,
        "D": 2,
        "D joint": 1,
    }
    again, _ = game("shibuya-mnist", joint_update=True, width=4)
    again.load(sections, record, "here")
    np.testing.assert_array_equal(again.optimizers["D joint"].m, made.optimizers["D joint"].m)


# -- minigan's own, at any size --------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", ("6x6", "28x28", "37x53", "96x40", "9x200", "15x16", "64x64", "130x128")
)
@pytest.mark.parametrize("channels", (1, 3))
def test_images_of_any_size(size, channels):
    made, batches = game("mnist", image_size=size, channels=channels, width=2)
    h, w = map(int, size.split("x"))
    assert tuple(made.G.out_shape) == (h, w, channels) and made.D.out_shape == (1,)
    smallest = made.G.layers[1].shape
    assert 3 <= min(smallest[:2]) < 6
    losses = made.read(made.round(batches))
    assert all(np.isfinite(value) for value in losses.values())


def test_the_three_own_presets_are_one_architecture():
    for name in OWN:
        preset = get_preset(name)
        assert getattr(preset.generator, "func", preset.generator) is own.generator
        assert getattr(preset.discriminator, "func", preset.discriminator) is own.discriminator
        made, _ = game(name, width=preset.width)
        assert {player: made.nets[player].count() for player in "GD"} == preset.counts


@pytest.mark.parametrize("size, refined", (("8x8", 0), ("12x12", 1), ("28x28", 1), ("75x64", 1)))
def test_a_refined_net_has_one_more_convolution_at_the_map_before_the_smallest(size, refined):
    made, _ = game("mnist", image_size=size, width=2)
    for net in (made.G, made.D):
        maps = [layer for layer in net.layers if type(layer) in (mg.Conv2d, mg.ConvTranspose2d)]
        assert [i for i, layer in enumerate(maps) if layer.stride == (1, 1)] == [
            1 if net is made.G else len(maps) - 2
        ] * refined
        plain = (
            own.generator(2, 64, made.G.out_shape)
            if net is made.G
            else own.discriminator(2, made.D.in_shape)
        )
        assert len(net.layers) == len(plain) + 3 * refined


@pytest.mark.parametrize(
    "size, layer, nearest", (("5x5", "5x5 to 2x2", "6x6"), ("4x60", "4x60 to 2x30", "6x60"))
)
def test_an_image_too_small_says_which_layer_and_what_fits(size, layer, nearest):
    with pytest.raises(mg.ShapeError) as caught:
        game("mnist", image_size=size)
    assert f"D.0 (Conv2d k4 s2 p1): halves {layer}" in str(
        caught.value
    ) and f"nearest size is {nearest}" in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    (
        (
            dict(preset="pytorch-64", image_size="32"),
            "preset pytorch-64 is published for images of 64x64x3 alone: leave --image-size",
        ),
        (dict(preset="shibuya-mnist", channels=3), "published for images of 28x28x1 alone"),
        (
            dict(preset="mnist", image_size="64x"),
            "--image-size must be a number of pixels, or HEIGHTxWIDTH such as 64x48, got '64x'",
        ),
        (dict(preset="mnist", image_size="0"), "--image-size must be a whole number of at least 1"),
        (dict(preset="mnist", channels=4), "--channels must be 1 (grey) or 3 (colour), got 4"),
        (
            dict(preset="shibuya-svhn:T9"),
            "preset shibuya-svhn has no variant 'T9': choose one of shibuya-svhn:T1, shibuya-svhn:T2",
        ),
        (dict(preset="mnist:T1"), "preset mnist has no variant 'T1': it has no variants"),
        (
            dict(preset="jayathilaka-faces:sgd", beta1=0.5),
            "--beta1 is Adam's: preset jayathilaka-faces:sgd trains with SGD",
        ),
        (
            dict(preset="tensorflow-mnist", joint_update=True),
            "--joint-update has no meaning where both players move at once",
        ),
        (
            dict(preset="mnist", dataset="folder"),
            "--dataset folder and --images DIR belong together",
        ),
        (
            dict(preset="mnist", dataset="mnist", images="a"),
            "--dataset folder and --images DIR belong together",
        ),
        (
            dict(preset="mnist", shuffle="sometimes"),
            "--shuffle must be one of epoch, once, never, got 'sometimes'",
        ),
        (dict(preset="mnist", limit=0), "--limit must be a whole number of at least 1, got 0"),
    ),
)
def test_options_that_do_not_fit_the_preset(options, message):
    with pytest.raises(mg.ConfigError) as caught:
        new_config(options)
    assert message in str(caught.value)


def test_choices_for_the_published_data_are_for_them_alone():
    """A preset that never shuffles would go through a folder class by class."""
    own, other = (
        new_config(dict(preset="shibuya-celeba")),
        new_config(dict(preset="shibuya-celeba", images="photos")),
    )
    assert (own.limit, own.fit, own.shuffle) == (201_599, "box:14,34,144,184", "never")
    assert (other.limit, other.fit, other.shuffle, other.dataset) == (
        None,
        "crop",
        "epoch",
        "folder",
    )
    assert (
        new_config(dict(preset="shibuya-celeba", images="photos", shuffle="never")).shuffle
        == "never"
    )
    assert new_config(dict(preset="shibuya-mnist", dataset="mnist")).shuffle == "never"
