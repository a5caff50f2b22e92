"""A browser, for the pages."""

import pytest

from tests.support.browser import Browser, programs


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if None in programs():
        pytest.skip("needs Chromium and chromedriver: apt-get install chromium chromium-driver")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
