"""A progress bar, if there is a terminal to draw it on."""

import sys
from typing import Any


def on_terminal() -> bool:
    """Is standard error a terminal? Where it is closed, it is None."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress_bar(**options: Any) -> Any:
    """-> tqdm's bar; without a terminal it draws nothing."""
    from tqdm import tqdm  # late: `import minigan` stays quick

    return tqdm(disable=not on_terminal(), dynamic_ncols=True, **options)
