"""The command line: `minigan train`, `sample` and `presets`, what measures a run, `judge` and `evaluate`, and what shows it:
`animate`, `plot`, `compare`, `report`.

What looks inside of a run (`interpolate` and so on) stands in latent/commands.py.

A user's mistake ends in one line on stderr and exit code 2; Ctrl-C in 130.
"""

import argparse
import io
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from minigan.checks import expect_size
from minigan.cli.inspect import COMMANDS, add_parsers, look
from minigan.data import DATASETS
from minigan.errors import ConfigError, MiniganError
from minigan.training.config import EPOCH

if TYPE_CHECKING:
    from minigan.report.history import History
    from minigan.training.config import Config


class Parser(argparse.ArgumentParser):
    """argparse, with a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError, where argparse would print its usage and leave the program."""
        raise ConfigError(f"{message} (see {self.prog} --help)")


def build_parser() -> Parser:
    """-> the parser of all commands."""
    parser = Parser(
        prog="minigan", description="DCGANs with hand-written backward passes, on NumPy or CuPy."
    )
    names = "|".join(
        (
            "train",
            "sample",
            "presets",
            "train-classifier",
            "evaluate",
            "animate",
            "plot",
            "compare",
            "report",
            *COMMANDS,
        )
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)

    train = commands.add_parser("train", help="train a GAN; leaves a folder under runs/")
    # no defaults here: what the user gave is told from what the preset, or a resumed run, brings
    given: dict[str, Any] = dict(default=argparse.SUPPRESS)
    classifier = commands.add_parser(
        "train-classifier",
        aliases=["judge"],
        help="train the classifier of a data set, which `evaluate` computes its metrics with",
    )
    for command in (train, classifier):
        command.add_argument(
            "--preset",
            **given,
            help="the system: nets and hyper-parameters; see `minigan presets` (default mnist; image64 or color32 for colour data)",
        )
        command.add_argument("--backend", **given, help="numpy or cupy (default numpy)")
        command.add_argument(
            "--precision",
            **given,
            help="of products on a GPU: fp32, or tf32, by tensor cores (default fp32)",
        )
        command.add_argument(
            "--dataset", **given, help=f"{', '.join(DATASETS)}; auto is the preset's own (default)"
        )
        command.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
        command.add_argument(
            "--images",
            metavar="DIR",
            **given,
            help="train on the pictures in this folder, or .zip of one",
        )
        command.add_argument(
            "--image-size",
            "--size",
            metavar="HxW",
            **given,
            help="size of the images, as 64 or 48x64 (presets mnist, color32, image64)",
        )
        command.add_argument(
            "--channels", type=int, **given, help="1 for grey, 3 for colour (the same presets)"
        )
        command.add_argument(
            "--fit",
            **given,
            help="how pictures come to that size: crop, squash, centre:N or box:LEFT,TOP,RIGHT,BOTTOM",
        )
        command.add_argument(
            "--limit", type=int, metavar="N", **given, help="only the first N images"
        )
        command.add_argument("--seed", type=int, **given, help="of all random numbers (default 0)")
        command.add_argument(
            "--threads",
            type=int,
            **given,
            help="CPUs to work on (default all; another number rounds differently)",
        )
    train.add_argument("--flip", action="store_true", **given, help="mirror images at random")
    train.add_argument("--shuffle", **given, help="new order every epoch, once, or never")
    train.add_argument(
        "--drop-last",
        action=argparse.BooleanOptionalAction,
        **given,
        help="leave out the smaller last batch of an epoch",
    )
    end = train.add_mutually_exclusive_group()
    end.add_argument(
        "--epochs", type=int, **given, help="end of the run; a total, also with --resume"
    )
    end.add_argument("--steps", type=int, **given, help="the same in steps of one batch each")
    train.add_argument("--batch-size", type=int, **given, help="images in a step")
    train.add_argument(
        "--width", type=int, **given, help="channels of the feature maps next to the image"
    )
    train.add_argument("--z-dim", type=int, **given, help="length of the noise vector")
    train.add_argument("--z", **given, help="its distribution: normal or uniform")
    train.add_argument("--lr-g", type=float, **given, help="learning rate of the generator")
    train.add_argument("--lr-d", type=float, **given, help="learning rate of the discriminator")
    train.add_argument("--beta1", type=float, **given, help="Adam's first decay")
    train.add_argument(
        "--ema",
        type=float,
        **given,
        help="draw pictures from an average of G's weights with this decay; 0: from G",
    )
    train.add_argument(
        "--joint-update",
        action="store_true",
        **given,
        help="G's update also moves D: a mistake to look at (presets/shibuya.py)",
    )
    train.add_argument(
        "--sample-every",
        metavar="N",
        type=steps_or_epoch,
        **given,
        help="steps between sample grids and checkpoints, or: epoch (default 200)",
    )
    train.add_argument(
        "--evaluate-every",
        type=int,
        metavar="N",
        **given,
        help="steps between evaluations, which keep the best checkpoint too, in at most 5%% of the time (default 0, none)",
    )
    train.add_argument(
        "--out", metavar="DIR", help="folder to make for this run (default runs/<time>-<preset>)"
    )
    train.add_argument("--resume", metavar="DIR", help="go on in this run's folder, bit for bit")
    train.add_argument(
        "--dry-run", action="store_true", help="one step, the layer tables, nothing written"
    )

    sample = commands.add_parser("sample", help="draw pictures from a run")
    sample.add_argument("run", metavar="RUN", help="folder of a run, finished or not")
    sample.add_argument("--n", type=int, default=64, help="how many (default 64)")
    sample.add_argument(
        "--out", required=True, metavar="FILE", help=".png: a grid; .npy: uint8 (n, h, w, c)"
    )
    sample.add_argument("--seed", type=int, default=0, help="of z (default 0)")
    sample.add_argument(
        "--label",
        type=int,
        help="class of the pictures, of a conditional run (default: each in turn)",
    )
    sample.add_argument(
        "--best", action="store_true", help="of the best checkpoint that --evaluate-every has found"
    )

    evaluate = commands.add_parser(
        "evaluate", help="measure how good a run's pictures are, beside real ones"
    )
    evaluate.add_argument("run", metavar="RUN", help="folder of a run, finished or not")
    evaluate.add_argument(
        "--n",
        type=int,
        help="how many pictures (default 10000, or as many as there are real ones to compare with)",
    )
    evaluate.add_argument(
        "--best",
        action="store_true",
        help="the best checkpoint that train --evaluate-every has found",
    )
    evaluate.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
    evaluate.add_argument(
        "--out", metavar="FILE", help="where to write (default RUN/evaluation.json)"
    )

    presets = commands.add_parser(
        "presets", help="list the systems that can be trained, or show one with its layers"
    )
    presets.add_argument("name", nargs="?", metavar="NAME", help="one of them")

    for name, file, what in (
        (
            "animate",
            "progress.gif",
            "the sample grids of a run, one after the other, as .gif or .webp",
        ),
        ("plot", "losses.png", "the curves of a run; needs matplotlib"),
        ("compare", "compare.png", "curves and last samples of 2 to 8 runs; needs matplotlib"),
        ("report", "report.html", "a page that shows a run: samples, curves, nets, options"),
    ):
        command = commands.add_parser(name, help=what)
        several = name == "compare"
        command.add_argument(
            "run",
            metavar="RUN",
            nargs="+" if several else None,
            help="folder of a run, finished or not",
        )
        command.add_argument(
            "--out",
            metavar="FILE",
            help=f"where to write (default {'' if several else 'RUN/'}{file})",
        )
        if name == "animate":
            command.add_argument(
                "--seconds",
                type=float,
                default=8.0,
                help="from the first grid to the last (default 8)",
            )
    add_parsers(commands)
    return parser


