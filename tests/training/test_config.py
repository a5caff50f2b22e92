"""The options of a run: defaults of the preset, ranges, and what --resume may change."""

import json
from dataclasses import asdict

import numpy as np
import pytest

import minigan as mg
from minigan.backends import get_backend
from minigan.presets import MODULES
from minigan.training.config import config_from_record, flag, new_config, resumed_config, versions
from tests.support.long_form import long_form

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies


def test_what_is_not_given_comes_from_the_preset():
    config = new_config({})
    assert (config.preset, config.dataset, config.width) == ("mnist", "auto", 16)
    assert (config.epochs, config.steps, config.image_shape) == (4, None, (28, 28, 1))
    config = new_config(dict(preset="shibuya-svhn:T3", lr_g=1e-3, steps=7))
    assert (config.lr_g, config.lr_d, config.beta1) == (1e-3, 1e-3, 0.9)
    assert (config.epochs, config.steps) == (None, 7)
    assert (config.shuffle, config.drop_last) == ("never", True)


@pytest.mark.parametrize(
    "options, preset",
    (
        (dict(dataset="cifar10"), "color32"),
        (dict(dataset="svhn"), "color32"),
        (dict(dataset="celeba"), "image64"),
        (dict(images="photos"), "image64"),
        (dict(images="photos", image_size="32"), "color32"),
        (dict(images="photos", image_size="28", channels=1), "mnist"),
        (dict(images="photos", image_size="48x80"), "image64"),
        (dict(images="photos", image_size="32x80"), "color32"),  # by the shorter side
        (dict(dataset="celeba", image_size="32x40"), "color32"),
        (dict(dataset="mnist", image_size="64"), "mnist"),
        (dict(dataset="mnist"), "mnist"),
        (dict(dataset="cifar10", preset="mnist"), "mnist"),
    ),
)
def test_a_data_set_chooses_the_preset(options, preset):
    assert new_config(options).preset == preset


def test_numbers_of_numpy_become_pythons():
    options = dict(seed=np.int64(3), steps=np.arange(2)[1], lr_g=np.float32(0.5), classes=4)
    config = new_config({"preset": "color32", **options})
    assert json.loads(json.dumps(asdict(config)))["seed"] == 3 and config.lr_g == 0.5


def test_choices_for_the_published_data_are_for_that_data_only():
    """A preset that never shuffles would go through a folder class by class."""
    own = new_config(dict(preset="shibuya-celeba"))
    assert (own.limit, own.fit, own.shuffle) == (201_599, "box:14,34,144,184", "never")
    other = new_config(dict(preset="shibuya-celeba", images="photos"))
    assert (other.limit, other.fit, other.shuffle) == (None, "crop", "epoch")
    assert other.dataset == "folder"
    chosen = new_config(dict(preset="shibuya-celeba", images="photos", shuffle="never"))
    assert chosen.shuffle == "never"
    assert new_config(dict(preset="shibuya-mnist", dataset="mnist")).shuffle == "never"


def test_one_form_is_kept(tmp_path, monkeypatch):
    """A resumed run may be started from another folder."""
    monkeypatch.chdir(tmp_path)
    config = new_config(dict(images="photos", image_size="064×48"))
    assert config.images == str(tmp_path / "photos")
    assert config.image_size == "64x48" and config.image_shape == (64, 48, 3)
    for size in ("32", 32, np.int64(32)):
        assert new_config(dict(image_size=size)).image_shape == (32, 32, 1)


