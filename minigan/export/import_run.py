"""Weights from a file -> a run at step 0.

It is sampled, inspected and evaluated like any other, and trained by --resume: from these weights,
with fresh optimizers. It has not seen its images; their fingerprint is stored when it is first
trained.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from types import SimpleNamespace
from typing import Any

from minigan.errors import ConfigError, RunError
from minigan.export.pytorch import pytorch_places
from minigan.export.safetensors import OWN, open_safetensors, own_places
from minigan.export.theano import open_folder, theano_places
from minigan.export.weights import Arrays, Stored, read_net
from minigan.files import expect_path
from minigan.layers import Sequential
from minigan.training import Game, Log, Run
from minigan.training.checkpoint import Snapshot
from minigan.training.config import Config, config_from_record, new_config, options_like, versions
from minigan.training.loop import new_folder
from minigan.training.outline import outline

PICKLED = (".pth", ".pt", ".ckpt", ".bin")  # PyTorch's files, which can run any program
CONVERT = (
    "import torch, safetensors.torch as s; s.save_file(torch.load({}, "
    'map_location="cpu", weights_only=True), {})'
)
# options of the machine that exported
MACHINE = ("images", "backend", "precision", "threads", "compile")


Nets = dict[str, dict[str, Stored]]  # "G", "D", or "" if only the names of the arrays say which


def open_source(path: Path) -> tuple[Nets, dict[str, Any]]:
    """-> the arrays in a file or folder, not yet read; minigan's record, or {}.

    Raises RunError, ConfigError.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        stored, record = open_safetensors(path)
        return {"": stored}, record
    if suffix == ".npy" or path.is_dir():
        return open_folder(path), {}
    if suffix in PICKLED:
        names = (json.dumps(str(each)) for each in (path, path.with_suffix(".safetensors")))
        line = f"python -c {quote(CONVERT.format(*names))}"
        raise ConfigError(f"{path} is a pickle, which can run programs; convert it first: {line}")
    raise ConfigError(f"expected a .safetensors file or a folder of published .npy, got {path}")


def read_source(
    path: Path, found: Nets, nets: dict[str, Sequential], preset: str
) -> dict[str, Arrays]:
    """-> the arrays of the networks in a source, in minigan's layout. Raises RunError, ConfigError.

    nets  "G" and "D" from outline()
    """
    stored = {name: array for each in found.values() for name, array in each.items()}
    if "" not in found:
        if not preset.startswith("radford-"):
            raise ConfigError(f"{path} has the DCGAN paper's weights: {preset} is another network")
        places = {name: theano_places(nets[name], found[name], path) for name in found}
    elif all(map(OWN.fullmatch, stored)):
        places = own_places(nets, stored, path)
    else:
        places = pytorch_places(nets, stored, path, preset)
    return {name: read_net(nets[name], places[name], stored, path) for name in places}


def recorded_config(record: dict[str, Any]) -> Config | None:
    """-> the options of the run that exported a file, None without any. Raises ConfigError.

    Without what belongs to another machine: its images are not known here.
    """
    if "options" not in record:
        return None
    options = {name: value for name, value in record["options"].items() if name not in MACHINE}
    if any(isinstance(value, (dict, list)) for value in options.values()):
        raise ConfigError("the options in the file's record must be texts and numbers")
    if options.get("dataset") == "folder":
        options["dataset"] = "auto"
    return config_from_record({**options, "images": None})


def import_run(
    paths: Sequence[str], options: dict[str, Any], out: str | Path | None = None, log: Log = print
) -> Run:
    """Make a run of the weights in files: those of G, and of D if there are some.

    paths    .safetensors files, or a folder of published .npy files
    options  Config's fields, only those that the user gave; a file of minigan brings its own
    out      folder to create
    Raises MiniganError.
    """
    files = [expect_path(os.path.expanduser(path)) for path in paths]
    sources = [open_source(file) for file in files]
    record = next((record for _, record in sources if record), {})
    metadata: dict[str, Any] = {}
    if recorded := recorded_config(record):
        if options.get("preset", recorded.preset) != recorded.preset:
            raise ConfigError(f"{files[0]} is of preset {recorded.preset}: leave --preset out")
        options = {name: value for name, value in options.items() if name != "preset"}
        if isinstance(record.get("data"), str) and {"images", "dataset"}.isdisjoint(options):
            metadata |= {key: record[key] for key in ("data", "images", "classes") if key in record}
        options = options_like(recorded, options)
    if "preset" not in options:
        raise ConfigError(f"{paths[0]} does not say which network it is for: give --preset")
    config = new_config(options)
    run = Run(new_folder(config) if out is None else out)
    if out is not None:
        run.expect_free()
    nets, weights = dict(zip("GD", outline(config), strict=True)), {}
    for file, (found, _) in zip(files, sources, strict=True):
        for name, arrays in read_source(file, found, nets, config.preset).items():
            if name in weights:
                raise RunError(f"{file} has weights of {name}, which another file has, too")
            weights[name] = arrays
    names = ", ".join(file.name for file in files)
    if "G" not in weights:
        raise RunError(f"{names} has no generator, and a run needs one: add its file")
    game = Game(config)
    for net in game.nets.values():  # "G average" too
        net.ready().load_state({**net.ready().state(), **weights.get(net.name[0], {})}, names)
    grid = game.sample_grid()  # first: it fails if the weights give NaN
    metadata["versions"] = versions(game.backend)
    has_own = record.get("options", {}).get("dataset") == "folder" and config.images is None
    metadata["imported"] = {"files": names, "step": record.get("step"), "nets": sorted(weights)}
    metadata |= {"own_pictures": True} if has_own else {}
    run = run.create(config, metadata, another_name=out is None)
    run.save_samples(grid, 0, game.preset.grid)
    with run.metrics() as append:
        append([{"step": 0, "epoch": 0}])  # a report has its grid, and no numbers
    start: Any = SimpleNamespace(epoch=0, position=0)
    run.checkpoints.save(Snapshot(game, start, 0))
    if "D" not in weights:
        log(f"NOTE: {names} has no D: it starts untrained")
    more = f"--resume {run.quoted}{' --images DIR, of the same pictures' * has_own}"
    log(f"{config.preset} with the weights of {names}: train it with {more}")
    return run