def steps_or_epoch(text: str) -> int | str:
    """Argument of --sample-every -> number of steps, or the word itself."""
    return EPOCH if text == EPOCH else int(text)


def train(arguments: Namespace) -> None:
    """The command `train`: what the user gave, handed to training.py."""
    from minigan.report.page import finish
    from minigan.training.loop import train

    options = vars(arguments)
    del options["command"]
    names = ("data_dir", "out", "resume", "dry_run")
    run = train(options, **{name: options.pop(name) for name in names}, log=log)
    if run is not None:
        finish(run, log, net_tables(run.load_config()[0]))


def net_tables(config: "Config") -> tuple[str, str]:
    """-> the layer tables of G and D."""
    from dataclasses import replace

    from minigan.training.game import Game

    game = Game(replace(config, backend="plain", threads=None, precision="fp32"))
    return game.G.summary(), game.D.summary()


def log(line: str) -> None:
    """print, until nobody listens any more (`minigan train | head`): a run goes on without."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sample(arguments: Namespace) -> None:
    """The command `sample`: pictures of a run's generator, as a grid or as an array."""
    import numpy as np

    from minigan.data.files.png import grid, save_png
    from minigan.files import write_atomically
    from minigan.training.open_game import open_game
    from minigan.training.run_folder import Run

    out = Path(os.path.expanduser(arguments.out))
    if out.suffix not in (".png", ".npy"):
        raise ConfigError(
            f"--out must end in .png (a grid) or .npy (an array), got {arguments.out!r}"
        )
    expect_size("--n", arguments.n, most=10**9)
    expect_size("--seed", arguments.seed, least=0, most=2**63)
    run = Run(arguments.run)
    game, _ = open_game(run, arguments.best)
    pictures = game.sample(arguments.n, game.stream("sample", seed=arguments.seed), arguments.label)
    if out.suffix == ".png":
        save_png(out, grid(pictures))
    else:
        memory = io.BytesIO()
        np.save(memory, pictures)
        write_atomically(out, memory.getvalue())
    log(f"{arguments.n} pictures {pictures.shape[1:]} in {out}")


