"""Where a command writes."""

import os
import tempfile
from pathlib import Path

from minigan.data.prepare.file_index import in_a_run
from minigan.errors import ConfigError, RunError
from minigan.files import as_run_errors, expect_path


def output_file(out: str | None, default: Path, *endings: str, name: str = "--out") -> Path:
    """--out, or the default without it -> Path of a file that can be written.

    out   a file, which is replaced if it exists, in a folder that exists; or a folder, which exists
          or ends in "/" and is made: the file has the default's name in it
    name  of the argument, for messages
    Raises ConfigError for another ending; RunError if nothing can be written there: it is reported
    before the work, not after it.
    """
    path = expect_path(os.path.expanduser(out)) if out else default
    with as_run_errors(f"write {path}", f"choose another place with {name}"):
        if out and (out.endswith(("/", os.sep)) or path.is_dir()):
            path.mkdir(parents=True, exist_ok=True)
            path = path / default.name
        if path.suffix.lower() not in endings:
            raise ConfigError(f"{name} must end in {' or '.join(endings)}, got {out!r}")
        if path.exists() and not path.is_file():
            raise RunError(f"cannot write {path}: it is no regular file")
        if path.name == "config.json" and in_a_run(path):
            raise RunError(f"cannot write {path}: it is the record of a run")
        if out or path.parent.is_dir():  # else there is no run, which is reported as such
            tempfile.TemporaryFile(dir=path.parent).close()
    return path
