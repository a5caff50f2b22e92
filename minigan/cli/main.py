"""The command line: the parser of all commands, and how errors are reported.

Each command is a function in a module that is imported when the command runs, so help is instant.
A mistake of the user ends in one line on stderr and exit code 2, a failure (a full disk, a training
that diverged) in 1, Ctrl-C in 130. Printed text may come from a stranger's files, so control
characters are shown as in \\x1b.
"""

import argparse
import errno
import io
import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from keyword import iskeyword
from typing import Any, NoReturn

import numpy as np

import minigan
from minigan.checks import did_you_mean
from minigan.data import DATASETS
from minigan.data.files.messages import escaped
from minigan.errors import ConfigError, MiniganError, TrainingError
from minigan.files import expect_path
from minigan.parallel.mpi import fail, launched, world
from minigan.stop_signals import raise_stopped, stop_signals_call

Row = tuple[str, dict[str, Any], str]  # an option: its names, arguments of add_argument, its help


def steps_or_epoch(text: str) -> int | str:
    """Argument of --sample-every -> number of steps, or "epoch"."""
    return text if text == "epoch" else int(text)


def whole(default: int | None = None) -> dict[str, Any]:
    """-> an option that takes a whole number."""
    return {"metavar": "N", "type": int} | ({} if default is None else {"default": default})


def out(default: str) -> Row:
    """-> the option --out of a command that writes a file."""
    return "--out", FILE, f"file to write, or the folder for it (default {default})"


