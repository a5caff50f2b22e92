"""What is released: a wheel that works outside of a clone, and an sdist whose tests run."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
NEEDS = "needs build and twine: pip install -e '.[test]'"


def run(*words, **options):
    """-> what a program of this Python prints; fails with its output if it fails."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """-> the wheel and the sdist of this checkout"""
    pytest.importorskip("build", reason=NEEDS)
    source, out = tmp_path_factory.mktemp("source") / "minigan", tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns(".*_cache", ".git", ".venv", "runs", "*.egg-info", "build")
    shutil.copytree(ROOT, source, ignore=ignored)
    run("-m", "build", "--no-isolation", "--outdir", out, source)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def test_an_index_takes_them(built):
    pytest.importorskip("twine", reason=NEEDS)
    assert run("-m", "twine", "check", "--strict", *built).count("PASSED") == 2


def test_no_link_of_the_description_leads_nowhere(built):
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
        text = wheel.read(name).decode()
    assert "Deep learning that you can read" in text
    assert all(link.startswith("http") for link in re.findall(r"\]\(([^)]+)\)", text))


def test_links_lead_to_the_repository_if_it_is_named(tmp_path):
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "minigan").mkdir()
    shutil.copy(ROOT / "minigan" / "__init__.py", tmp_path / "minigan")
    home = "https://git.example/owner/minigan"
    environment = {**os.environ, "MINIGAN_HOME_PAGE": home + "/"}
    run("setup.py", "-q", "egg_info", cwd=tmp_path, env=environment)
    text = (tmp_path / "minigan.egg-info" / "PKG-INFO").read_text("utf-8")
    assert f"![Digits drawn by minigan]({home}/raw/main/examples/digits.png)" in text
    assert f"]({home}/blob/main/docs/reading.md)" in text and f"Repository, {home}" in text


def test_the_wheel_works_outside_of_a_clone(built, tmp_path):
    run("-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", built[0])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "MINIGAN_DATA": "nowhere"}
    options = dict(cwd=tmp_path, env=environment)
    place = run("-c", "import minigan; print(minigan.__file__)", **options)
    assert place.strip() == str(tmp_path / "site" / "minigan" / "__init__.py")
    words = [
        "--dataset",
        "strokes",
        "--limit",
        "200",
        "--width",
        "2",
        "--steps",
        "3",
        "--out",
        "run",
    ]
    run("-m", "minigan", "train", *words, **options)
    for command in ("report", "explore"):
        run("-m", "minigan", command, "run", **options)
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "explorer.html").exists()


def test_the_sdist_has_its_tests(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.suffix != ".pyc"}
    command = ["git", "-C", str(ROOT), "ls-files"]
    tracked = subprocess.run(command, capture_output=True, text=True)
    if tracked.returncode == 0:  # the tests may run in an sdist themselves
        assert not set(map(Path, tracked.stdout.split())) - found
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    words = ["-q", "-p", "no:cacheprovider", "tests/test_losses.py", "tests/layers/test_linear.py"]
    assert " passed" in run("-m", "pytest", *words, cwd=folder, env=environment)
