"""The commands that look inside a run. Each draws one page, or one animation."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from minigan.checks import expect_choice, expect_size
from minigan.cli.output import output_file
from minigan.errors import ConfigError
from minigan.inspection import interpolation, open_run, sample_groups
from minigan.inspection.arithmetic import draw_arithmetic, draw_candidates
from minigan.inspection.features import IMAGES, draw_features, last_map
from minigan.inspection.maps import draw_filters, draw_layer, draw_stages
from minigan.inspection.open_run import find_layer
from minigan.inspection.page_layout import save_page
from minigan.report.animation import encode
from minigan.training import Game, Log, Run, open_game, open_images, parse_label

FRAME = 0.05  # seconds per frame of an animation


def begin(arguments: Namespace, name: str, *endings: str) -> tuple[Run, Game, dict[str, Any], Path]:
    """-> the run, its game and metadata, and the file to write: by default `name` in its folder."""
    run = Run(arguments.run)
    game, metadata = open_game(run)
    return run, game, metadata, output_file(arguments.out, run.folder / name, ".png", *endings)


def interpolate(arguments: Namespace, log: Log) -> None:
    """A ring of random z, and the images between them."""
    path = arguments.path
    seed = expect_size("--seed", arguments.seed, least=0, most=2**63)
    if path is not None:
        expect_choice("--path", path, interpolation.PATHS)
    _, game, _, file = begin(arguments, "interpolation.png", ".gif", ".webp")
    label = parse_label(game, arguments.label)
    path = path or interpolation.PATH_OF[game.config.z]
    line = f"{file}: {path} interpolation between random z"
    if file.suffix.lower() == ".png":
        save_page(file, interpolation.draw_interpolation(game, path, label, seed))
    else:
        frames = interpolation.animate_interpolation(game, path, label, seed)
        size, seconds = encode(file, frames, [FRAME] * len(frames))
        line += f", {len(frames)} frames, {seconds:.1f} s, {size / 2**20:.1f} MiB"
    log(line)


def arithmetic(arguments: Namespace, log: Log) -> None:
    """Groups of samples, found by the width of their strokes or picked by hand, and their sum."""
    pick, classes = arguments.pick, arguments.classes
    name = "candidates.png" if pick == [] else "arithmetic.png"
    seed = expect_size("--seed", arguments.seed, least=0, most=2**63)
    if classes is not None and pick is not None:
        raise ConfigError("--classes and --pick both choose the groups: give one of them")
    groups = sample_groups.parse_groups(pick) if pick else None
    run, game, metadata, file = begin(arguments, name)
    if pick == []:
        save_page(file, draw_candidates(game, seed))
        k = game.preset.classes  # which go in turn
        picked = f"0,{k},{2 * k} 1,{k + 1} 1" if k else sample_groups.EXAMPLE
        example = f"minigan arithmetic {run.quoted} --seed {seed} --pick {picked}"
        log(f"{file}: choose three groups, as in: {example}")
        return
    if groups is None:
        data = open_images(game, metadata, arguments.data_dir, log)
        log(f"drawing {sample_groups.DRAWN:,} samples to choose from")
        groups = sample_groups.choose(game, data, classes or ["7", "3"], seed)
    page, line = draw_arithmetic(game, groups, seed)
    save_page(file, page)
    log(f"{file}: {line}")


def filters(arguments: Namespace, log: Log) -> None:
    """The weights of D's first layer."""
    run, game, _, file = begin(arguments, "filters.png")
    open_run.load_net(game.D, "D", run, log)
    save_page(file, draw_filters(game))
    log(f"{file}: D's first layer")


def activations(arguments: Namespace, log: Log) -> None:
    """The maps of one layer, or of all layers of a network, for one image."""
    run, game, metadata, file = begin(arguments, "activations.png")
    layer, image, index = arguments.layer, arguments.image, None
    nets = {"G": game.sampled_net(), "D": game.D}
    if layer in nets:
        net = nets[layer]
    else:
        net, index = find_layer(nets, layer)
    if net is not game.D:
        expect_size("--image", image, 0, 9999)
        number = game.classes_in_turn(image + 1)[-1:]
        z = open_run.draw_z(game, image + 1, 0)[-1:]
        shown, name = open_run.generate(game, z, number)[0], f"sample {image}"
        if game.preset.classes:
            name += f", of class {game.class_title(number[0])}"
        x, labels = game.backend.asarray(z), game.labels(number)
    else:
        open_run.load_net(game.D, "D", run, log)
        data = open_images(game, metadata, arguments.data_dir, log)
        expect_size("--image", image, 0, len(data.images) - 1)
        open_run.freeze_discriminator(game, net, data)
        x, labels = open_run.real_images(game, data, np.array([image]))
        shown, name = data.images[image], f"training image {image:,}"
        if data.labels is not None:
            name += f", of class {data.classes[int(data.labels[image])]}"
    if index is None:
        page, label = draw_stages(net, x, labels, shown, name), net.name
    else:
        page, label = draw_layer(net, index, x, labels, shown, name), net.layers[index].label
    save_page(file, page)
    log(f"{file}: {label}, {name}")


def features(arguments: Namespace, log: Log) -> None:
    """What excites the units of a layer of D."""
    run, game, metadata, file = begin(arguments, "features.png")
    index = last_map(game.D)
    if arguments.layer is not None:
        _, index = find_layer({"D": game.D}, arguments.layer)
    open_run.load_net(game.D, "D", run, log)
    data = open_images(game, metadata, arguments.data_dir, log)
    count = min(IMAGES, len(data.images))
    log(f"searching {count:,} images twice, with D before and after training")
    save_page(file, draw_features(game, data, index))
    log(f"{file}: units of {game.D.layers[index].label}, and what excites them")
