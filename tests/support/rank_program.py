"""minigan on one rank of several, with a fault: python rank_program.py RANK FAULT STEP words...

FAULT  none; raise-load, raise-step, raise-sample, raise-save; kill, or the name of a signal
STEP   the step that it comes in, for the others than raise-load
"""

import os
import signal
import sys
from importlib import import_module

from minigan.cli.main import main
from minigan.errors import DataError
from minigan.training.checkpoint import Checkpoints
from minigan.training.game import Game

loop = import_module("minigan.training.loop")
PLACES = {  # fault -> the function that raises
    "raise-load": (loop, "load_images", DataError("the disk is gone")),
    "raise-step": (Game, "round", ValueError("a fault")),
    "raise-sample": (Game, "sample_grid", MemoryError("a fault")),
    "raise-save": (Checkpoints, "save", ValueError("a fault")),
}


def plant(fault, step):
    """Let the fault happen once, in this process."""
    if fault == "none":
        return
    owner, name, error = PLACES.get(fault, PLACES["raise-step"])
    original, rounds = getattr(owner, name), Game.round
    played = [0]

    def counting(self, batches):
        played[0] += 1
        return (faulty if name == "round" else rounds)(self, batches)

    def faulty(*arguments):
        if fault == "raise-load" or played[0] == step:
            if fault in PLACES:
                raise error
            os.kill(os.getpid(), getattr(signal, "SIGKILL" if fault == "kill" else fault))
        return original(*arguments)

    setattr(owner, name, faulty)
    Game.round = counting


if __name__ == "__main__":
    rank, fault, step, *words = sys.argv[1:]
    if os.environ.get("PMI_RANK", "0") == rank:
        plant(fault, int(step))
    sys.exit(main(words))
