"""One GAN trained by SGD, RMSprop and Adam: python examples/compare_optimizers.py [--out DIR] ...

Jayathilaka's comparison, with the published learning rates of each (presets/jayathilaka.py). It was
made on CelebA, and works with other data: --dataset cifar10, or --images DIR. All options of
`minigan train` can be given, but for --preset, --resume, --like and --dry-run. Leaves a run for
each optimizer in --out (default runs/optimizers), and compare.png: their curves and their last
samples, which takes matplotlib. If it was stopped, the same command goes on.
"""

import sys
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone works without installing minigan

from minigan.cli.main import main

OPTIMIZERS = ("sgd", "rmsprop", "adam")


def compare(arguments: list[str]) -> int:
    """-> exit code, of the first command that fails or of the last."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", default="runs/optimizers")
    given, options = parser.parse_known_args(arguments)
    folder = Path(given.out)
    runs = [str(folder / name) for name in OPTIMIZERS]
    if find_spec("matplotlib") is None:  # now, not after the training
        print("plots need matplotlib: pip install matplotlib", file=sys.stderr)
        return 2
    for name, run in zip(OPTIMIZERS, runs, strict=True):
        new = ["--preset", f"jayathilaka-faces:{name}", "--out", run]
        code = main(["train", *options, *(["--resume", run] if Path(run).exists() else new)])
        if code:
            return code
    return main(["compare", *runs, "--out", str(folder / "compare.png")])


if __name__ == "__main__":
    sys.exit(compare(sys.argv[1:]))
