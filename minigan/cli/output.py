"""Where a command writes."""

import os
from pathlib import Path

from minigan.errors import ConfigError


def output_file(out: str | None, default: Path, *endings: str) -> Path:
    """--out, or the default without it -> Path. Raises ConfigError for another ending."""
    path = Path(os.path.expanduser(out or default))
    if path.suffix.lower() not in endings:
        raise ConfigError(f"--out must end in {' or '.join(endings)}, got {out!r}")
    return path