LONGEST = 2000  # characters of an error
SHARED = ("train", "sample", "evaluate")  # commands that all ranks run together
# errors of a device, not mistakes of a user
FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
TYPES = {"int": "a whole number", "float": "a number", "steps_or_epoch": "a whole number or epoch"}
NAME, DIR, FILE = ({"metavar": metavar} for metavar in ("NAME", "DIR", "FILE"))
N, NUMBER = whole(), {"metavar": "X", "type": float}
SWITCH = {"action": "store_true"}
EITHER = {"action": argparse.BooleanOptionalAction}
RUN: Row = ("run", {"metavar": "RUN"}, "folder of a run, finished or not")
DATA_DIR: Row = ("--data-dir", DIR, "folder with the data set's files")
SEED: Row = ("--seed", whole(0), "seed of z (default 0)")
BEST: Row = ("--best", SWITCH, "use the best checkpoint of train --evaluate-every")
CLASS = "name or number of a class, for conditional runs (default: each in turn)"
LABEL: Row = ("--label", NAME, CLASS)
IMAGES: list[Row] = [  # which images, and on what machine
    ("--preset", NAME, "networks and hyperparameters: see minigan presets"),
    ("--backend", NAME, "plain, numpy (default) or cupy"),
    ("--precision", NAME, "precision of products on a GPU: fp32 (default) or tf32"),
    ("--dataset", NAME, f"{', '.join(DATASETS)}; auto (default) is the preset's"),
    DATA_DIR,
    ("--images", DIR, "pictures: a folder, a .zip, or a file .npy, .npz, .csv or IDX"),
    ("--image-size --size", {"metavar": "HxW"}, "64 or 48x64, for presets mnist, color32, image64"),
    ("--channels", N, "1 for gray, 3 for color; for the same presets"),
    ("--fit", {"metavar": "HOW"}, "crop, squash, center:N or box:LEFT,TOP,RIGHT,BOTTOM"),
    ("--background", {"metavar": "COLOR"}, "behind transparent pixels: white, black or R,G,B"),
    ("--max-pixels", N, "skip pictures with more pixels (default 89478485)"),
    ("--limit", N, "only the first N images"),
    ("--seed", N, "seed of all random numbers (default 0)"),
    ("--threads", N, "CPUs to use (default all; another number rounds differently)"),
    ("--compile", EITHER, "use kernels compiled by numba (default: if it is installed)"),
]
EVERY = {"metavar": "N", "type": steps_or_epoch}
TRAIN: list[Row] = [
    ("--flip", EITHER, "mirror images at random"),
    ("--shuffle", {"metavar": "WHEN"}, "a new order every epoch, once, or never"),
    ("--drop-last", EITHER, "omit a smaller last batch"),
    ("--epochs", N, "epochs in total, also with --resume"),
    ("--steps", N, "steps in total, instead of --epochs"),
    ("--batch-size", N, "images in a step"),
    ("--width", N, "channels of the feature maps next to the image"),
    ("--z-dim", N, "length of the noise vector"),
    ("--z", NAME, "distribution of the noise: normal or uniform"),
    ("--lr-g", NUMBER, "learning rate of the generator"),
    ("--lr-d", NUMBER, "learning rate of the discriminator"),
    ("--lr-decay", N, "divide both rates by the root of 1 + step/N; 0: constant rates"),
    ("--beta1", NUMBER, "Adam's first decay"),
    ("--optimizer", NAME, "adam, rmsprop or sgd (default the preset's; all others too)"),
    ("--weight-decay", NUMBER, "L2 penalty in the gradient of every parameter"),
    ("--loss", NAME, "bce, lsgan or hinge"),
    ("--real-target", NUMBER, "D's target for real images, such as 0.9"),
    ("--fake-target", NUMBER, "D's target for fakes"),
    ("--d-steps", N, "updates of D in a round"),
    ("--upsample", NAME, "how G grows: transposed, or nearest as in color32 and image64"),
    ("--classes", N, "learn the N classes of labeled pictures, for the same presets"),
    ("--spectral-norm", SWITCH, "normalize D's weights by their spectral norm, without BatchNorm"),
    ("--r1", NUMBER, "weight of a penalty for D's slope, for the same presets; 0: BatchNorm in D"),
    ("--ema", NUMBER, "draw images from an average of G's weights with this decay; 0: from G"),
    ("--joint-update", SWITCH, "G's update also changes D: a known mistake, to study"),
    ("--sample-every", EVERY, "steps between samples and checkpoints, or epoch (default 200)"),
    ("--evaluate-every", N, "steps between evaluations, which keep the best checkpoint too"),
]
NEW_RUN: Row = ("--out", DIR, "folder to create for the run (default runs/<time>-<preset>)")
START: list[Row] = [
    NEW_RUN,
    ("--like", DIR, "start with the options of this run; those given here replace them"),
    ("--resume", DIR, "resume the run in this folder, bit for bit"),
    ("--dry-run", SWITCH, "run one step, show the layers, write nothing"),
]
EXPORT: list[Row] = [
    ("file", FILE, ".onnx: one network; .safetensors: both"),
    ("--net", NAME, "G (default), D, or G-unaveraged: G without --ema"),
]
SAMPLE: list[Row] = [
    ("--n", whole(64), "number of images (default 64)"),
    ("--out", FILE, "a grid as .png, or an array (n, h, w, c) uint8 as .npy"),
    ("--each", DIR, "a new folder: each image as a file, 00000.png on, by class"),
    ("--real", DIR, "a new folder: as many training images, as the networks see them"),
    ("--statistics", NAME, "of BatchNorm: frozen (default), or batch, as some programs sample"),
]
EVALUATE: list[Row] = [
    ("--n", N, "number of images (default 10000, or as many as can be compared)"),
    out("RUN/evaluation.json"),
]
CLASSES = {"metavar": ("A", "B"), "nargs": 2}
ARITHMETIC: list[Row] = [
    ("--classes", CLASSES, "thick A - thin A + thin B (default 7 3)"),
    ("--pick", {"metavar": "A", "nargs": "*"}, "A - B + C of these samples; alone: list samples"),
    out("RUN/arithmetic.png"),
]
ACTIVATIONS: list[Row] = [
    ("--layer", NAME | {"default": "D"}, "D or G, or one layer such as D.3 (default D)"),
    ("--image", whole(0), "number of the training image, or of G's sample (default 0)"),
    out("RUN/activations.png"),
]
SECONDS: Row = ("--seconds", NUMBER | {"default": 8.0}, "from first to last grid (default 8)")
PATH: Row = ("--path", NAME, "linear or spherical (default: the one that fits z's distribution)")
LAYER: Row = ("--layer", NAME, "layer of D such as D.3 (default: the last map)")