MISTAKES = (
    (dict(nonsense=1), "unknown option 'nonsense'"),
    (dict(preset=3), "--preset must be text, got 3"),
    (dict(preset="mnits"), "unknown preset 'mnits'"),
    (dict(dataset="cifar"), "--dataset must be one of auto, mnist, fashion-mnist, kmnist, cifar10"),
    (dict(backend="torch"), "--backend must be one of plain, numpy, cupy, got 'torch'"),
    (dict(z="cauchy"), "--z must be one of normal, uniform, got 'cauchy'"),
    (dict(shuffle="sometimes"), "--shuffle must be one of epoch, once, never, got 'sometimes'"),
    (dict(batch_size=1), "--batch-size must be a whole number of at least 2, got 1"),
    (dict(batch_size=10**21), "--batch-size must be a whole number of at least 2 and at most"),
    (dict(width=0), "--width must be a whole number of at least 1, got 0"),
    (dict(width=10**21), "--width must be a whole number of at least 1 and at most 65536"),
    (dict(epochs=0), "--epochs must be a whole number of at least 1, got 0"),
    (dict(steps=3, epochs=3), "give the end of the run as --epochs or as --steps, not both"),
    (dict(seed=-1), "--seed must be a whole number of at least 0, got -1"),
    (dict(limit=0), "--limit must be a whole number of at least 1, got 0"),
    (dict(sample_every=0), "--sample-every must be a whole number of at least 1"),
    (dict(sample_every="day"), "--sample-every must be a whole number of at least 1"),
    (dict(threads=0), "--threads must be a whole number of at least 1, got 0"),
    (dict(flip="yes"), "--flip must be true or false, got 'yes'"),
    (dict(lr_g=0), "--lr-g must be above 0 and at most 1, got 0"),
    (dict(lr_d=float("nan")), "--lr-d must be above 0 and at most 1, got nan"),
    (dict(beta1=1.0), "--beta1 must be at least 0 and below 1, got 1.0"),
    (dict(ema=1), "--ema must be at least 0 and below 1, got 1"),
    (dict(compile="yes"), "--compile must be true or false, got 'yes'"),
    (dict(precision="tf32"), "--precision tf32 is for --backend cupy: leave it out"),
    (dict(fit="stretch"), "--fit must be crop, squash, center:SIZE or box:"),
    (dict(channels=4), "--channels must be a whole number of at least 1 and at most 3, got 4"),
    (dict(image_size="64x"), "--image-size must be a number of pixels, or HEIGHTxWIDTH such as"),
    (dict(image_size="0"), "--image-size must be a whole number of at least 1"),
    (
        dict(preset="pytorch-64", image_size="32"),
        "preset pytorch-64 is published for images of 64x64x3 only: leave --image-size",
    ),
    (dict(preset="shibuya-mnist", channels=3), "published for images of 28x28x1 only"),
    (
        dict(preset="jayathilaka-faces:sgd", beta1=0.5),
        "--beta1 is for Adam: this run of jayathilaka-faces:sgd has SGD",
    ),
    (
        dict(preset="tensorflow-mnist", joint_update=True),
        "--joint-update: in tensorflow-mnist both players move at once anyway",
    ),
    (dict(dataset="folder"), "--dataset folder and --images DIR belong together"),
    (dict(dataset="mnist", images="a"), "belong together: leave --dataset mnist out"),
)  # fmt: skip


@pytest.mark.parametrize("options, message", MISTAKES)
def test_mistakes(options, message):
    with pytest.raises(mg.ConfigError) as caught:
        new_config(options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_resumed_run_may_change_its_end_its_rates_and_what_does_not_change_its_numbers():
    saved = new_config(dict(width=4, dataset="mnist", epochs=3))
    assert resumed_config(saved, {}) == saved
    later = resumed_config(saved, dict(steps=9, threads=2))
    assert (later.steps, later.epochs, later.threads) == (9, None, 2)
    for name, value in (
        ("sample_every", 5),
        ("evaluate_every", 7),
        ("lr_g", 0.1),
        ("lr_d", 0.1),
        ("lr_decay", 5),
        ("ema", 0.5),
    ):
        assert getattr(resumed_config(saved, {name: value}), name) == value
    assert resumed_config(saved, dict(width=4, dataset="auto")) == saved  # no change
    imported = new_config({})  # it has seen no images yet
    assert resumed_config(imported, dict(images="photos")).dataset == "folder"
    for name, value in (
        ("width", 8),
        ("seed", 1),
        ("batch_size", 9),
        ("dataset", "kmnist"),
        ("beta1", 0.25),
        ("flip", True),
        ("loss", "hinge"),
        ("limit", 9),
    ):
        with pytest.raises(mg.ConfigError, match=f"{flag(name)} {value} does not fit the run"):
            resumed_config(saved, {name: value})


def test_a_record_comes_back_and_may_lack_later_options():
    config = new_config(dict(preset="shibuya-svhn:T3", flip=True))
    record = asdict(config)
    assert config_from_record(record) == config
    for name in ("ema", "precision", "threads", "evaluate_every"):
        record.pop(name)
    assert config_from_record(record).ema == 0.0


@pytest.mark.parametrize("change", (lambda r: r.pop("width"), lambda r: r.update(more=1)))
def test_a_record_of_something_else_is_refused(change):
    record = asdict(new_config({}))
    change(record)
    with pytest.raises(mg.ConfigError, match="expected the options backend, background"):
        config_from_record(record)


def test_versions_are_recorded():
    found = versions(get_backend("plain"))
    assert found["minigan"] == mg.__version__ and set(found) >= {"python", "numpy", "platform"}


# -- whatever comes ------------------------------------------------------------------------------

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(
        ("mnist", "epoch", "64x64", "0x9", "crop", "box:1,2,3,4", "once", "cupy", "normal", 2**70)
    ),
)
OPTIONS = st.dictionaries(st.sampled_from(list(asdict(new_config({})))), ANYTHING, max_size=5)
PRESETS = st.sampled_from(
    [*MODULES, "shibuya-svhn:T1", "jayathilaka-faces:sgd", "mnist:", ":", "x"]
)


@pytest.mark.parametrize("count", (150, long_form("examples")))
def test_options_at_random_are_taken_or_refused_in_one_line(count, many):
    @hypothesis.settings(
        max_examples=many(count),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(OPTIONS, PRESETS)
    def check(options, preset):
        try:
            new_config({"preset": preset, **options})
        except mg.MiniganError as error:
            assert isinstance(error, mg.ConfigError) and "\n" not in str(error)
        try:
            config_from_record({**asdict(new_config({})), **options})
        except mg.MiniganError as error:
            assert isinstance(error, mg.ConfigError)

    check()
