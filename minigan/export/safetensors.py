"""Weights as .safetensors: named arrays behind a header of JSON, with nothing to execute.

minigan's own files have the names and the layout of its checkpoints:

    G.0.W  G.1.gain  G.1.running_mean ...  D.0.W ...      "D.3.W" is W of layer 3 of D
    Linear.W (in, out)   Conv2d.W (k, k, c_in, c_out)   ConvTranspose2d.W (k, k, c_out, c_in)

and in the header's metadata, as JSON under "minigan", the step and the options of the run. Files of
other programs are read too: see pytorch.py.
Source: github.com/huggingface/safetensors
"""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from minigan.data.files.npz import Sections
from minigan.errors import ConfigError, RunError
from minigan.export.weights import Place, Stored, shapes_of
from minigan.files import open_regular
from minigan.layers import Sequential

OWN = re.compile(r"[GD](\.\d+)+\.(?!weight$)\w+")  # PyTorch has "weight" instead of W and gain
MOST = 10_000  # arrays
DTYPES = {"F32": "float32"}  # others are refused


def package() -> Any:
    """-> the package safetensors. Raises ConfigError without it."""
    try:
        import safetensors.numpy
    except ImportError as error:
        hint = "pip install safetensors"
        raise ConfigError(f".safetensors files need safetensors ({error}): {hint}") from error
    return safetensors


def safetensors_file(nets: Sections, record: dict[str, Any]) -> bytes:
    """-> a file of the arrays of G, D or both, by name, and the record."""
    arrays = {f"{net}.{name}": array for net in nets for name, array in nets[net].items()}
    return bytes(package().numpy.save(arrays, {"minigan": json.dumps(record)}))


def open_safetensors(path: Path) -> tuple[dict[str, Stored], dict[str, Any]]:
    """-> the arrays in a file, not yet read; minigan's record, or {}. Raises RunError."""
    opened = package().safe_open
    try:
        open_regular(path).close()
        file = opened(path, "numpy")
        stored = {}
        if len(names := file.keys()) > MOST:
            raise ValueError(f"{len(names):,} arrays: no network here has that many")
        for name in names:
            array = file.get_slice(name)
            shape, kind = tuple(array.get_shape()), array.get_dtype()
            stored[name] = Stored(shape, DTYPES.get(kind, kind), partial(file.get_tensor, name))
        record = json.loads((file.metadata() or {}).get("minigan", "{}"))
        if not isinstance(record, dict) or not isinstance(record.get("options", {}), dict):
            raise ValueError("its metadata is no record of minigan")
        return stored, record
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # the package has its own kind, json others
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path} is damaged, or no .safetensors file ({reason})") from error


def own_places(
    nets: dict[str, Sequential], stored: dict[str, Stored], path: Path
) -> dict[str, dict[str, Place]]:
    """-> for each network in one of minigan's own files, where its arrays are. Raises RunError."""
    places = {
        name: {key: Place(f"{name}.{key}", shape) for key, shape in shapes_of(net).items()}
        for name, net in nets.items()
        if any(key.startswith(name) for key in stored)
    }
    known = {place.name for each in places.values() for place in each.values()}
    if unknown := sorted(stored.keys() - known):
        raise RunError(f"{path}: {unknown[0][:80]!r} is no array of these networks")
    return places
