"""minigan on one rank of several, with a fault: python rank_program.py RANK FAULT STEP words...

With GPUS=N in the environment, each machine has N GPUs, the stand-in for CuPy; without NCCL if
NCCL=0.

FAULT  none; or what happens and where, such as raise-load, SIGKILL-save, SIGTERM-step
STEP   of the run, for faults elsewhere than in the load; 0: before the first

Without compiled kernels and curves, unless the environment has WHOLE=1. In float64, with FLOAT64=1.

With the variable SQUARES, a folder with their classifier, they are the images: see squares.py.
"""

import os
import signal
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from minigan.backends import get_backend
from minigan.cli.main import main
from minigan.errors import DataError
from minigan.evaluation import neighbors
from minigan.training import game, periodic_evaluation
from minigan.training.checkpoint import Checkpoints
from minigan.training.game import Game
from tests.support import squares
from tests.support.strict_cupy import use_stand_in

loop = import_module("minigan.training.loop")
PLACES = {  # where -> the function that fails there, and the error that it raises
    "load": (loop, "load_images", DataError("the disk is gone")),
    "step": (Game, "round", ValueError("a fault")),
    "sample": (Game, "sample_grid", MemoryError("a fault")),
    "save": (Checkpoints, "save", ValueError("a fault")),
    "draw": (Game, "to_images", ValueError("a fault")),
    "evaluate": (periodic_evaluation.PeriodicEvaluation, "measure", ValueError("a fault")),
    "nearest": (neighbors, "nearest", MemoryError("a fault")),
}


def plant(what, where, step):
    """Let the fault happen in this process."""
    owner, name, error = PLACES[where]
    original, play, played = getattr(owner, name), Game.round, [0]

    def counting(self, batches):
        played[0] += 1
        return (faulty if where == "step" else play)(self, batches)

    def faulty(*arguments):
        if where == "load" or played[0] == step:
            if what == "raise":
                raise error
            if what == "SIGKILL":
                print(time.time(), file=sys.stderr, flush=True)
            os.kill(os.getpid(), getattr(signal, what))
        return original(*arguments)

    setattr(owner, name, faulty)
    Game.round = counting


if __name__ == "__main__":
    rank, fault, step, *words = sys.argv[1:]
    if "WHOLE" not in os.environ:  # these two take two thirds of a short run
        sys.modules["numba"] = sys.modules["matplotlib"] = None
    if fault != "none" and os.environ.get("PMI_RANK", "0") == rank:
        plant(*fault.split("-"), int(step))
    with pytest.MonkeyPatch.context() as patch:
        if "GPUS" in os.environ:
            nccl = os.environ.get("NCCL") != "0"
            use_stand_in(patch, devices=int(os.environ["GPUS"]), nccl=nccl)
        if "FLOAT64" in os.environ:
            patch.setattr(game, "get_backend", partial(get_backend, dtype="float64"))
        if "SQUARES" in os.environ:
            squares.make_small(patch, Path(os.environ["SQUARES"]))
            patch.setattr(periodic_evaluation, "BUDGET", 1e9)
        sys.exit(main(words))