def classifier(arguments: Namespace) -> None:
    """The command `train-classifier`: data are chosen as `train` chooses them."""
    from minigan.backends import get_backend
    from minigan.evaluation import get_classifier, split
    from minigan.presets import get_preset
    from minigan.training.config import new_config
    from minigan.training.open_game import load_images

    options = vars(arguments)
    data_dir = options.pop("data_dir")
    del options["command"]
    config = new_config(options)
    data = load_images(config, get_preset(config.preset), data_dir, log)
    real = split(data, data_dir, config.fit)
    backend = get_backend(config.backend, threads=config.threads, precision=config.precision)
    get_classifier(real, backend, config.seed, log)


def evaluate(arguments: Namespace) -> None:
    """The command `evaluate`: the table of metrics, evaluation.json, nearest.png."""
    import json

    import numpy as np

    from minigan.data.files.png import save_png
    from minigan.evaluation import evaluate, expect_n, get_classifier, split, why_no_classifier
    from minigan.files import write_atomically
    from minigan.training.open_game import open_game, open_images
    from minigan.training.run_folder import Run

    run, which = Run(arguments.run), "-best" if arguments.best else ""
    out = Path(os.path.expanduser(arguments.out or run.folder / f"evaluation{which}.json"))
    if out.suffix != ".json":
        raise ConfigError(f"--out must end in .json, got {arguments.out!r}")
    game, metadata = open_game(run, arguments.best)
    config, data = game.config, open_images(game, metadata, arguments.data_dir, log)
    real = split(data, arguments.data_dir, config.fit)
    n = expect_n(arguments.n, real)
    if reason := why_no_classifier(real):
        log(f"{reason}; only the metrics of pixel space remain")
        classifier = None
    else:
        classifier = get_classifier(real, game.backend, log=log)
    pictures = game.sample(n, game.stream("sample", seed=0))  # those of `minigan sample`
    labels = np.arange(n) % game.preset.classes if game.preset.classes else None
    log(
        f"comparing {n:,} samples of {run.folder}; "
        f"the nearest of {len(real.train):,} training images take longest"
    )
    evaluation = evaluate(pictures, real, classifier, labels, config.flip)
    for line in evaluation.table():
        log(line)
    write_atomically(out, (json.dumps(evaluation.record(), indent=2) + "\n").encode())
    save_png(out.with_name(f"nearest{which}.png"), evaluation.picture)
    log(
        f"written: {out}; {out.with_name(f'nearest{which}.png')}, "
        "samples above their nearest training images"
    )


