"""How far a reader must walk: files, functions and moves of one update of D of the default net.

    python tests/support/walk.py [plain|numpy]

A move is a call from a function in one file of minigan to one in another, in the main thread.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

import minigan as mg
from minigan import gan
from minigan.presets import get_preset

PACKAGE = str(Path(mg.__file__).parent)


def walk(backend_name: str) -> tuple[set[str], set[tuple[str, int]], Counter]:
    """-> files entered, functions entered, moves (from, to) of one update of D."""
    preset = get_preset("mnist")
    backend = mg.get_backend(backend_name)
    D = mg.Sequential(preset.discriminator(preset.width, preset.image_shape), name="D")
    D.setup(preset.image_shape, backend=backend, rng=np.random.default_rng(0))
    optimizer = mg.Adam(D, preset.lr_d, beta1=preset.beta1)
    x = np.random.default_rng(1).uniform(-1, 1, (64, *preset.image_shape)).astype("float32")
    files, functions, moves = set(), set(), Counter()

    def watch(frame, event, argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        here, caller = code.co_filename, frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        files.add(here)
        functions.add((here, code.co_firstlineno))
        if caller is not None and caller.f_code.co_filename != here:
            moves[caller.f_code.co_filename, here] += 1

    update = backend.operation_for(gan.update_discriminator)
    for _ in range(2):  # memory is allocated in the first
        update(D, optimizer, x, x)
    sys.setprofile(watch)
    update(D, optimizer, x, x)
    sys.setprofile(None)
    return files, functions, moves


if __name__ == "__main__":
    for name in sys.argv[1:] or ("plain", "numpy"):
        files, functions, moves = walk(name)
        print(
            f"{name}: {len(files)} files, {len(functions)} functions, "
            f"{sum(moves.values()):,} moves between files"
        )
