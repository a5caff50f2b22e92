"""PyTorch as a third opinion, where it is installed."""

import pytest


def import_torch():
    """-> torch, on one thread: the arrays are small. Skips the test without it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.set_num_threads(1)
    return torch
