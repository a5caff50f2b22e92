"""The command line, called in this process."""

from minigan.cli.main import main


def run(*words):
    """-> exit code of `minigan words...`."""
    return main([str(word) for word in words])


def refused(capsys, *words, code=2):
    """-> the only line on stderr of a command that must fail."""
    capsys.readouterr()
    assert run(*words) == code
    error = capsys.readouterr().err
    assert error.startswith("minigan: error: ") and error.count("\n") == 1, error
    return error.removeprefix("minigan: error: ").rstrip("\n")


def files(folder):
    """-> path -> bytes, or None for a folder, of everything in it."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
