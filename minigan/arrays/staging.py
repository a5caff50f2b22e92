"""An array that stays where it is, and is written from the host again and again: what a recorded step reads its inputs from.

host = inbox.open(n)    memory on the host for n rows, to write into
x = inbox.send()        the array, with what was written
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minigan.arrays.backend import Array, Backend, Shape


class Inbox:
    """Inbox(backend, (most rows, ...)): made by backend.inbox. On a CPU the array itself is written."""

    def __init__(self, backend: "Backend", shape: "Shape", dtype: Any = None):
        self.array, self.rows = backend.empty(shape, dtype), 0

    def open(self, n: int) -> np.ndarray:
        """-> memory for n rows, to be written before send()"""
        self.rows = n
        host: np.ndarray = self.array[:n]
        return host

    def send(self) -> "Array":
        """-> the array's first n rows, with what was written; valid until the next send()"""
        return self.array[: self.rows]
