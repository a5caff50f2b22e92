"""Weights with the names of PyTorch's DCGAN programs, for presets pytorch-64 and jindal-mnist64.

    main.0.weight                          (100, 512, 4, 4)     ConvTranspose2d, channels-first
    main.1.weight, .bias, .running_mean, .running_var  (512,)   BatchNorm2d
    main.3.weight ...

The number is the module's place in nn.Sequential, which also counts activations; a program may nest
modules ("gen.0.1.weight"), and nn.DataParallel puts "module." before every name. So modules are
taken in the order of their numbers, and must be those of G or D, one by one.
"""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from minigan.arrays import Shape
from minigan.errors import ConfigError, RunError
from minigan.export.weights import Place, Stored, channels_first, shapes_of
from minigan.layers import Sequential

PRESETS = ("pytorch-64", "jindal-mnist64")
NUMBER = r"(?:0|[1-9]\d{0,8})"
NAME = re.compile(rf"(?:([\w.]+?)\.)?({NUMBER}(?:\.{NUMBER})*)\.(\w+)")  # network, module, array
ARRAYS = {"W": "weight", "b": "bias", "gain": "weight"}  # others have the same names
COUNTER = "num_batches_tracked"  # of BatchNorm2d; minigan's rate is constant

Pairs = list[tuple[dict[str, tuple[str, Shape]], dict[str, str]]]
Modules = list[dict[str, str]]  # in order: PyTorch's name of an array -> the name in full


def modules_of(names: list[str], path: Path) -> list[Modules]:
    """Names in a file -> the modules of each network. Raises RunError for another name."""
    nets: dict[str, dict[tuple[int, ...], dict[str, str]]] = {}
    for name in names:
        if not (match := NAME.fullmatch(name)):
            raise RunError(f"{path}: expected names such as main.0.weight, got {name[:80]!r}")
        module = tuple(map(int, match[2].split(".")))
        arrays = nets.setdefault(match[1] or "", {}).setdefault(module, {})
        if match[3] != COUNTER:
            arrays[match[3]] = name
    return [[modules[numbers] for numbers in sorted(modules)] for modules in nets.values()]


def expected_modules(net: Sequential) -> list[dict[str, tuple[str, Shape]]]:
    """-> for each layer with arrays: PyTorch's name -> minigan's ("1.W"), and the shape."""
    layers: dict[int, dict[str, tuple[str, Shape]]] = {}
    for key, shape in shapes_of(net).items():
        layer, name = key.split(".", 1)
        layers.setdefault(int(layer), {})[ARRAYS.get(name, name)] = (key, shape)
    return [layers[i] for i in sorted(layers)]


def pytorch_places(
    nets: dict[str, Sequential], stored: dict[str, Stored], path: Path, preset: str
) -> dict[str, dict[str, Place]]:
    """-> for each network in a file of PyTorch's names, where its arrays are.

    Raises RunError; ConfigError for another preset.
    """
    if preset.partition(":")[0] not in PRESETS:
        raise ConfigError(
            f"{path} has PyTorch's names, which are known for {' and '.join(PRESETS)} only, "
            f"not for {preset}"
        )
    places: dict[str, dict[str, Place]] = {}
    nothing: Any = {}
    for modules in modules_of(list(stored), path):
        found = []
        for name, net in nets.items():
            pairs: Pairs = list(zip_longest(expected_modules(net), modules, fillvalue=nothing))
            alike = [set(wanted) == set(there) for wanted, there in pairs]
            found.append(((*alike, False).index(False), name, pairs))
        n, name, pairs = max(found)  # the network that is alike for longer
        if n < len(pairs):
            lists = (pairs[n][0], pairs[n][1].values())
            wanted, there = (", ".join(arrays)[:200] or "nothing more" for arrays in lists)
            after = f"after {n} modules that are those of {name}"
            raise RunError(f"{path}: {after}: expected {wanted}, got {there}")
        if name in places:
            raise RunError(f"{path} has {name} twice")
        places[name] = {
            key: channels_first(there[array], shape)
            for wanted, there in pairs
            for array, (key, shape) in wanted.items()
        }
    return places
