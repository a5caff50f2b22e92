"""The programs in examples/ as modules, for tests that call their functions."""

import importlib.util
from pathlib import Path


def load_program(name):
    """-> examples/<name>.py as a module"""
    spec = importlib.util.spec_from_file_location(
        name, Path(__file__).parents[1] / f"examples/{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
