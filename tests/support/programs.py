"""The programs in examples/ as modules, for tests that call their functions."""

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_program(path):
    """-> examples/<path>.py as a new module. Its helpers beside it can be imported, as in a run."""
    file = EXAMPLES / f"{path}.py"
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
