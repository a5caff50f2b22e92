"""A benchmark as a command: what its exit codes are, and one line for a mistake."""

import sys
from functools import wraps
from pathlib import Path

from minigan.errors import MiniganError


def command(work):
    """work(argv) -> main(argv=None) -> exit code: 0; 2 for a mistake that the user can mend, or contenders that disagree; 130."""
    program = Path(work.__code__.co_filename).name

    @wraps(work)
    def main(argv=None):
        try:
            work(argv)
        except MiniganError as error:
            print(f"{program}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{program}: stopped", file=sys.stderr)
            return 130
        return 0

    return main
