"""What the benchmarks share as commands: options, exit codes, one line for a mistake."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from benchmarks import machine, nets, results
from minigan.cli.main import Parser, answer
from minigan.errors import ConfigError


def command(work: Callable) -> Callable:
    """work(argv) -> main(argv=None) -> exit code.

    0; 2 for a user's mistake, or a measurement that would mean nothing; 130 after Ctrl-C.
    """
    program = Path(work.__code__.co_filename).name

    @wraps(work)
    def main(argv=None):
        return answer(program, lambda: work(argv))

    return main


def log(line: str) -> None:
    print(line, flush=True)


def quiet(line: str) -> None:
    """A log that nobody reads."""


# -- kinds of options: text -> value ------------------------------------------------------------


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number in this range."""
    interval = f"at least {least}" if most is None else f"{least} to {most}"

    def number(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            raise ArgumentTypeError(f"must be {interval}, got {value}")
        return value

    return number


def names(known: dict | tuple) -> Callable[[str], list[str]]:
    """ "a,b" -> ["a", "b"], each once, all of them known."""

    def chosen(text: str) -> list[str]:
        found = list(dict.fromkeys(name for name in text.split(",") if name))
        for name in found:
            if name not in known:
                raise ArgumentTypeError(f"unknown name {name!r}: choose from {','.join(known)}")
        return found

    return chosen


def option(name: str, kind: Callable, text: str):
    """An option's text -> its value, if its kind depends on other options. Raises ConfigError."""
    try:
        return kind(text)
    except ArgumentTypeError as error:
        raise ConfigError(f"argument {name}: {error}") from error


def figure_file(text: str) -> str:
    """Where to draw. Checked now, not after minutes of measuring."""
    path = Path(text)
    if path.suffix not in (".png", ".svg") or not path.resolve().parent.is_dir():
        raise ArgumentTypeError(f"must be a .png or .svg in a folder that exists, got {text!r}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ArgumentTypeError("figures need matplotlib: pip install matplotlib") from error
    return text


OPTIONS = {
    "preset": dict(
        choices=nets.NAMES,
        metavar="NAME",
        default="fredriksson-mnist",
        help=f"{', '.join(nets.NAMES)} (default %(default)s)",
    ),
    "width": dict(
        type=whole(1), help="channels of the feature maps next to the image (default the preset's)"
    ),
    "batch": dict(type=whole(2), default=128, help="images in a step (default %(default)s)"),
    "backend": dict(
        choices=("numpy", "cupy"), default="numpy", help="numpy or cupy (default numpy)"
    ),
    "threads": dict(
        type=whole(1, machine.cores()), help="bind every process to this many cores (default all)"
    ),
    "rounds": dict(type=whole(1), default=7, help="after 2 warm-up rounds (default %(default)s)"),
    "json": dict(
        type=results.expect_writable, metavar="FILE", help="add the figures to a result file"
    ),
    "plot": dict(
        type=figure_file, metavar="FILE", help="draw them, as .png or .svg; needs matplotlib"
    ),
}


def make_parser(program: str, description: str, *options: str, **defaults) -> Parser:
    """-> a parser with some of OPTIONS, some with another default."""
    parser = Parser(prog=program, description=description)
    for name in options:
        parser.add_argument(f"--{name}", **OPTIONS[name])
    parser.set_defaults(**defaults)
    return parser
