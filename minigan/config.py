"""What a run is made of: every option with its range, and where its default comes from."""

import platform
import sys
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from minigan.backends import BACKENDS, Backend
from minigan.checks import expect_number, expect_size
from minigan.data import DATASETS, SMALLEST_BATCH
from minigan.errors import ConfigError
from minigan.presets import get_preset


@dataclass(frozen=True)
class Config:
    """Everything that a run's numbers depend on, and when it ends. Raises ConfigError out of range."""

    preset: str
    dataset: str
    backend: str
    width: int  # channels of the feature map next to the image
    z_dim: int
    z: str  # "normal" or "uniform"
    batch_size: int
    lr_g: float
    lr_d: float
    beta1: float
    seed: int
    sample_every: int  # steps between sample grids, each with a checkpoint
    epochs: int | None = None  # the end, one of the two. Totals: a resumed run goes on to the same end
    steps: int | None = None
    threads: int | None = None  # of the NumPy backend; all CPUs that the process may use

    def __post_init__(self):
        get_preset(self.preset)
        for name, choices in (("dataset", DATASETS), ("backend", BACKENDS), ("z", ("normal", "uniform"))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{flag(name)} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name, (least, most) in SIZES.items():
            if getattr(self, name) is not None or name not in ("epochs", "steps", "threads"):
                expect_size(flag(name), getattr(self, name), least, most)
        for name in ("lr_g", "lr_d"):
            expect_number(flag(name), getattr(self, name), "(0, 1]")
        expect_number(flag("beta1"), self.beta1, "[0, 1)")
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give the end of the run as --epochs or as --steps, one of the two")


SIZES = {  # option: from, to. The upper ends are far beyond sense, and below what NumPy cannot express
    "width": (1, 2**16), "z_dim": (1, 2**20), "batch_size": (SMALLEST_BATCH, 2**20), "seed": (0, 2**63),
    "sample_every": (1, 2**40), "epochs": (1, 2**40), "steps": (1, 2**40), "threads": (1, 1024),
}  # fmt: skip
MAY_CHANGE = ("epochs", "steps", "sample_every", "threads")  # on --resume; all else would be another run


def flag(name: str) -> str:
    """Field of Config -> what the user typed."""
    return "--" + name.replace("_", "-")


def new_config(options: dict[str, Any]) -> Config:
    """Options that the user gave -> Config; the rest comes from the preset. Raises ConfigError."""
    preset = get_preset(options.get("preset", "mnist"))
    defaults = dict(preset=preset.name, dataset="auto", backend="numpy", seed=0, sample_every=200)
    for name in ("width", "z_dim", "z", "batch_size", "lr_g", "lr_d", "beta1"):
        defaults[name] = getattr(preset, name)
    if "steps" not in options and "epochs" not in options:
        defaults["epochs"] = preset.epochs
    if unknown := set(options) - {field.name for field in fields(Config)}:
        raise ConfigError(f"unknown option {sorted(unknown)[0]!r}")
    return Config(**{**defaults, **options})


def resumed_config(saved: Config, options: dict[str, Any]) -> Config:
    """Config of a run, with what --resume may change. Raises ConfigError for what it may not."""
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
    return replace(saved, **{name: options[name] for name in ("sample_every", "threads") if name in options})


def config_from_record(record: Any) -> Config:
    """A Config as a dict, read from a file -> Config. Raises ConfigError, also for fields too many or too few."""
    names = {field.name for field in fields(Config)}
    if not isinstance(record, dict) or set(record) != names:
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
