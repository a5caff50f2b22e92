"""One GAN trained by SGD, RMSprop and Adam, side by side: python examples/compare_optimizers.py [--out DIR] [options of train]

Jayathilaka's comparison, with the learning rates of each that are published (presets/jayathilaka.py). It was made on
CelebA; with other data, as --dataset cifar10 or --images DIR, it works as well. Leaves a run for each optimizer in the
folder (default runs/optimizers), and compare.png: their curves and what each draws at last.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # in a clone it works without installing minigan

from minigan.cli.main import main

OPTIMIZERS = ("sgd", "rmsprop", "adam")


def compare(arguments: list[str]) -> int:
    """-> exit code; the first command that fails ends it."""
    options, folder = list(arguments), Path("runs/optimizers")
    if "--out" in options[:-1]:
        at = options.index("--out")
        folder = Path(options[at + 1])
        del options[at : at + 2]
    runs = [str(folder / name) for name in OPTIMIZERS]
    for name, run in zip(OPTIMIZERS, runs, strict=True):
        code = main(["train", *options, "--preset", f"jayathilaka-faces:{name}", "--out", run])
        if code:
            return code
    return main(["compare", *runs, "--out", str(folder / "compare.png")])


if __name__ == "__main__":
    sys.exit(compare(sys.argv[1:]))
