"""A benchmark as a command: what its exit codes are, and one line for a mistake."""

from functools import wraps
from pathlib import Path

from minigan.cli.main import answer


def command(work):
    """work(argv) -> main(argv=None) -> exit code: 0; 2 for a mistake that the user can mend, or contenders that disagree; 130."""
    program = Path(work.__code__.co_filename).name

    @wraps(work)
    def main(argv=None):
        return answer(program, lambda: work(argv))

    return main
