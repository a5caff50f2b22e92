"""The cache folder of each system."""

import os
import sys

import pytest

from minigan.data.files.locations import cache_folder
from tests.support.refusals import refusal


def test_cache_folder_of_each_system(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "minigan"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "minigan"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "minigan"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "minigan"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "minigan" / "Cache"
    monkeypatch.delenv("LOCALAPPDATA")
    assert cache_folder() == tmp_path / "AppData" / "Local" / "minigan" / "Cache"


def test_cache_folder_of_a_user_without_a_home(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_folder().is_absolute() and "~" not in str(cache_folder())


@pytest.mark.skipif(os.name != "posix", reason="only there HOME is the home folder")
@pytest.mark.parametrize("name", ("", "/"))
def test_an_empty_home_is_none(name, tmp_path, monkeypatch):
    """/ is the home of a container's user without a name, who cannot write there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", name)
    assert tmp_path in cache_folder().parents


@pytest.mark.skipif(os.name != "posix", reason="Windows has one temporary folder for each user")
def test_the_cache_of_a_user_without_a_home_is_theirs_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = tmp_path / f"minigan-{os.getuid()}"
    assert own in cache_folder().parents and own.stat().st_mode & 0o777 == 0o700
    assert own in cache_folder().parents  # it may exist
    own.chmod(0o770)
    assert refusal(cache_folder) == (
        f"{own}: is not a private folder of yours: set HOME or XDG_CACHE_HOME"
    )
    own.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own.symlink_to(tmp_path / "elsewhere")
    assert "is not a private folder of yours" in refusal(cache_folder)
    own.unlink()
    own.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "minigan-12345").mkdir(mode=0o700)  # by another user
    assert "is not a private folder of yours" in refusal(cache_folder)
