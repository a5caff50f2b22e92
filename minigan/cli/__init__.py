"""The command line."""

from minigan.cli.main import main

__all__ = ["main"]
