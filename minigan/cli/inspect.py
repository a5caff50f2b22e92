"""The commands that look inside of a run: each draws one page, or one animation, from what the run has saved.

A page is drawn whole before it is written, into the run's own folder where no other place is named.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigan.checks import expect_size
from minigan.errors import ConfigError

Say = Callable[[str], object]
Arguments = argparse.Namespace
PNG, MOVING = (".png",), (".gif", ".webp")
FRAME = 0.05  # seconds that a frame of an animation stays
EXAMPLE = "3,14,15 92,65,35 89,79,32"


def add_parsers(commands: Any) -> None:
    """Each command's options, into argparse's sub-parsers."""

    def add(name: str, what: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
        command.add_argument("run", metavar="RUN", help="folder of a run, finished or not")
        command.add_argument(
            "--out", metavar="FILE", help=f"where to write (default RUN/{COMMANDS[name][1]})"
        )
        if name in ("interpolate", "arithmetic"):
            command.add_argument(
                "--seed", type=int, default=0, help="of z, as of `minigan sample` (default 0)"
            )
        if name in ("arithmetic", "activations", "features"):
            command.add_argument(
                "--data-dir",
                metavar="DIR",
                help="where the run's training images are, if not where they were",
            )
        return command

    walk = add(
        "interpolate", "from one random z to another: a page, or as .gif or .webp an animation"
    )
    walk.add_argument(
        "--path", help="linear or spherical (default: the one that fits the distribution of z)"
    )
    walk.add_argument(
        "--label",
        type=int,
        help="class of the pictures, of a conditional run (default: each in turn)",
    )

    total = add("arithmetic", "sums of z: thick 7 - thin 7 + thin 3")
    choice = total.add_mutually_exclusive_group()
    choice.add_argument(
        "--classes",
        nargs=2,
        metavar=("A", "B"),
        default=("7", "3"),
        help="thick A - thin A + thin B (default 7 3)",
    )
    choice.add_argument(
        "--pick",
        nargs="*",
        metavar="A",
        help=f"A - B + C of samples chosen by hand: {EXAMPLE}; alone: all samples, with their numbers",
    )

    add("filters", "the filters of D's first layer, before and after training")

    maps = add(
        "activations", "what D makes of an image, or G of a z: maps of all its layers, or of one"
    )
    maps.add_argument("--layer", default="D", help="D or G, or a layer of them, as D.3 (default D)")
    maps.add_argument(
        "--image",
        type=int,
        default=0,
        metavar="N",
        help="number of the training image, or of G's sample (default 0)",
    )

    features = add(
        "features", "what units of D look for: the images that excite them, and by which pixels"
    )
    features.add_argument("--layer", help="layer of D, as D.3 (default: the last convolution's)")


def look(arguments: Arguments, log: Say) -> None:
    """Run the command that was given. Raises MiniganError."""
    command, file = COMMANDS[arguments.command]
    if getattr(arguments, "pick", None) == []:
        file = "candidates.png"
    endings = PNG + MOVING if command is interpolate else PNG
    out = Path(os.path.expanduser(arguments.out or os.path.join(arguments.run, file)))
    if out.suffix.lower() not in endings:
        raise ConfigError(f"--out must end in {' or '.join(endings)}, got {arguments.out!r}")
    if hasattr(arguments, "seed"):
        expect_size("--seed", arguments.seed, least=0, most=2**63)
    with np.errstate(all="ignore"):  # a net that went astray is told in words
        command(arguments, out, log)


def interpolate(arguments: Arguments, out: Path, log: Say) -> None:
    """A ring of random z, and the pictures between them."""
    from minigan.inspection.interpolation import PATH_OF, PATHS, animate_walk, draw_walk
    from minigan.inspection.open_run import open_still
    from minigan.inspection.page_layout import save_page
    from minigan.report.animation import encode

    if arguments.path not in (None, *PATHS):
        raise ConfigError(f"--path must be {' or '.join(PATHS)}, got {arguments.path!r}")
    game, _ = open_still(arguments.run)
    game.expect_label(arguments.label)
    path = arguments.path or PATH_OF[game.config.z]
    if out.suffix.lower() not in MOVING:
        save_page(out, draw_walk(game, path, arguments.label, arguments.seed))
        log(f"{out}: {path} interpolation between random z")
        return
    frames = animate_walk(game, path, arguments.label, arguments.seed)
    size, seconds = encode(out, frames, [FRAME] * len(frames))
    log(
        f"{out}: {path} interpolation between random z, {len(frames)} frames, {seconds:.1f} s, {size / 2**20:.1f} MiB"
    )


def arithmetic(arguments: Arguments, out: Path, log: Say) -> None:
    """Groups of samples, chosen by the width of their strokes or by hand, and their sum."""
    from minigan.inspection.arithmetic import draw_arithmetic, draw_candidates
    from minigan.inspection.open_run import open_still
    from minigan.inspection.page_layout import save_page
    from minigan.inspection.sample_groups import DRAWN, choose, picked
    from minigan.training.open_game import open_images

    groups = picked(arguments.pick) if arguments.pick else None
    game, metadata = open_still(arguments.run)
    if arguments.pick == []:
        save_page(out, draw_candidates(game, arguments.seed))
        log(
            f"{out}: choose three groups, as: minigan arithmetic {arguments.run} --seed {arguments.seed} --pick {EXAMPLE}"
        )
        return
    if groups is None:
        data = open_images(game, metadata, arguments.data_dir, log)
        log(f"drawing {DRAWN:,} samples to choose from")
        groups = choose(game, data, arguments.classes, arguments.seed)
    page, line = draw_arithmetic(game, groups, arguments.seed)
    save_page(out, page)
    log(f"{out}: {line}")


def filters(arguments: Arguments, out: Path, log: Say) -> None:
    """The weights of D's first layer."""
    from minigan.inspection.maps import draw_filters
    from minigan.inspection.open_run import open_discriminator, open_still
    from minigan.inspection.page_layout import save_page

    game, _ = open_still(arguments.run)
    open_discriminator(game, arguments.run, log)
    save_page(out, draw_filters(game))
    log(f"{out}: D's first layer")


