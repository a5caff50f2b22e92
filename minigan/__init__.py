"""minigan: deep learning that you can read.

Layers with hand-written backward passes, on NumPy or CuPy, and the DCGANs built from them.
Start reading at layers/linear.py; README.md has the full reading order.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# first: from here on, Ctrl-C shows no traceback
from minigan import stop_signals as stop_signals  # isort: split

from minigan.backends import get_backend
from minigan.errors import (
    ArrayTypeError,
    BackendError,
    ConfigError,
    DataError,
    DataUnavailable,
    GradientError,
    MiniganError,
    RunError,
    ShapeError,
    StateError,
    TrainingError,
)
from minigan.gradcheck import check_gradients
from minigan.layers import (
    AppendLabels,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    SpectralNorm,
    Tanh,
    Upsample,
)
from minigan.losses import bce_with_logits, softmax_cross_entropy
from minigan.objective import Objective, hinge, least_squares
from minigan.optimizers import SGD, Adam, RMSprop

__version__ = "0.2.0"

__all__ = [
    "Adam", "AppendLabels", "ArrayTypeError", "BackendError", "BatchNorm", "ConfigError", "Conv2d",
    "ConvTranspose2d", "DataError", "DataUnavailable", "Dropout", "Flatten", "GradientError",
    "Layer", "LeakyReLU", "Linear", "MiniganError", "Objective", "RMSprop", "ReLU", "Reshape",
    "RunError", "SGD", "Sequential", "ShapeError", "Sigmoid", "SpectralNorm", "StateError", "Tanh",
    "TrainingError", "Upsample", "bce_with_logits", "check_gradients", "get_backend", "hinge",
    "least_squares", "load", "softmax_cross_entropy", "train",
]  # fmt: skip

_SUBMODULES = {"data", "gan", "initializers", "presets", "training"}

if TYPE_CHECKING:
    from minigan.api import load as load
    from minigan.api import train as train


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})


def __getattr__(name: str) -> Any:
    # loaded on first use, which keeps `import minigan` fast
    if name in _SUBMODULES:
        return import_module(f"minigan.{name}")
    if name in ("train", "load"):
        return getattr(import_module("minigan.api"), name)
    raise AttributeError(f"module 'minigan' has no attribute {name!r}")