class Parser(argparse.ArgumentParser):
    """argparse that reports a mistake in one line."""

    commands: dict[str, "Parser"]  # name -> parser; of the outermost parser

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError; argparse would print its usage and exit."""
        for name, kind in TYPES.items():
            message = message.replace(f"invalid {name} value:", f"expected {kind}, got")
        raise ConfigError(f"{message} (see {self.prog} --help)")


def build_parser() -> Parser:
    """-> the parser of all commands."""
    parser = Parser("minigan", "minigan COMMAND ...", "DCGANs with hand-written backward passes.")
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, "commands:"
    parser.add_argument("--version", action="version", version=f"minigan {minigan.__version__}")
    commands = parser.add_subparsers(dest="command", prog="minigan", help=argparse.SUPPRESS)
    parser.commands, commands.required = commands.choices, True

    def add(module: str, name: str, text: str, *rows: Row) -> None:
        # `train` must know what the user gave: the rest is up to the preset, or the resumed run
        default = argparse.SUPPRESS if name.startswith(("train", "import")) else None
        command = commands.add_parser(name, description=text, argument_default=default)
        for names, arguments, about in rows:
            command.add_argument(*names.split(), help=about, **arguments)
        command.set_defaults(module=module)
        parser.epilog = f"{parser.epilog}\n  {name:<18}{text}"

    name: Row = ("name", {"metavar": "NAME", "nargs": "?"}, "the preset to show")
    runs: Row = ("runs", {"metavar": "RUN", "nargs": "+"}, RUN[-1])
    add("train", "train", "train a GAN; leaves a folder under runs/", *IMAGES, *TRAIN, *START)
    add("sample", "sample", "draw images from a run", RUN, *SAMPLE, SEED, LABEL, BEST, DATA_DIR)
    add("presets_table", "presets", "list the presets, or show one with its layers", name)
    add("evaluate", "train-classifier", "train the classifier that evaluate uses", *IMAGES)
    add("evaluate", "evaluate", "compare samples with real images", RUN, *EVALUATE, BEST, DATA_DIR)
    add("show", "animate", "animate sample grids", RUN, SECONDS, out("RUN/progress.gif"))
    add("show", "plot", "plot a run's curves; needs matplotlib", RUN, out("RUN/losses.png"))
    add("show", "compare", "compare 2 to 8 runs; needs matplotlib", runs, out("compare.png"))
    add("show", "report", "make a page that shows a run", RUN, out("RUN/report.html"))
    add("show", "explore", "make a page with sliders for z", RUN, BEST, out("RUN/explorer.html"))
    text = "draw the images between random z"
    add("inspect", "interpolate", text, RUN, PATH, SEED, LABEL, out("RUN/interpolation.png"))
    add("inspect", "arithmetic", "draw thick 7 - thin 7 + thin 3", RUN, *ARITHMETIC, SEED, DATA_DIR)
    add("inspect", "filters", "draw the filters of D's first layer", RUN, out("RUN/filters.png"))
    text = "draw the maps of D for an image, or of G for a z"
    add("inspect", "activations", text, RUN, *ACTIVATIONS, DATA_DIR)
    text = "draw what units of D detect in images"
    add("inspect", "features", text, RUN, LAYER, DATA_DIR, out("RUN/features.png"))
    add("export", "export", "write G or D as .onnx or .safetensors", RUN, *EXPORT, BEST, DATA_DIR)
    files: Row = ("files", FILE | {"nargs": "+"}, ".safetensors, or a folder of published .npy")
    options = [row for row in (*IMAGES, *TRAIN) if row is not DATA_DIR]
    add("export", "import", "make a run from weights in a file", files, NEW_RUN, *options)
    return parser


def expect_known(parser: Parser, argv: list[str]) -> None:
    """Raises ConfigError if the command or an option does not exist, with the closest that does."""
    command = parser if argv[0].startswith("-") else parser.commands.get(argv[0])
    if command is None:
        hint = did_you_mean(argv[0], parser.commands)
        raise ConfigError(f"unknown command {argv[0]!r}{hint} (see minigan --help)")
    options = re.findall(r"--[a-z][a-z0-9-]*", command.format_help())
    for word in argv:
        name = word.partition("=")[0]
        if len(name) > 2 and name.startswith("--") and not any(o.startswith(name) for o in options):
            hint = did_you_mean(name, options)
            raise ConfigError(f"unknown option {name}{hint} (see {command.prog} --help)")


def expect_no_more(words: list[str], command: Parser) -> None:
    """Raises ConfigError if there are words that the command does not take."""
    for word in words:
        option = "--dataset" if word in DATASETS else "--images"
        takes_it = option in command.format_help() and not word.startswith("-")
        hint = f": did you mean {option} {word}?" if takes_it else ""
        raise ConfigError(f"unexpected {word!r}{hint} (see {command.prog} --help)")


lost: list[OSError] = []  # why output could not be written, other than that nobody reads it


def log(line: str = "", end: str = "\n") -> None:
    """print, until the reader is gone (`minigan train | head`): the run goes on without output."""
    try:
        print("\n".join(map(escaped, line.split("\n"))), end=end, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: a terminal that is gone
            lost.append(error)


def run_command(argv: list[str]) -> None:
    """Run the command that argv names. Raises MiniganError."""
    parser = build_parser()
    if argv[:1] == ["judge"]:  # its name in minigan 0.1
        argv = ["train-classifier", *argv[1:]]
    if not argv:
        parser.print_help()
        return
    for word in argv:
        expect_path(word)  # of any other word a terminal makes no name either
    expect_known(parser, argv)
    arguments, more = parser.parse_known_args(argv)
    expect_no_more(more, parser.commands[arguments.command])
    module = import_module(f"minigan.cli.{arguments.module}")
    name = arguments.command.replace("-", "_")
    command = getattr(module, name + "_" * iskeyword(name))
    del arguments.module, arguments.command
    # networks that diverge are reported in words
    with stop_signals_call(raise_stopped), np.errstate(all="ignore"):
        if name in SHARED or world().rank == 0:  # one rank is enough for the rest
            command(arguments, log)


def main(argv: list[str] | None = None) -> int:
    """-> exit code: 0; 2 after a mistake; 1 after a failure; 129, 130 or 143 after a signal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack some characters
    lost.clear()
    try:
        code = answer("minigan", lambda: run_command(sys.argv[1:] if argv is None else argv), True)
    finally:
        log(end="")  # what is in the buffer
    return fail("minigan", f"the output cannot be written: {lost[0].strerror}", 1) if lost else code