def presets(arguments: Namespace) -> None:
    """The command `presets`: the table of all, or one in detail."""
    from minigan.cli.presets_table import catalogue, details

    for line in catalogue() if arguments.name is None else details(arguments.name):
        log(line)


def animate(arguments: Namespace) -> None:
    """The command `animate`."""
    from minigan.report.animation import save_animation

    history = open_run(arguments.run)
    log(
        save_animation(
            place(arguments, history, "progress.gif", (".gif", ".webp")), history, arguments.seconds
        )
    )


def plot(arguments: Namespace) -> None:
    """The command `plot`."""
    from minigan.files import write_atomically
    from minigan.report.plots import draw_losses

    history = open_run(arguments.run)
    out = place(arguments, history, "losses.png", (".png",))
    write_atomically(out, draw_losses(history))
    log(f"curves of {len(history.metrics['step'])} steps in {out}")


def compare(arguments: Namespace) -> None:
    """The command `compare`."""
    from minigan.files import write_atomically
    from minigan.report.comparison import draw_comparison

    out = place(arguments, None, "compare.png", (".png",))
    write_atomically(out, draw_comparison([open_run(run) for run in arguments.run]))
    log(f"{len(arguments.run)} runs in {out}")


def report(arguments: Namespace) -> None:
    """The command `report`: it makes the nets once more, for their tables."""
    from minigan.report.page import save_report

    history = open_run(arguments.run)
    out = place(arguments, history, "report.html", (".html",))
    config, _ = history.record
    log(save_report(out, history, net_tables(config)))


def look_inside(arguments: Namespace) -> None:
    """The commands of latent/commands.py."""
    look(arguments, log)


def open_run(folder: str) -> "History":
    """-> History of a run's folder, which says what it leaves out."""
    from minigan.report.history import History
    from minigan.training.run_folder import Run

    return History(Run(folder), log)


def place(
    arguments: Namespace, history: "History | None", name: str, endings: tuple[str, ...]
) -> Path:
    """-> where to write: --out, or this name in the run's folder. Raises ConfigError for another ending."""
    out = Path(
        os.path.expanduser(arguments.out or (history.run.folder / name if history else name))
    )
    if out.suffix.lower() not in endings:
        raise ConfigError(f"--out must end in {' or '.join(endings)}, got {arguments.out!r}")
    return out


def main(argv: list[str] | None = None) -> int:
    """-> exit code: 0; 2 for a mistake that the user can mend; 130 after Ctrl-C, 143 after SIGTERM."""
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a terminal that cannot show a folder's name does not stop a run
        sys.stdout.reconfigure(errors="backslashreplace")
    commands = {
        "train": train,
        "sample": sample,
        "presets": presets,
        "train-classifier": classifier,
        "judge": classifier,
        "evaluate": evaluate,
        "animate": animate,
        "plot": plot,
        "compare": compare,
        "report": report,
        **dict.fromkeys(COMMANDS, look_inside),
    }

    def work() -> None:
        arguments = build_parser().parse_args(argv)
        commands[arguments.command](arguments)

    return answer("minigan", work)


def answer(program: str, work: Callable[[], object]) -> int:
    """Do the work of a program -> its exit code, as main's; what went wrong is told in one line on stderr."""

    def complain(what: object) -> None:
        print(" ".join(f"{program}: error: {what}".split()), file=sys.stderr)

    try:
        work()
    except MiniganError as error:
        complain(error)
        return 2
    except MemoryError as error:
        complain(f"not enough memory ({error}): take a smaller --batch-size, --width or --n")
        return 2
    except OSError as error:
        complain(error)
        return 1
    except KeyboardInterrupt as stop:
        if not hasattr(stop, "exit_code"):
            complain("stopped")
        return getattr(stop, "exit_code", 130)
    return 0
