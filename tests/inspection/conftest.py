"""Runs to inspect."""

from tests.support.inspected_runs import images_of_noise, runs

__all__ = ["images_of_noise", "runs"]
