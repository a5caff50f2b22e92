"""The files of a run: on a GPU, they are written while training goes on.

While the host writes a checkpoint, a GPU could do some hundred steps. So a thread writes, one file
after the other, in the order in which a loop that waits would write them: a kill leaves the same on
the disk. Meanwhile nothing may change what it writes: rows, samples and Snapshots are copies.

On a CPU everything is written at once. There a step takes so long that nothing would be gained, and
after an epoch processes are forked, which wait until no thread works: see parallel/fork.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minigan.concurrency import Workers
from minigan.errors import RunError

if TYPE_CHECKING:
    from concurrent.futures import Future

MOST_WAITING = 100  # writes, on a disk that does not answer


class Writer:
    """`with Writer(aside, log) as writer`, which ends when everything is written and reported.

    aside    write in a thread, not at once
    failed   what could not be written -> why, until it is tried again
    written  what could be -> its last step
    """

    def __init__(self, aside: bool, log: Callable[[str], object]):
        self.workers, self.log = Workers(int(aside), "minigan-writer"), log
        self.failed: dict[str, str] = {}
        self.written: dict[str, int] = {}
        self.reported: set[str] = set()
        self.pending: list[tuple[str, int, Future[Any]]] = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.workers.finish()
        self.look()

    def write(self, what: str, step: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a function write a step's "rows", "checkpoint" ...; look() reports its RunError."""
        self.failed.pop(what, None)
        self.pending.append((what, step, self.workers.submit(function, *arguments)))
        self.look(wait=len(self.pending) > MOST_WAITING)

    def look(self, wait: bool = False) -> None:
        """Report what could not be written so far; wait: until nothing is left to write.

        Raises what a function raised, if it is no RunError.
        """
        while self.pending and (wait or self.pending[0][2].done()):
            what, step, future = self.pending[0]
            error = future.exception()
            del self.pending[0]
            self.failed.pop(what, None)
            if error is None:
                self.written[what] = step
                self.reported.discard(what)
            elif isinstance(error, RunError):
                self.failed[what] = str(error)
                if what not in self.reported:  # once, until it succeeds
                    self.log(f"WARNING: step {step}: {error}; training goes on, and tries again")
                self.reported.add(what)
            else:
                raise error
