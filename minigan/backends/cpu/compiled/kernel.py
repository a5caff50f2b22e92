"""Kernels that numba compiles, once for each CPU and version of this folder, and keeps on disk.

A kernel is a loop over arrays that are given to it. It allocates a few rows at most, and releases
Python's global lock. Sums are added in the order that is written, and no product is contracted with
a sum, so the bits do not depend on the instructions that a CPU has; except in direct.py and
winograd.py, where they do, as in BLAS.

What is compiled goes where numba keeps it: `__pycache__` beside this file, or a folder of the user
if that is read-only, or $NUMBA_CACHE_DIR. If there is no such folder, or what is in it cannot be
read, kernels are compiled again.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache

from minigan.concurrency import warn
from minigan.parallel.mpi import launched

if config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set")

PROCESS = os.getpid()  # not that of a child, which would repeat what its parent says


@cache
def fingerprint() -> str:
    """-> a hash of this folder: a kernel may call functions of other files in it."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def warn_of_compiling() -> None:
    """Say once, on one rank, that compiling takes some seconds."""
    if os.getpid() == PROCESS and launched()[0] == 0:
        warn("minigan: compiling kernels, once: this takes some seconds")


class KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache on disk, without which a kernel works too."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), fingerprint())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # anything may be in a file that is damaged
            found = None
            with suppress(Exception):
                self.flush()  # the index, or nothing would be saved
        if found is None:
            warn_of_compiling()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):  # as on a full disk
            super().save_overload(sig, data)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """-> the function, compiled at its first call with arrays of a dtype."""
    compiled: Any = njit(nogil=True, error_model="numpy")(function)
    try:
        compiled._cache = KernelCache(function)
    except RuntimeError:  # no folder can be written to
        warn_of_compiling()
    return compiled  # type: ignore[no-any-return]
