"""One GAN trained by SGD, RMSprop and Adam: python examples/compare_optimizers.py [--out DIR] ...

Jayathilaka's comparison, with the published learning rates of each (presets/jayathilaka.py). It was
made on CelebA, and works with other data: --dataset cifar10, or --images DIR. All options of
`minigan train` can be given. Leaves a run for each optimizer in --out (default runs/optimizers),
and compare.png: their curves and their last samples.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone works without installing minigan

from minigan.cli.main import main

OPTIMIZERS = ("sgd", "rmsprop", "adam")


def compare(arguments: list[str]) -> int:
    """-> exit code, of the first command that fails or of the last."""
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
