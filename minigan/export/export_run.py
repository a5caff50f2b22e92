"""The networks of a run -> a file for other programs."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from minigan.errors import ConfigError, RunError
from minigan.export.import_run import MACHINE
from minigan.export.onnx import onnx_file
from minigan.export.safetensors import safetensors_file
from minigan.files import write_atomically
from minigan.frozen_statistics import samples_by_batch
from minigan.inspection.open_run import freeze_discriminator, load_net
from minigan.training import Game, Log, Run, open_game, open_images, versions

NETS = ("G", "D", "G-unaveraged")
Z = {"normal": "N(0, 1)", "uniform": "uniform on [-1, 1)"}


def export_run(
    run: Run, path: Path, net: str | None, best: bool, data_dir: str | None, log: Log
) -> str:
    """Write a network of a run as .onnx, or its networks as .safetensors -> a line for the user.

    net       "G", as samples are drawn from it; "G-unaveraged", as it is without --ema; "D".
              None: G, with D in a .safetensors file
    best      of the checkpoint that --evaluate-every kept
    data_dir  where images are, for D of a preset that samples by the batch, as .onnx
    Raises MiniganError.
    """
    if net not in (None, *NETS):
        raise ConfigError(f"--net must be {', '.join(NETS)}, got {net!r}")
    game, metadata = open_game(run, best)
    config, weights = run.load_config()[0], "not averaged"
    is_onnx = path.suffix.lower() == ".onnx"
    if net in (None, "G"):
        step, weights = checkpoint_of_samples(game, run, best)
    elif net == "G-unaveraged":
        step = load_net(game.G, "G", run, log, best)
    if net == "D" or (net is None and not is_onnx):
        of_d = load_net(game.D, "D", run, log, best)
        step = of_d if net == "D" else step
    if is_onnx:
        facts = describe(game, net or "G", weights) | {"step": str(step)}
        if net != "D":
            content = onnx_file(game.sampled_net(), "z", "image", facts)
        else:
            if samples_by_batch(game.D):
                freeze_discriminator(game, game.D, open_images(game, metadata, data_dir, log))
            content = onnx_file(game.D, "image", "logit", facts)
    else:
        names = "GD" if net is None else net[0]
        options = {name: value for name, value in asdict(config).items() if name not in MACHINE}
        record = {"step": step, "options": options}
        record |= {key: metadata[key] for key in ("data", "images", "classes") if key in metadata}
        states = {name: game.nets[name].ready().state() for name in names}
        content = safetensors_file(states, record)
    write_atomically(path, content)
    names = net or ("G" if is_onnx else "G and D")
    return f"{path}: {names} of step {step}, {len(content) / 2**20:.1f} MiB"


def checkpoint_of_samples(game: Game, run: Run, best: bool) -> tuple[int | str, str]:
    """-> the step of the checkpoint with the G that samples are drawn from; is it an average?

    "unknown" if there is none. A resumed run may have begun or ended averaging since.
    """
    store = game.G.ready()
    drawn = {name: array.copy() for name, array in store.state().items()}
    for section, kind in (("G average", "averaged"), ("G", "not averaged")):
        with suppress(RunError):
            step = load_net(game.G, section, run, lambda line: None, best)
            if all(np.array_equal(array, drawn[name]) for name, array in store.state().items()):
                return step, kind
    store.load_state(drawn, run.folder)
    return "unknown", "unknown"


def describe(game: Game, net: str, weights: str) -> dict[str, str]:
    """-> what a user of an .onnx file must know about it."""
    preset, (h, w, c) = game.preset, game.config.image_shape
    is_d, statistics = net == "D", "running"
    if samples_by_batch(game.D if is_d else game.G):
        statistics = f"of one batch of {'real images' if is_d else 'z'}: the preset has no others"
    facts = {
        "minigan": versions(game.backend)["minigan"],
        "preset": game.config.preset,
        "net": net,
        "image": f"NCHW: (n, {c}, {h}, {w}), {preset.pixel_min:g} is black and 1 is white",
        "statistics": statistics,
    }
    if preset.classes:
        facts["labels"] = f"(n, {preset.classes}), 1 for the class and 0 for all others"
    if is_d:
        return facts | {"logit": f"(n, 1), of loss {preset.objective.loss}: larger is more real"}
    return facts | {"z": f"(n, {game.config.z_dim}), {Z[game.config.z]}", "weights": weights}
