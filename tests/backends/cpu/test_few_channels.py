"""The kernel for images of one to four channels."""

import pytest

from minigan.backends.cpu.few_channels import FewChannels
from tests.support.kernel_cases import check_kernel


@pytest.mark.parametrize("seed", range(20))
def test_any_geometry_gives_what_the_definition_gives(seed, monkeypatch):
    check_kernel(FewChannels, seed, monkeypatch, times=4)
