"""What a run is made of: every option with its range, and where its default comes from."""

import platform
import sys
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from minigan.backends import BACKENDS, Backend
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

    def __post_init__(self):
        get_preset(self.preset)
        for name, choices in (("dataset", DATASETS), ("backend", BACKENDS), ("z", ("normal", "uniform"))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{flag(name)} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        least = dict(width=1, z_dim=1, batch_size=SMALLEST_BATCH, seed=0, sample_every=1, epochs=1, steps=1)
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is None and name in ("epochs", "steps"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise ConfigError(f"{flag(name)} must be a whole number of at least {smallest}, got {value!r}")
        for name in ("lr_g", "lr_d"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ConfigError(f"{flag(name)} must be above 0 and at most 1, got {value!r}")
        if not isinstance(self.beta1, (int, float)) or not 0 <= self.beta1 < 1:
            raise ConfigError(f"--beta1 must be at least 0 and below 1, got {self.beta1!r}")
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give the end of the run as --epochs or as --steps, one of the two")


MAY_CHANGE = ("epochs", "steps", "sample_every")  # on --resume; all else would be another run


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
    return Config(**{**defaults, **options})


def resumed_config(saved: Config, options: dict[str, Any]) -> Config:
    """Config of a run, with what --resume may change. Raises ConfigError for what it may not."""
    for name, value in options.items():
        if name not in MAY_CHANGE and value != getattr(saved, name):
            raise ConfigError(
                f"{flag(name)} {value} does not fit the run, which has {getattr(saved, name)}: "
                "leave it out to go on, or start another run with --out"
            )
    if "steps" in options or "epochs" in options:  # a new end replaces the old one
        saved = replace(saved, steps=options.get("steps"), epochs=options.get("epochs"))
    return replace(saved, sample_every=options.get("sample_every", saved.sample_every))


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
