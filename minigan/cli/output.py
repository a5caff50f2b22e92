"""Where a command writes."""

import os
import tempfile
from pathlib import Path

from minigan.data.prepare.file_index import in_a_run
from minigan.errors import ConfigError, RunError
from minigan.files import os_errors_as_run_errors


def output_file(out: str | None, default: Path, *endings: str, name: str = "--out") -> Path:
    """--out, or the default without it -> Path of a file that can be written.

    name  of the argument, for messages
    out  a file, which is replaced if it exists, in a folder that exists; or a folder, which exists
         or ends in "/" and is made: the file has the default's name in it
    Raises ConfigError for another ending; RunError if nothing can be written there, so that it is
    known before the work and not after it.
    """
    path = Path(os.path.expanduser(out)) if out else default
    try:
        os.lstat(path)
    except ValueError as error:  # a NUL in it, or half a character
        raise ConfigError(f"{name} must be a path, got {out!r}") from error
    except OSError:
        pass  # reported below, if it matters
    with os_errors_as_run_errors(f"write {path}", f"choose another place with {name}"):
        if out and (out.endswith(("/", os.sep)) or path.is_dir()):
            path.mkdir(parents=True, exist_ok=True)
            path = path / default.name
        if path.suffix.lower() not in endings:
            raise ConfigError(f"{name} must end in {' or '.join(endings)}, got {out!r}")
        if path.exists() and not path.is_file():
            raise RunError(f"cannot write {path}: there is something else than a file")
        if path.name == "config.json" and in_a_run(path):
            raise RunError(f"cannot write {path}: it is the record of a run")
        if out or path.parent.is_dir():  # else there is no run, which is reported as such
            tempfile.TemporaryFile(dir=path.parent).close()
    return path