def activations(arguments: Arguments, out: Path, log: Say) -> None:
    """The maps of one layer, or of all, for one image."""
    from minigan.inspection.maps import draw_layer, draw_stages
    from minigan.inspection.open_run import (
        draw_z,
        hold_discriminator,
        open_discriminator,
        open_still,
        paint,
        real,
    )
    from minigan.inspection.page_layout import save_page
    from minigan.inspection.partial_passes import find_layer
    from minigan.training.open_game import open_images

    game, metadata = open_still(arguments.run)
    net, index = (
        (game.nets[arguments.layer], None)
        if arguments.layer in game.nets
        else find_layer(game.nets, arguments.layer)
    )
    if net is game.G:
        number, classes = (
            expect_size("--image", arguments.image, 0, 9999),
            max(game.preset.classes, 1),
        )
        label = number % classes
        z = draw_z(game, number + 1, 0)[-1:]
        shown, what = (
            paint(game, z, label)[0],
            f"sample {number}" + f", as class {label}" * (classes > 1),
        )
        x, labels = game.backend.asarray(z), game.labels(np.array([label]))
    else:
        open_discriminator(game, arguments.run, log)
        data = open_images(game, metadata, arguments.data_dir, log)
        number = expect_size("--image", arguments.image, 0, len(data.images) - 1)
        hold_discriminator(game, net, data)
        x, labels = real(game, data, np.array([number]))
        shown, what = data.images[number], f"training image {number:,}"
        if data.labels is not None:
            what += f", of class {data.classes[int(data.labels[number])]}"
    page = (
        draw_stages(net, x, labels, shown, what)
        if index is None
        else draw_layer(net, index, x, labels, shown, what)
    )
    save_page(out, page)
    log(f"{out}: {net.name if index is None else net.layers[index].label}, {what}")


def features(arguments: Arguments, out: Path, log: Say) -> None:
    """What excites the units of a layer of D."""
    from minigan.inspection.features import IMAGES, draw_features, last_map
    from minigan.inspection.open_run import open_discriminator, open_still
    from minigan.inspection.page_layout import save_page
    from minigan.inspection.partial_passes import find_layer
    from minigan.training.open_game import open_images

    game, metadata = open_still(arguments.run)
    index = (
        last_map(game.D)
        if arguments.layer is None
        else find_layer({"D": game.D}, arguments.layer)[1]
    )
    open_discriminator(game, arguments.run, log)
    data = open_images(game, metadata, arguments.data_dir, log)
    log(
        f"looking through {min(IMAGES, len(data.images)):,} images twice, by D before and after training"
    )
    save_page(out, draw_features(game, data, index))
    log(f"{out}: units of {game.D.layers[index].label}, and what excites them")


COMMANDS: dict[
    str, tuple[Callable[[Arguments, Path, Say], None], str]
] = {  # name -> what it does, the file that it leaves
    "interpolate": (interpolate, "interpolation.png"),
    "arithmetic": (arithmetic, "arithmetic.png"),
    "filters": (filters, "filters.png"),
    "activations": (activations, "activations.png"),
    "features": (features, "features.png"),
}
