"""The options of a run: each with its range, and where its default comes from."""

import platform
import re
import sys
from dataclasses import MISSING, dataclass, fields, replace
from numbers import Integral
from typing import Any

import numpy as np

from minigan.arrays import Backend
from minigan.backends import BACKENDS, PRECISIONS
from minigan.checks import did_you_mean, expect_choice, expect_number, expect_size
from minigan.data import DATASETS, MOST_PIXELS, SMALLEST_BATCH, parse_background, parse_fit
from minigan.data.batches import SHUFFLES
from minigan.data.files.locations import full_path
from minigan.data.sets.array_file import is_array_file, shape_of
from minigan.errors import ConfigError
from minigan.files import expect_path
from minigan.objective import GAN_LOSSES
from minigan.presets import Preset, get_preset

EPOCH = "epoch"  # instead of a number of steps
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}  # -> class of optimizers.py
RATES = {"adam": 2e-4, "rmsprop": 2e-4, "sgd": 0.01}  # if it is not the preset's optimizer
CHOICES: dict[str, tuple[str, ...]] = {
    "dataset": DATASETS,
    "backend": BACKENDS,
    "precision": PRECISIONS,
    "z": ("normal", "uniform"),
    "loss": GAN_LOSSES,
    "optimizer": tuple(OPTIMIZERS),
    "upsample": ("transposed", "nearest"),
    "shuffle": SHUFFLES,
}
SIZES = {  # from, to: the upper ends are far above any sensible value, and within NumPy's limits
    "width": (1, 2**16), "z_dim": (1, 2**20), "batch_size": (SMALLEST_BATCH, 2**20),
    "seed": (0, 2**63), "limit": (1, 2**40), "sample_every": (1, 2**40), "epochs": (1, 2**40),
    "steps": (1, 2**40), "threads": (1, 1024), "evaluate_every": (0, 2**40), "d_steps": (1, 1024),
    "max_pixels": (1, 2**40), "classes": (0, 2**10), "lr_decay": (0, 2**40), "channels": (1, 3),
}  # fmt: skip
NUMBERS = {
    "lr_g": "(0, 1]", "lr_d": "(0, 1]", "beta1": "[0, 1)", "ema": "[0, 1)",
    "real_target": "[0, 1]", "fake_target": "[0, 1]", "weight_decay": "[0, 1]", "r1": "[0, 1e6]",
}  # fmt: skip
TEXTS = ("preset", "dataset", "images", "image_size", "fit", "background")
# what --resume may change: anything else would be another run. Not beta1, because Adam corrects its
# moments as if all steps had the same
END = ("epochs", "steps")
MAY_CHANGE = (
    *END, "sample_every", "threads", "compile", "images", "evaluate_every", "lr_g", "lr_d",
    "lr_decay", "ema",
)  # fmt: skip
PRESET_FOR = {  # a data set -> the preset, if none is named
    "folder": "image64", "celeba": "image64", "cifar10": "color32", "svhn": "color32",
}  # fmt: skip
SMALL = 40  # pixels on the shorter side: such pictures get the presets for 28x28 and 32x32
FROM_PRESET = (
    "width", "z_dim", "z", "batch_size", "lr_g", "lr_d", "lr_decay", "beta1", "ema", "fit",
    "limit", "shuffle", "drop_last", "upsample",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Everything that the numbers of a run depend on, and when it ends. Raises ConfigError."""

    preset: str
    dataset: str
    images: str | None  # folder, .zip or file of arrays, for the data set "folder" only
    image_size: str  # "28x28", height first
    channels: int  # 1 gray, 3 color
    fit: str  # how a picture gets that size; see data/prepare/resize.py
    limit: int | None  # only this many images of the set
    shuffle: str  # reshuffle the images every "epoch", shuffle them "once", or "never"
    drop_last: bool  # leave out the smaller last batch of an epoch
    width: int  # channels of the feature map next to the image
    z_dim: int
    z: str  # "normal" or "uniform"
    batch_size: int
    lr_g: float
    lr_d: float
    beta1: float | None  # Adam's; None with another optimizer
    lr_decay: int = 0  # steps; the rates are divided by √(1 + step/lr_decay); 0: they are not
    flip: bool = False  # mirror images at random
    backend: str = "numpy"
    joint_update: bool = False  # G's update also moves D: see presets/shibuya.py
    seed: int = 0
    sample_every: int | str = 200  # steps between sample grids, each with a checkpoint; or EPOCH
    epochs: int | None = None  # the end, one of the two. Totals: a resumed run has the same end
    steps: int | None = None
    threads: int | None = None  # CPUs for the numpy backend; None: all that the process may use
    evaluate_every: int = 0  # steps between evaluations; 0: none
    ema: float = 0.0  # decay of the average of G's weights that samples are drawn from; 0: none
    precision: str = "fp32"  # of products on a GPU
    background: str = "white"  # behind the transparent pixels of a folder; or "black", "R,G,B"
    max_pixels: int = MOST_PIXELS  # larger pictures of a folder are skipped
    # changes of the preset's game, see switches.py; None: as the preset has it
    loss: str | None = None
    real_target: float | None = None  # D's target for real images, and for fakes
    fake_target: float | None = None
    optimizer: str | None = None
    weight_decay: float | None = None  # an L2 penalty in the gradient of every parameter
    d_steps: int = 1  # updates of D in a round
    upsample: str = "transposed"  # or "nearest": how G grows; a record without it is older
    spectral_norm: bool = False  # in D, instead of BatchNorm
    r1: float = 0.0  # weight of D's penalty for its slope; above 0: D without BatchNorm
    classes: int = 0  # that minigan's own nets learn, from labeled pictures; 0: none
    compile: bool | None = None  # kernels by numba; None: if it is there when the run begins

    def __post_init__(self) -> None:
        preset = get_preset(self.preset)
        if not isinstance(self.images, (str, type(None))):
            raise ConfigError(f"--images must be a path, got {self.images!r}")
        expect_path(self.images or "")
        for field in fields(self):
            name, value, kind = field.name, getattr(self, field.name), field.type
            if (value is None and "None" in str(kind)) or (name, value) == ("sample_every", EPOCH):
                continue
            if name in CHOICES:
                expect_choice(flag(name), value, CHOICES[name])
            elif name in SIZES:  # NumPy's numbers become Python's
                object.__setattr__(self, name, expect_size(flag(name), value, *SIZES[name]))
            elif name in NUMBERS:
                object.__setattr__(self, name, expect_number(flag(name), value, NUMBERS[name]))
            elif kind in (bool, bool | None) and not isinstance(value, bool):
                raise ConfigError(f"{flag(name)} must be true or false, got {value!r}")
        optimizer = OPTIMIZERS[self.optimizer] if self.optimizer else preset.optimizer
        if (self.beta1 is None) != (optimizer != "Adam"):
            raise ConfigError(f"--beta1 is for Adam: this run of {self.preset} has {optimizer}")
        if self.precision != "fp32" and self.backend != "cupy":
            raise ConfigError(f"--precision {self.precision} is for --backend cupy: leave it out")
        parse_fit(self.fit)
        parse_background(self.background)
        if (self.dataset == "folder") != (self.images is not None):
            cure = "give --images, the folder or .zip of your pictures"
            if self.images is not None:
                cure = f"leave --dataset {self.dataset} out"
            raise ConfigError(f"--dataset folder and --images DIR belong together: {cure}")
        if self.channels not in (1, 3):
            raise ConfigError(f"--channels must be 1 (gray) or 3 (color), got {self.channels!r}")
        if self.image_shape != preset.image_shape and not preset.any_size:
            h, w, c = preset.image_shape
            raise ConfigError(
                f"preset {self.preset} is published for images of {h}x{w}x{c} only: leave "
                "--image-size and --channels out, or use mnist, color32 or image64"
            )
        if self.joint_update and preset.simultaneous:
            raise ConfigError(f"--joint-update: in {self.preset} both players move at once anyway")
        own = {"classes": self.classes, "r1": self.r1, "upsample": self.upsample != "transposed"}
        if any(own.values()) and not preset.any_size:
            raise ConfigError(
                f"--{next(filter(own.get, own))} is for mnist, color32 and image64: "
                f"the nets of {self.preset} stay as published"
            )
        if self.classes == 1:
            raise ConfigError("--classes 1 leaves nothing to choose: give 2 or more, or none")
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give the end of the run as --epochs or as --steps, not both or none")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """-> (h, w, c)"""
        return (*parse_size(self.image_size), self.channels)


def flag(name: str) -> str:
    """Field of Config -> what the user types."""
    return "--" + name.replace("_", "-")


def parse_size(text: Any) -> tuple[int, int]:
    """ "64" or "64x48" -> (height, width). Raises ConfigError."""
    found = re.fullmatch(r"(\d{1,9})(?:[xX×](\d{1,9}))?", str(text))
    if not found:
        raise ConfigError(
            f"--image-size must be a number of pixels, or HEIGHTxWIDTH such as 64x48, got {text!r}"
        )
    sides = (found[1], found[2] or found[1])
    height, width = (expect_size("--image-size", int(side), 1, 2**15) for side in sides)
    return height, width


def new_config(options: dict[str, Any]) -> Config:
    """Options that the user gave -> Config; the rest comes from the preset. Raises ConfigError."""
    if isinstance(size := options.get("image_size"), Integral):  # as on the command line
        options = options | {"image_size": str(size)}
    for name in TEXTS:
        if not isinstance(options.get(name, ""), (str, type(None))):
            raise ConfigError(f"{flag(name)} must be text, got {options[name]!r}")
    data = "folder" if options.get("images") is not None else options.get("dataset", "auto")
    arrays, named = is_array_file(options.get("images") or ""), PRESET_FOR.get(data, "mnist")
    h, w, c = shape_of(options["images"]) if arrays else get_preset(named).image_shape
    own = {"image_size": f"{h}x{w}", "channels": c, **options}  # unless another one is given
    if named == "image64" and min(parse_size(own["image_size"])) <= SMALL:
        named = "mnist" if own["channels"] == 1 else "color32"
    preset = get_preset(options.get("preset", named))
    if arrays and preset.any_size:
        options = own
    return Config(**{**preset_defaults(preset, data, options), **options, **normal_form(options)})


def preset_defaults(preset: Preset, data: str, options: dict[str, Any]) -> dict[str, Any]:
    """-> values for the fields that the user did not give."""
    h, w, c = preset.image_shape
    defaults = {name: getattr(preset, name) for name in FROM_PRESET}
    defaults |= dict(preset=preset.name, images=None, image_size=f"{h}x{w}", channels=c)
    defaults |= dict(dataset="folder" if data == "folder" else "auto", r1=preset.objective.r1)
    if data not in ("auto", preset.data) or options.get("images") is not None:
        # the published limit and order are for another set: folders are sorted by class
        defaults |= dict(limit=None, fit="crop", shuffle="epoch")
    if "steps" not in options and "epochs" not in options:
        defaults["epochs"] = preset.epochs
    chosen = options.get("optimizer")
    if chosen in list(OPTIMIZERS) and OPTIMIZERS[chosen] != preset.optimizer:
        beta1 = 0.5 if chosen == "adam" else None
        defaults |= dict(lr_g=RATES[chosen], lr_d=RATES[chosen], lr_decay=0, beta1=beta1)
    return defaults


def normal_form(options: dict[str, Any]) -> dict[str, Any]:
    """-> the options that are stored in another form than typed. Raises ConfigError for others."""
    known = [field.name for field in fields(Config)]
    if unknown := set(options) - set(known):
        raise ConfigError(f"unknown option {min(unknown)!r}{did_you_mean(min(unknown), known)}")
    changed = {}
    if "image_size" in options:
        changed["image_size"] = "x".join(map(str, parse_size(options["image_size"])))
    if options.get("images") is not None:  # a resumed run may be started from another folder
        changed["images"] = str(full_path(options["images"]))
    return changed


def resumed_config(saved: Config, options: dict[str, Any]) -> Config:
    """Config of a run, with what --resume may change. Raises ConfigError for any other change."""
    options = {**options, **normal_form(options)}
    for name, value in options.items():
        # when the run began; or not yet, if it was imported and has seen no images
        chosen = name == "dataset" and "auto" in (value, saved.dataset)
        if name not in MAY_CHANGE and not chosen and value != getattr(saved, name):
            raise ConfigError(
                f"{flag(name)} {value} does not fit the run, which has {getattr(saved, name)}: "
                "leave it out to resume, or start another run with --out"
            )
    changed = {name: options[name] for name in MAY_CHANGE if name in options}
    if saved.dataset == "auto":
        default = "auto" if options.get("images") is None else "folder"
        changed["dataset"] = options.get("dataset", default)
    if any(name in options for name in END):  # a new end replaces the old one
        changed |= {name: options.get(name) for name in END}
    return replace(saved, **changed)


def changes(saved: Config, config: Config) -> dict[str, list[Any]]:
    """-> what --resume changes: option -> before, from now on."""
    pairs = {name: [getattr(each, name) for each in (saved, config)] for name in MAY_CHANGE}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def options_like(saved: Config, options: dict[str, Any]) -> dict[str, Any]:
    """-> the options of another run, except those that the user gave, and what depends on these."""
    dependent = {
        **dict.fromkeys(END, END),
        **dict.fromkeys(("dataset", "images"), ("dataset", "images")),
        "optimizer": ("lr_g", "lr_d", "lr_decay", "beta1"),
        "preset": (*FROM_PRESET, "r1", "image_size", "channels"),
    }
    replaced = {each for name in options for each in dependent.get(name, ())} | {"compile"}
    return {name: value for name, value in vars(saved).items() if name not in replaced} | options


def config_from_record(record: Any) -> Config:
    """A Config as a dict, read from a file -> Config. Raises ConfigError.

    Fields with a default may be missing: a run of an earlier version lacks later options. It has
    no compiled kernels.
    """
    names = {field.name for field in fields(Config)}
    needed = {field.name for field in fields(Config) if field.default is MISSING}
    if not isinstance(record, dict) or not needed <= set(record) <= names:
        raise ConfigError(f"expected the options {', '.join(sorted(names))}")
    return Config(**{"compile": False, **record})


def versions(backend: Backend) -> dict[str, str]:
    """-> what the numbers may depend on besides the options, for the record."""
    found = {
        "minigan": sys.modules["minigan"].__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    if backend.compiled:
        found["numba"] = sys.modules["numba"].__version__
    if backend.xp is not np:
        found[backend.name] = backend.xp.__version__
    return found