def answer(program: str, work: Callable[[], object], on_all_ranks: bool = False) -> int:
    """Do the work of a program -> its exit code, as main's. An error is one line on stderr."""

    message: object
    if launched()[0]:  # one rank speaks for all
        sys.stdout = io.StringIO()
    try:
        ranks = world()
        if ranks.rank == 0 or on_all_ranks:
            work()
        ranks.barrier()
        return 0
    except MiniganError as error:
        message, code = error, 1 if is_failure(error) else 2
    except (MemoryError, OSError) as error:
        message, code = error, 1
        if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
            smaller = "use a smaller --batch-size, --width, --image-size or --n"
            message, code = f"not enough memory ({error}): {smaller}", 2
    except RuntimeError as error:  # CuPy's, of CUDA: not an OSError, and with many causes
        if type(error).__name__ not in ("CUDARuntimeError", "CUDADriverError"):
            raise
        message, code = f"the GPU fails ({error}): is it full, or in use? See nvidia-smi", 1
    except KeyboardInterrupt as stop:
        code = getattr(stop, "exit_code", 130)
        is_reported = hasattr(stop, "folder")  # training.progress.Interrupted
        if is_reported or (code != 130 and launched()[1] == 1):
            return code
        message = "stopped"
    line = escaped(" ".join(f"{message}".split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    return fail(program, line, code)


def is_failure(error: BaseException | None) -> bool:
    """Is it, or what caused it, no mistake of the user?"""
    if error is None or isinstance(error, TrainingError):
        return error is not None
    return (isinstance(error, OSError) and error.errno in FAILURES) or is_failure(error.__cause__)
