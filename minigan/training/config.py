"""What a run is made of: every option with its range, and where its default comes from."""

import os
import platform
import re
import sys
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np

from minigan.backends import BACKENDS, PRECISIONS, Backend
from minigan.checks import expect_number, expect_size
from minigan.data import DATASETS, SMALLEST_BATCH, parse_fit
from minigan.errors import ConfigError
from minigan.presets import Preset, get_preset

EPOCH = "epoch"  # in the place of a number of steps


@dataclass(frozen=True)
class Config:
    """Everything that a run's numbers depend on, and when it ends. Raises ConfigError out of range."""

    preset: str
    dataset: str
    images: str | None  # folder or .zip of pictures, of the data set "folder" and of no other
    image_size: str  # "28x28", height first
    channels: int  # 1 grey, 3 colour
    fit: str  # how a picture comes to that size; see data/fit.py
    limit: int | None  # only so many images of the set
    flip: bool  # mirror each image, or not, at random
    shuffle: str  # the order of the images: new every "epoch", drawn "once", or "never"
    drop_last: bool  # leave out the smaller last batch of an epoch
    backend: str
    width: int  # channels of the feature map next to the image
    z_dim: int
    z: str  # "normal" or "uniform"
    batch_size: int
    lr_g: float
    lr_d: float
    beta1: float | None  # Adam's; None with another optimizer
    joint_update: bool  # G's update also moves D: Shibuya's mistake
    seed: int
    sample_every: int | str  # steps between sample grids, each with a checkpoint; or "epoch"
    epochs: int | None = (
        None  # the end, one of the two. Totals: a resumed run goes on to the same end
    )
    steps: int | None = None
    threads: int | None = None  # CPUs that the NumPy backend works on; all that the process may use
    evaluate_every: int = 0  # steps between evaluations; 0: none. See evaluation/watch.py
    ema: float = 0.0  # pictures are drawn from the average of G's weights with this decay; 0: from G as it is. See averaging.py
    precision: str = "fp32"  # of products on a GPU

    def __post_init__(self) -> None:
        preset = get_preset(self.preset)
        if not isinstance(self.images, (str, type(None))):
            raise ConfigError(f"--images must be a path, got {self.images!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{flag(name)} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        for name, (least, most) in SIZES.items():
            optional = (
                name in ("epochs", "steps", "threads", "limit") and getattr(self, name) is None
            )
            if not optional and not (name == "sample_every" and self.sample_every == EPOCH):
                expect_size(flag(name), getattr(self, name), least, most)
        for name in ("flip", "drop_last", "joint_update"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"{flag(name)} must be true or false, got {getattr(self, name)!r}"
                )
        for name in ("lr_g", "lr_d"):
            expect_number(flag(name), getattr(self, name), "(0, 1]")
        if (self.beta1 is None) != (preset.optimizer != "Adam"):
            raise ConfigError(
                f"--beta1 is Adam's: preset {self.preset} trains with {preset.optimizer}"
            )
        if self.beta1 is not None:
            expect_number(flag("beta1"), self.beta1, "[0, 1)")
        expect_number("--ema", self.ema, "[0, 1)")
        if self.precision != "fp32" and self.backend == "numpy":
            raise ConfigError(
                f"--precision {self.precision} is for tensor cores: leave it out, or take --backend cupy"
            )
        parse_fit(self.fit)
        if (self.dataset == "folder") != (self.images is not None):
            raise ConfigError(
                "--dataset folder and --images DIR belong together: give --images, the folder or .zip of your pictures"
            )
        if self.channels not in (1, 3):
            raise ConfigError(f"--channels must be 1 (grey) or 3 (colour), got {self.channels!r}")
        if self.image_shape != preset.image_shape and not preset.any_size:
            h, w, c = preset.image_shape
            raise ConfigError(
                f"preset {self.preset} is published for images of {h}x{w}x{c} alone: leave --image-size and --channels out, "
                "or take one of minigan's own: mnist, color32, image64"
            )
        if self.joint_update and preset.rules.first == "both":
            raise ConfigError(
                f"--joint-update has no meaning where both players move at once, as in preset {self.preset}"
            )
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give the end of the run as --epochs or as --steps, one of the two")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """-> (h, w, c)"""
        return (*parse_size(self.image_size), self.channels)


CHOICES = {
    "dataset": DATASETS,
    "backend": BACKENDS,
    "precision": PRECISIONS,
    "z": ("normal", "uniform"),
    "shuffle": ("epoch", "once", "never"),
}
SIZES = {  # option: from, to. The upper ends are far beyond sense, and below what NumPy cannot express
    "width": (1, 2**16),
    "z_dim": (1, 2**20),
    "batch_size": (SMALLEST_BATCH, 2**20),
    "seed": (0, 2**63),
    "limit": (1, 2**40),
    "sample_every": (1, 2**40),
    "epochs": (1, 2**40),
    "steps": (1, 2**40),
    "threads": (1, 1024),
    "evaluate_every": (0, 2**40),
}
TEXTS = ("preset", "dataset", "images", "image_size", "fit")
MAY_CHANGE = (
    "epochs",
    "steps",
    "sample_every",
    "threads",
    "images",
    "evaluate_every",
)  # on --resume; all else would be another run
PRESET_FOR = {
    "folder": "image64",
    "celeba": "image64",
    "cifar10": "color32",
    "svhn": "color32",
}  # where none is named
FROM_PRESET = (
    "width",
    "z_dim",
    "z",
    "batch_size",
    "lr_g",
    "lr_d",
    "beta1",
    "ema",
    "fit",
    "limit",
    "shuffle",
    "drop_last",
)


def flag(name: str) -> str:
    """Field of Config -> what the user typed."""
    return "--" + name.replace("_", "-")


def parse_size(text: Any) -> tuple[int, int]:
    """ "64" or "64x48" -> (height, width). Raises ConfigError."""
    found = re.fullmatch(r"(\d{1,9})(?:[xX×](\d{1,9}))?", str(text))
    if not found:
        raise ConfigError(
            f"--image-size must be a number of pixels, or HEIGHTxWIDTH such as 64x48, got {text!r}"
        )
    height, width = (
        expect_size("--image-size", int(side), 1, 2**15)
        for side in (found[1], found[2] or found[1])
    )
    return height, width


def new_config(options: dict[str, Any]) -> Config:
    """Options that the user gave -> Config; the rest comes from the preset. Raises ConfigError."""
    if unknown := set(options) - {field.name for field in fields(Config)}:
        raise ConfigError(f"unknown option {min(unknown)!r}")
    for name in TEXTS:
        if not isinstance(options.get(name, ""), str) and options[name] is not None:
            raise ConfigError(f"{flag(name)} must be text, got {options[name]!r}")
    data = "folder" if options.get("images") is not None else options.get("dataset", "auto")
    preset = get_preset(options.get("preset", PRESET_FOR.get(data, "mnist")))
    return Config(**{**preset_defaults(preset, options), **options, **normal_form(options)})


def preset_defaults(preset: Preset, options: dict[str, Any]) -> dict[str, Any]:
    """-> values of the fields that the user need not give."""
    h, w, c = preset.image_shape
    defaults = dict(
        preset=preset.name,
        dataset="folder" if options.get("images") is not None else "auto",
        images=None,
        image_size=f"{h}x{w}",
        channels=c,
        flip=False,
        backend="numpy",
        joint_update=False,
        seed=0,
        sample_every=200,
    )
    defaults |= {name: getattr(preset, name) for name in FROM_PRESET}
    own_data = (
        options.get("dataset", "auto") in ("auto", preset.data) and defaults["dataset"] == "auto"
    )
    if not own_data:  # the published choice of images, and their order, was of another set: a folder comes class by class
        defaults |= dict(limit=None, fit="crop", shuffle="epoch")
    if "steps" not in options and "epochs" not in options:
        defaults["epochs"] = preset.epochs
    return defaults


def normal_form(options: dict[str, Any]) -> dict[str, Any]:
    """-> the options that are kept in another form than they are typed in."""
    changed = {}
    if "image_size" in options:
        changed["image_size"] = "x".join(map(str, parse_size(options["image_size"])))
    if options.get("images") is not None:  # a resumed run may be started from elsewhere
        changed["images"] = os.path.abspath(os.path.expanduser(options["images"]))
    return changed


def resumed_config(saved: Config, options: dict[str, Any]) -> Config:
    """Config of a run, with what --resume may change. Raises ConfigError for what it may not."""
    options = {**options, **normal_form(options)}
    for name, value in options.items():
        if name == "dataset" and value == "auto":  # it chose when the run began
            continue
        if name not in MAY_CHANGE and value != getattr(saved, name):
            raise ConfigError(
                f"{flag(name)} {value} does not fit the run, which has {getattr(saved, name)}: "
                "leave it out to go on, or start another run with --out"
            )
    if "steps" in options or "epochs" in options:  # a new end replaces the old one
        saved = replace(saved, steps=options.get("steps"), epochs=options.get("epochs"))
    return replace(saved, **{name: options[name] for name in MAY_CHANGE[2:] if name in options})


def config_from_record(record: Any) -> Config:
    """A Config as a dict, read from a file -> Config. Raises ConfigError, also for fields too many or too few.

    What has a default may lack: a run from before there was the option had none of it.
    """
    names = {field.name for field in fields(Config)}
    needed = {field.name for field in fields(Config) if field.default is MISSING}
    if not isinstance(record, dict) or not needed <= set(record) <= names:
        raise ConfigError(f"expected the options {', '.join(sorted(names))}")
    return Config(**record)


def versions(backend: Backend) -> dict[str, str]:
    """-> what the numbers may depend on besides the options, for the record."""
    found = {
        "minigan": sys.modules["minigan"].__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    if backend.name != "numpy":
        found[backend.name] = backend.xp.__version__
    return found
