"""Folders and archives of pictures: what is listed, the cache, kills at any instant, two processes, changes, zip tricks."""

import hashlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minigan as mg
import minigan.data.prepare.build
from minigan.data import load_dataset
from minigan.data.files import zips
from minigan.data.files.locations import cache_folder
from minigan.data.prepare import file_index as listing

ROOT = Path(__file__).parents[1]
POSIX = os.name == "posix"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own; LOCALAPPDATA and HOME where the system looks at those."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGAN_DATA", raising=False)
    return tmp_path / "cache"


def png(value, size=(4, 4)):
    file = io.BytesIO()
    Image.new("RGB", size, (value % 256, value // 256, 9)).save(file, "PNG")
    return file.getvalue()


def put(folder, names, start=0):
    """Picture i of the names has the colour i."""
    for i, name in enumerate(names, start):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return folder


def load(path, shape=(4, 4, 3), **options):
    lines = []
    data = load_dataset("folder", images=path, image_shape=shape, log=lines.append, **options)
    load.lines = lines
    return data


def colours(data):
    """-> the numbers of the pictures, in order."""
    return [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in data.images]


def entry():
    (folder,) = (cache_folder() / "pictures").iterdir()
    return folder


def result(folder):
    """-> the files of a finished set by name."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("lock", "checked")
    }


def refused(call, *args, kind=mg.DataError, **options):
    with pytest.raises(kind) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what is listed -----------------------------------------------------------------------------


def test_labels_are_the_folders(tmp_path):
    names = ["b/2.png", "a/1.PNG", "b/1.Png", "a-b/1.png", "a/deep/er/2.png", "c é/1.png"]
    data = load(put(tmp_path / "p", names))
    assert data.name == "folder" and data.classes == ("a", "a-b", "b", "c é") and data.note is None
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 3]
    assert colours(data) == [1, 4, 3, 2, 0, 5]  # in the order of the names, folder by folder
    assert isinstance(data.images, np.memmap) and data.images.shape == (6, 4, 4, 3)


def test_no_labels_where_pictures_lie_at_the_top(tmp_path):
    data = load(put(tmp_path / "p", ["b/1.png", "c.png", "a.png"]))
    assert data.labels is None and data.classes == () and colours(data) == [2, 0, 1]


def test_what_is_a_picture(tmp_path):
    folder = put(
        tmp_path / "p",
        ["1.png", "2.jpg", "3.jpeg", "4.webp", "5.bmp", "6.gif", "7.JPEG", "x.jpg/8.png"],
    )  # by content
    put(
        folder,
        [
            ".9.png",
            ".git/9.png",
            "__MACOSX/9.png",
            "a/.hidden/9.png",
            "a/9.txt",
            "a/9.tiff",
            "a/png",
            "a/9.png.part",
        ],
        100,
    )
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")  # opening it would wait for ever
    assert colours(load(folder)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert load.lines and not any("skipped" in line for line in load.lines)


@pytest.mark.skipif(not POSIX, reason="links need rights on Windows")
def test_links_are_followed_but_not_in_circles(tmp_path):
    put(tmp_path / "elsewhere", ["x/3.png"], 3)
    folder = put(tmp_path / "p", ["a/1.png", "b/2.png"])
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b" / "self").symlink_to(folder / "b")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "c2.png").symlink_to("c2.png")  # leads to itself
    (folder / "b" / "4.png").symlink_to(folder / "a" / "1.png")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    records = sorted(key.replace(b"\0", b"/").decode() for key, _ in listing.Tree(folder).records())
    assert records == ["a/1.png", "b/2.png", "b/4.png", "c/x/3.png", "c2.png"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems insist on Unicode")
def test_names_that_are_no_text(tmp_path):
    folder = tmp_path / "p"
    for i, name in enumerate((b"a/\xff\xfe.png", b"\xe9\x1b[31m/2.png", b"a/new\nline.png")):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(png(i))
    with open(os.path.join(os.fsencode(folder), b"a/bad\xff\n\x1b.png"), "wb") as file:
        file.write(b"no picture")
    put(folder, [f"z/{i}.png" for i in range(30)], 10)
    data = load(folder)
    assert [colours(data)[i] for i in (0, 1, -1)] == [2, 0, 1] and all(
        name.isprintable() for name in data.classes
    )
    assert all(line.isprintable() for line in load.lines) and any(
        "skipped 1 (a/bad" in line for line in load.lines
    )


def test_deep_trees(tmp_path):
    folder = tmp_path / "p"
    deep = folder.joinpath(*(["d"] * 300))
    put(deep, ["1.png"])
    assert load(folder).classes == ("d",)


@pytest.mark.parametrize("run", (1, 7, 50, 1000))
def test_more_names_than_are_sorted_at_a_time(run, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "RUN", run)
    names = [f"{'abc'[i % 3]}/{i * 7919 % 1000:03}.png" for i in range(50)]
    folder = put(tmp_path / "p", names)
    data = load(folder, limit=20)
    ordered = [name for _, name in sorted((tuple(name.split("/")), name) for name in names)]
    assert colours(data) == [names.index(name) for name in ordered[:20]]
    (tmp_path / "l").mkdir()
    listing.write_listing(listing.Tree(folder), tmp_path / "l" / "listing", None)
    assert [
        key.decode().replace("\0", "/")
        for key, _ in listing.read_listing(tmp_path / "l" / "listing")
    ] == ordered
    assert os.listdir(tmp_path / "l") == ["listing"]


def test_limit(tmp_path):
    folder = put(tmp_path / "p", [f"{'ab'[i // 6]}/{i:02}.png" for i in range(12)])
    data = load(folder, limit=8)
    assert colours(data) == list(range(8)) and data.labels.tolist() == [0] * 6 + [1] * 2
    assert colours(load(folder, limit=5)) == list(range(5)) and load(folder, limit=5).classes == (
        "a",
    )
    assert colours(load(folder, limit=100)) == list(range(12))


def test_sizes_and_fits_have_caches_of_their_own(tmp_path):
    folder = put(tmp_path / "p", ["1.png", "2.png"])
    sets = [
        load(folder, shape, fit=fit)
        for shape in ((4, 4, 3), (4, 4, 1), (2, 8, 3))
        for fit in ("crop", "squash", "centre:3")
    ]
    assert len(os.listdir(cache_folder() / "pictures")) == 9
    assert [data.images.shape for data in sets[::3]] == [(2, 4, 4, 3), (2, 4, 4, 1), (2, 2, 8, 3)]


def test_the_same_pixels_have_the_same_fingerprint(tmp_path):
    names = ["a/1.png", "b/2.png"]
    one, two = load(put(tmp_path / "p", names)), load(put(tmp_path / "q", names))
    assert one.fingerprint == two.fingerprint and len(one.fingerprint) == 16
    others = [
        load(put(tmp_path / "r", names, 5)),
        load(put(tmp_path / "s", ["a/1.png", "a/2.png"])),
        load(tmp_path / "p", (4, 4, 1)),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_path_as_text_with_a_tilde_or_relative(cache, tmp_path, monkeypatch):
    put(cache / "mine", ["1.png"])
    monkeypatch.chdir(cache)
    assert colours(load("~/mine")) == colours(load("mine")) == colours(load(cache / "mine"))
    assert len(os.listdir(cache_folder() / "pictures")) == 1


# -- what cannot be read ------------------------------------------------------------------------


def test_unreadable_files_are_skipped_by_name(tmp_path):
    folder = put(tmp_path / "p", [f"{'ab'[i % 2]}/{i:03}.png" for i in range(100)])
    (folder / "a" / "000.png").write_bytes(b"")
    (folder / "b" / "051.png").write_bytes(png(51)[:50])
    (folder / "b" / "099.png").write_text("<html>")
    data = load(folder)
    assert len(data.images) == 97 and data.labels.tolist() == [0] * 49 + [1] * 48
    assert colours(data) == [
        i for i in [*range(0, 100, 2), *range(1, 100, 2)] if i not in (0, 51, 99)
    ]
    (line,) = (line for line in load.lines if "skipped" in line)
    assert line.startswith(
        "skipped 3 (a/000.png: not a picture in JPEG, PNG, WebP, BMP or GIF; b/051.png: "
    )
    assert line.endswith(
        f"of 100 files that cannot be read; all of them in {entry() / 'index.json'}"
    )
    skipped = json.loads((entry() / "index.json").read_text())["skipped"]
    assert [name for name, _ in skipped] == ["a/000.png", "b/051.png", "b/099.png"]
    load(folder)
    assert any("skipped 3" in line for line in load.lines)  # said again from the cache


def test_more_than_five_percent(tmp_path):
    folder = put(tmp_path / "p", [f"{i:03}.png" for i in range(100)])
    for i in range(5):
        (folder / f"{i:03}.png").write_bytes(b"x")
    assert len(load(folder).images) == 95
    (folder / "070.png").write_bytes(b"x")
    line = refused(load, folder)
    assert (
        line.startswith(f"{folder}: 6 (000.png: not a picture")
        and "of 100 files cannot be read, more than 5%: mend" in line
    )
    assert line.count(".png") == 3 and "..." in line
    for i in [*range(5), 70]:
        (folder / f"{i:03}.png").write_bytes(png(i))
    assert colours(load(folder)) == list(range(100))


def test_files_that_could_not_be_read_for_a_while(tmp_path, monkeypatch):
    """Nothing in the folder has changed, the disk was away: the failures must not stay."""
    folder = put(tmp_path / "p", [f"{i:03}.png" for i in range(20)])

    def away(*_):
        raise mg.data.build.Unreadable("away")

    monkeypatch.setattr(minigan.data.prepare.build, "decode", away)
    assert "20 (000.png: away" in refused(load, folder)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert colours(load(folder)) == list(range(20))


def test_no_pictures(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "notes.txt").write_text("x")
    assert refused(load, tmp_path / "p").startswith(f"{tmp_path / 'p'}: no pictures in it (.jpg, ")
    assert "cannot be read (No such file" in refused(load, tmp_path / "none")
    assert "expected a folder of pictures or a .zip" in refused(load, tmp_path / "p" / "notes.txt")
    assert "Not a directory" in refused(load, tmp_path / "p" / "notes.txt" / "x")
    with zipfile.ZipFile(tmp_path / "z.zip", "w"):
        pass
    assert "no pictures in it" in refused(load, tmp_path / "z.zip")


@pytest.mark.skipif(not POSIX or os.geteuid() == 0, reason="the root user may read anything")
def test_a_folder_that_may_not_be_read(tmp_path):
    folder = put(tmp_path / "p", ["a/1.png", "b/1.png"])
    (folder / "b").chmod(0)
    try:
        assert f"{folder / 'b'}: cannot be read (Permission denied)" in refused(load, folder)
    finally:
        (folder / "b").chmod(0o700)


# -- the cache ----------------------------------------------------------------------------------


def test_the_second_time_nothing_is_decoded(tmp_path, monkeypatch):
    folder = put(tmp_path / "p", [f"{i}.png" for i in range(9)])
    before = {path: path.stat() for path in folder.rglob("*")}
    first = load(folder)
    assert load.lines[0].startswith(
        f"preparing 9 pictures of {folder} as 4x4x3, once: in {cache_folder()}"
    )
    assert sorted(path.name[:7] for path in entry().iterdir()) == [
        "checked",
        "index.j",
        "lock",
        "pixels-",
    ]
    for module in ("build", "cache"):
        monkeypatch.setattr(f"minigan.data.{module}.sha256_of", None)  # nor is it all read again
    monkeypatch.setattr(minigan.data.prepare.build, "decode", None)
    second = load(folder)
    assert load.lines == [] and second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.images, first.images)
    assert {
        path: path.stat() for path in folder.rglob("*")
    } == before or not POSIX  # and the folder is as it was
    assert not second.images.flags.writeable


@pytest.mark.parametrize(
    "change", ("added", "removed", "other content", "renamed", "touched", "other label")
)
def test_a_changed_folder_is_prepared_again(change, tmp_path):
    folder = put(tmp_path / "p", ["a/1.png", "a/2.png", "b/3.png"])
    old = load(folder)
    before = np.array(old.images)
    if change == "added":
        put(folder, ["a/0.png"], 7)
    elif change == "removed":
        (folder / "a/1.png").unlink()
    elif change == "other content":
        time.sleep(0.02)
        put(folder, ["a/1.png"], 7)
    elif change == "touched":
        os.utime(folder / "a/1.png", (1, 1))
    else:
        (folder / "a/1.png").rename(folder / ("b/1.png" if change == "other label" else "a/9.png"))
    data = load(folder)
    assert (
        load.lines[0]
        == f"{folder}: the pictures have changed since they were prepared: preparing the pictures again"
    )
    assert (
        colours(data)
        == {
            "added": [7, 0, 1, 2],
            "removed": [1, 2],
            "other content": [7, 1, 2],
            "renamed": [1, 0, 2],
            "touched": [0, 1, 2],
            "other label": [1, 0, 2],
        }[change]
    )
    if change == "other label":
        assert data.labels.tolist() == [0, 1, 1]
    if POSIX:
        np.testing.assert_array_equal(
            old.images, before
        )  # whoever trains on the old ones goes on with them
        assert len(list(entry().glob("pixels-*"))) == 1
    load(folder)
    assert load.lines == []


DAMAGE = {
    "pixels gone": lambda folder: next(folder.glob("pixels-*")).unlink(),
    "pixels cut off": lambda folder: os.truncate(next(folder.glob("pixels-*")), 100),
    "pixels empty": lambda folder: os.truncate(next(folder.glob("pixels-*")), 0),
    "a pixel flipped": lambda folder: flip(next(folder.glob("pixels-*")), 77),
    "index cut off": lambda folder: os.truncate(folder / "index.json", 50),
    "index empty": lambda folder: os.truncate(folder / "index.json", 0),
    "index of something else": lambda folder: (folder / "index.json").write_text("[1, 2]"),
    "index lacks a field": lambda folder: edit(folder, lambda index: index.pop("classes")),
    "index has a wrong type": lambda folder: edit(folder, lambda index: index.update(skipped=5)),
    "index has wrong labels": lambda folder: edit(
        folder, lambda index: index.update(labels=[[0, 2], [1, 9]])
    ),
    "index has huge labels": lambda folder: edit(
        folder, lambda index: index.update(labels=[[0, 2**31 - 1]])
    ),
    "index has a label too many": lambda folder: edit(
        folder, lambda index: index.update(labels=[[0, 1], [7, 2]])
    ),
    "index has a wrong count": lambda folder: edit(folder, lambda index: index.update(count=2)),
    "check damaged": lambda folder: (folder / "checked").write_bytes(b"x"),
    "check of something else": lambda folder: (
        (folder / "checked").unlink(),
        (folder / "checked").mkdir(),
    ),
    "all gone": lambda folder: [path.unlink() for path in folder.iterdir()],
    "the folder gone": lambda folder: (
        [path.unlink() for path in folder.iterdir()],
        folder.rmdir(),
    ),
}


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a disk would do it


def edit(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(damage, tmp_path):
    folder = put(tmp_path / "p", ["a/1.png", "a/2.png", "b/3.png"])
    load(folder)
    whole = result(entry())
    DAMAGE[damage](entry())
    assert colours(load(folder)) == [0, 1, 2]
    assert result(entry()) == whole
    said = {
        "all gone": 1,
        "the folder gone": 1,
        "check damaged": 0,
        "check of something else": 0,
    }.get(damage, 2)
    assert len(load.lines) == said and (
        said < 2 or load.lines[0].endswith(": preparing the pictures again")
    )
    if (entry() / "checked").is_file():
        (entry() / "checked").unlink()  # read again, it is still right
    load(folder)
    assert load.lines == []


def test_a_cache_that_cannot_be_written(cache, tmp_path):
    folder = put(tmp_path / "p", ["1.png"])
    cache.mkdir()
    (cache / "minigan").write_text("a file in its place")
    line = refused(load, folder)
    assert (
        line.startswith(str(cache / "minigan"))
        and "cannot be written there (Not a directory): free some space" in line
    )


@pytest.mark.skipif(not POSIX, reason="permissions of POSIX")
@pytest.mark.parametrize("prepared", (False, True))
def test_a_read_only_cache(prepared, tmp_path, monkeypatch):
    folder = put(tmp_path / "p", ["1.png"])
    if prepared:
        load(folder)
    original = open

    def deny(path, mode="r", *args, **options):
        if "r" not in mode or "+" in mode:
            raise PermissionError(13, "Permission denied", path)
        return original(path, mode, *args, **options)

    for module in ("locks", "data.build"):  # chmod does not stop root
        monkeypatch.setattr(f"minigan.{module}.open", deny, raising=False)
    if prepared:
        assert colours(load(folder)) == [0]  # made ready by somebody who may write: it serves
    else:
        assert "cannot be written there (Permission denied)" in refused(load, folder)


@pytest.mark.parametrize("after", (0, 1, 3))
def test_a_full_disk_keeps_what_is_done(after, tmp_path, monkeypatch):
    folder = put(tmp_path / "p", [f"{i:03}.png" for i in range(40)])
    monkeypatch.setattr(minigan.data.prepare.build, "BLOCK", 8)
    note, decoded = minigan.data.prepare.build.Build.note, []

    def full(self, block):
        note(self, block)
        if self.done > 8 * after:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(minigan.data.prepare.build.Build, "note", full)
    assert "cannot be written there (No space left on device): free some space" in refused(
        load, folder
    )
    monkeypatch.setattr(minigan.data.prepare.build.Build, "note", note)
    real = minigan.data.prepare.build.decode
    monkeypatch.setattr(
        minigan.data.prepare.build, "decode", lambda *args: decoded.append(1) or real(*args)
    )
    assert colours(load(folder)) == list(range(40))
    assert load.lines == [
        f"going on with preparing the pictures of {folder}: {8 * after + 8} of 40 are done"
    ]
    assert len(decoded) == 40 - 8 * after - 8


def test_lines_on_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(minigan.data.prepare.build, "EVERY", 0)
    monkeypatch.setattr(minigan.data.prepare.build, "BLOCK", 4)
    load(put(tmp_path / "p", [f"{i}.png" for i in range(9)]))
    assert load.lines[1:] == [
        "4 of 9 pictures prepared",
        "8 of 9 pictures prepared",
        "9 of 9 pictures prepared",
    ]


def test_a_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    load(put(tmp_path / "p", ["1.png", "2.png"]))
    assert "picture/s" in capsys.readouterr().err and len(load.lines) == 1


# -- killed, and side by side -------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """600 pictures in two folders, some of them unreadable, and the cache that an undisturbed process makes of them."""
    home = tmp_path_factory.mktemp("many")
    folder = put(home / "p", [f"{'ab'[i % 2]}/{i:04}.png" for i in range(600)])
    for i in (5, 300, 301):
        (folder / "ab"[i % 2] / f"{i:04}.png").write_bytes(b"no")
    finish(worker(folder, home / "whole"))
    return folder, made(home / "whole")


def worker(folder, cache, block=16):
    """A process that prepares the folder, in small blocks."""
    code = (
        "import sys, minigan.data.prepare.build as c; from minigan.data import load_dataset\n"
        f"c.BLOCK = {block}\n"
        "data = load_dataset('folder', images=sys.argv[1], image_shape=(16, 16, 3), log=lambda line: print(line, flush=True))\n"
        "print('made', len(data.images), data.fingerprint, flush=True)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **dict.fromkeys(("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"), str(cache)),
    }
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment, **pipes)


def finish(process):
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    return out


def made(cache):
    (folder,) = cache.rglob("pictures/*")
    return result(folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_any_instant(many, tmp_path):
    """SIGKILL again and again while it works, then one process to the end: the same bytes as without."""
    folder, whole = many
    rng, kills, resumed = random.Random(time.time_ns()), 0, []
    while kills < 6:
        process = worker(folder, tmp_path)
        first = process.stdout.readline()
        if first.startswith("made"):
            finish(process)
            break
        resumed += [first] if first.startswith("going on") else []
        time.sleep(rng.random() * 0.03)
        process.kill()
        process.communicate()
        kills += 1
    last = finish(worker(folder, tmp_path))
    assert "made 597 " in last and made(tmp_path) == whole
    assert kills >= 1 and (resumed or "going on" in last or kills < 6)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_many_instants(many, tmp_path):
    """From the first import to the end."""
    folder, whole = many
    rng = random.Random(time.time_ns())
    for trial in range(8):
        cache = tmp_path / str(trial)
        for _ in range(2):
            process = worker(folder, cache, block=rng.choice((1, 16, 64)))
            time.sleep(rng.random() * 0.8)
            process.kill()
            process.communicate()
        finish(worker(folder, cache))
        assert made(cache) == whole


def copy_of(many, tmp_path, monkeypatch, damage):
    """Stop a build half-way, damage what it left, go on. -> what comes out"""
    folder, whole = many
    monkeypatch.setattr(minigan.data.prepare.build, "BLOCK", 16)
    add = minigan.data.prepare.build.Build.note

    def stop(self, block):
        add(self, block)
        if self.done >= 320:
            raise KeyboardInterrupt

    monkeypatch.setattr(minigan.data.prepare.build.Build, "note", stop)
    with pytest.raises(KeyboardInterrupt):
        load(folder, (16, 16, 3))
    monkeypatch.setattr(minigan.data.prepare.build.Build, "note", add)
    damage(entry())
    load(folder, (16, 16, 3))
    return result(entry()), whole


def append(path, content):
    with open(path, "ab") as file:
        file.write(content)


@pytest.mark.parametrize(
    "damage, done",
    (
        (lambda folder: None, 320),
        (
            lambda folder: append(folder / "journal", b'{"files": 16, "rows": 16'),
            320,
        ),  # a line that was being written
        (
            lambda folder: append(
                folder / "journal",
                b'{"files": 16, "rows": 16, "crc": 1, "labels": [], "skipped": []}\n',
            ),
            320,
        ),
        (
            lambda folder: append(next(folder.glob("pixels-*")), b"x" * 5000),
            320,
        ),  # a block that was being written
        (
            lambda folder: os.truncate(next(folder.glob("pixels-*")), 100 * 768),
            96,
        ),  # the power failed: the journal is ahead
        (lambda folder: flip(next(folder.glob("pixels-*")), 100 * 768), 96),
        (lambda folder: next(folder.glob("pixels-*")).unlink(), None),
        (lambda folder: (folder / "journal").write_bytes(b""), None),
        (lambda folder: (folder / "journal").write_bytes(b"[]\n"), None),
        (lambda folder: (folder / "journal").unlink(), None),
        (lambda folder: (folder / "listing").unlink(), None),
    ),
    ids=range(11),
)
def test_going_on_after_a_stop(damage, done, many, tmp_path, monkeypatch):
    got, whole = copy_of(many, tmp_path, monkeypatch, damage)
    assert got == whole
    assert load.lines[0].startswith("preparing" if done is None else "going on")
    assert done is None or f": {done} of 600 are done" in load.lines[0]


def test_a_listing_that_was_cut_off(many, tmp_path, monkeypatch):
    with pytest.raises(
        mg.DataError,
        match=r"listing: ends after 320 names of 600: is the disk in order. Start again",
    ):
        copy_of(
            many, tmp_path, monkeypatch, lambda folder: os.truncate(folder / "listing", 320 * 30)
        )
    load(many[0], (16, 16, 3))
    assert load.lines[0].startswith("preparing 600") and result(entry()) == many[1]


def test_a_folder_that_changes_between_stop_and_going_on(tmp_path, monkeypatch):
    folder = put(tmp_path / "p", [f"{i:03}.png" for i in range(64)])
    monkeypatch.setattr(minigan.data.prepare.build, "BLOCK", 16)
    note = minigan.data.prepare.build.Build.note

    def stop(self, block):
        note(self, block)
        raise KeyboardInterrupt

    monkeypatch.setattr(minigan.data.prepare.build.Build, "note", stop)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    monkeypatch.setattr(minigan.data.prepare.build.Build, "note", note)
    (folder / "000.png").write_bytes(png(500))
    assert colours(load(folder)) == [500, *range(1, 64)]
    assert len(list(entry().glob("pixels-*"))) == 1


def test_two_processes_at_once(many, tmp_path):
    folder, whole = many
    one, two = worker(folder, tmp_path, block=2), worker(folder, tmp_path, block=2)
    outs = sorted((finish(one), finish(two)), key=len)
    assert [out.splitlines()[-1] for out in outs] == [outs[0].splitlines()[-1]] * 2
    begun = [out for out in outs if "preparing 600 pictures" in out]
    assert len(begun) == 1  # the other waited, or came when all was done
    assert made(tmp_path) == whole


@pytest.mark.skipif(not POSIX, reason="takes the lock as POSIX does")
def test_waiting_is_said_once(tmp_path, monkeypatch):
    import fcntl
    import threading

    folder = put(tmp_path / "p", ["1.png"])
    load(folder)
    whole = result(entry())
    (entry() / "index.json").unlink()
    with open(entry() / "lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def finish_work():
            time.sleep(0.5)
            for name, content in whole.items():
                (entry() / name).write_bytes(content)
            fcntl.flock(file, fcntl.LOCK_UN)

        thread = threading.Thread(target=finish_work)
        thread.start()
        assert colours(load(folder)) == [0]
        thread.join()
    assert load.lines == [f"{folder}: another process is preparing these pictures: waiting for it"]


# -- archives -----------------------------------------------------------------------------------


def archive(path, names, method=zipfile.ZIP_DEFLATED, start=0):
    with zipfile.ZipFile(path, "w", method) as file:
        for i, name in enumerate(names, start):
            file.writestr(name, png(i))
    return path


@pytest.mark.parametrize("method", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
def test_an_archive_is_like_its_folder(method, tmp_path):
    names = [
        "b/2.png",
        "a/1.PNG",
        "a/.hidden.png",
        "__MACOSX/a/1.png",
        "a/sub/3.png",
        "b/notes.txt",
        "c é/1.png",
    ]
    folder, zipped = (
        load(put(tmp_path / "p", names)),
        load(archive(tmp_path / "p.zip", names, method)),
    )
    np.testing.assert_array_equal(zipped.images, folder.images)
    np.testing.assert_array_equal(zipped.labels, folder.labels)
    assert (
        zipped.classes == folder.classes == ("a", "b", "c é")
        and zipped.fingerprint == folder.fingerprint
    )


@pytest.mark.parametrize(
    "names, classes",
    (
        (["p/a/1.png", "p/b/2.png"], ("a", "b")),
        (["p/q/a/1.png", "p/q/b/2.png", "__MACOSX/p/q/b/._2.png"], ("a", "b")),
        (["p/1.png", "p/2.png"], ()),
        (["p/ab/1.png", "p/ac/2.png"], ("ab", "ac")),
        (["p/1.png", "p/b/2.png"], ()),
        (["1.png"], ()),
        (["p\\a\\1.png", "p\\b\\2.png"], ("a", "b")),  # as some programs of Windows write it
    ),
)
def test_the_folder_that_was_zipped_is_passed_over(names, classes, tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for i, name in enumerate(names):
            info = zipfile.ZipInfo("x")
            info.filename = name
            file.writestr(info, png(i))
    assert load(tmp_path / "z.zip").classes == classes


def test_names_that_lead_out_are_only_names(tmp_path):
    names = [
        "../../evil.png",
        "/abs/1.png",
        "a/../../2.png",
        "C:\\x\\3.png",
        "./4.png",
        "a/5.png",
        "a//6.png",
        "nul\0.png",
    ]
    before = sorted(tmp_path.rglob("*.png"))
    data = load(archive(tmp_path / "z.zip", names))
    assert colours(data) == [3, 5, 6, 1] and data.classes == ("C:", "a", "abs")
    assert sorted(tmp_path.rglob("*.png")) == before


def test_the_later_of_two_with_one_name(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(tmp_path / "z.zip", ["a.png", "b.png", "a.png", "a.png"])
    assert colours(load(tmp_path / "z.zip")) == [3, 1]


def test_changed_archive(tmp_path):
    names = ["a.png", "b.png"]
    assert colours(load(archive(tmp_path / "z.zip", names))) == [0, 1]
    assert colours(load(archive(tmp_path / "z.zip", names, start=5))) == [5, 6]
    assert "changed" in load.lines[0]


def edit_directory(content, number, **fields):
    """Change numbers in an archive's directory, of its member `number`."""
    at = {
        "flags": (8, "<H"),
        "method": (10, "<H"),
        "crc": (16, "<L"),
        "packed": (20, "<L"),
        "size": (24, "<L"),
        "offset": (42, "<L"),
    }
    content, start = bytearray(content), content.index(b"PK\x01\x02")
    for _ in range(number):
        start = content.index(b"PK\x01\x02", start + 4)
    for name, value in fields.items():
        where, layout = at[name]
        struct.pack_into(layout, content, start + where, value)
    return bytes(content)


@pytest.mark.parametrize(
    "fields, said",
    (
        ({"flags": 1}, "encrypted"),
        ({"method": 12}, "compressed by method 12, expected deflate or none"),
        ({"size": 10}, "damaged: not 10 bytes, as declared"),
        ({"size": 10**6}, "damaged: not 1000000 bytes, as declared"),
        ({"size": 10**9}, "953 MiB large, expected at most 64"),
        ({"packed": 10**9}, "953 MiB large, expected at most 64"),
        ({"packed": 5}, "damaged"),
        ({"crc": 1}, "damaged: wrong CRC-32"),
        ({"offset": 3}, "damaged: its data are not where the directory says"),
        ({"offset": 10**9}, "damaged"),
    ),
    ids=str,
)
def test_a_member_that_lies(fields, said, tmp_path):
    names = [f"{i:02}.png" for i in range(40)]
    content = archive(tmp_path / "z.zip", names).read_bytes()
    (tmp_path / "z.zip").write_bytes(edit_directory(content, 7, **fields))
    assert colours(load(tmp_path / "z.zip")) == [i for i in range(40) if i != 7]
    assert any(f"skipped 1 (07.png: {said}" in line for line in load.lines), load.lines


def test_a_zip_bomb_takes_no_memory(tmp_path):
    """192 MiB of zeros in 192 KiB: as it is, and with a declared size that is small."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("00.png", "w", force_zip64=True) as member:
            for _ in range(12):
                member.write(bytes(1 << 24))
        for i in range(1, 40):
            file.writestr(f"{i:02}.png", png(i))
    (tmp_path / "z.zip").write_bytes(bomb.getvalue())
    (tmp_path / "y.zip").write_bytes(edit_directory(bomb.getvalue(), 0, size=1000))
    code = (
        "import sys; from benchmarks.machine import peak_mib; from minigan.data import load_dataset\n"
        "for path in sys.argv[1:]: load_dataset('folder', images=path, image_shape=(4, 4, 3))\n"
        "print(peak_mib())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, tmp_path / "z.zip", tmp_path / "y.zip"]
    out = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert "192 MiB large" in out and "not 1000 bytes, as declared" in out
    assert float(out.splitlines()[-1]) < 150


def test_damaged_archives(tmp_path):
    content = archive(tmp_path / "z.zip", ["a.png", "b.png"]).read_bytes()
    cases = [
        content[:-1],
        content[:100],
        content[:-30],
        content + b"more",
        b"PK\x03\x04" + bytes(100),
        b"PK",
        content[:-22] + content[-22:-12] + b"\xff\xff\xff\x7f" + content[-8:],
        content[:-12] + b"\xff" * 8 + content[-4:],
        content.replace(b"PK\x01\x02", b"PK\x01\x03"),
    ]
    for case in cases:
        (tmp_path / "z.zip").write_bytes(case)
        assert (
            refused(load, tmp_path / "z.zip")
            == f"{tmp_path / 'z.zip'}: is not a whole .zip file: fetch or make it again"
        )


def test_no_flipped_byte_of_an_archive_lets_anything_else_out(tmp_path):
    content = archive(tmp_path / "z.zip", [f"{i:02}.png" for i in range(25)]).read_bytes()
    rng = random.Random(0)
    path = tmp_path / "y.zip"
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with open(path, "rb") as file:
            try:
                for _, member in zips.members(file, path):
                    zips.LAYOUT.pack(*member)
                    try:
                        position = file.tell()
                        zips.read_member(file, member)
                    except zips.BadMember:
                        pass
                    file.seek(position)
            except mg.DataError:
                pass


def test_archives_as_zipfile_reads_them(tmp_path):
    """Something before it, a comment, 64-bit numbers, sizes behind the data, many members."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(65_540):  # more than 16 bits can count
            file.writestr(f"{i}.txt", b"")
        with file.open("a.png", "w", force_zip64=True) as member:
            member.write(png(1))
        file.comment = b"made by hand"
    program = b"#!/bin/sh\n" * 100
    (tmp_path / "y.zip").write_bytes(b"PK" + program + path.read_bytes())
    unseekable = io.BytesIO()
    unseekable.seekable = lambda: False
    with zipfile.ZipFile(unseekable, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", png(1))
    (tmp_path / "x.zip").write_bytes(unseekable.getvalue())
    for name in "xyz":
        with (
            open(tmp_path / f"{name}.zip", "rb") as file,
            zipfile.ZipFile(tmp_path / f"{name}.zip") as theirs,
        ):
            assert [name for name, _ in zips.members(file, name)] == theirs.namelist()
        assert colours(load(tmp_path / f"{name}.zip")) == [1]


def test_an_end_record_inside_of_the_comment(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("a.png", png(1))
        file.comment = b"PK\x05\x06" + bytes(30)
    assert colours(load(tmp_path / "z.zip")) == [1]


def test_numbers_that_need_64_bits():
    extra = struct.pack("<HHLL", 0x5455, 8, 0, 0) + struct.pack("<HHQQ", 1, 16, 5 << 32, 7 << 32)
    full = zips.FULL32
    assert zips.wide_numbers(extra, full, 99, full) == [5 << 32, 99, 7 << 32]
    for short in (b"", extra[:12], struct.pack("<HHQ", 1, 8, 5)):
        with pytest.raises(ValueError):
            zips.wide_numbers(short, full, 99, full)


def test_the_hash_is_of_the_pixels(tmp_path):
    load(put(tmp_path / "p", ["1.png", "2.png"]))
    index = json.loads((entry() / "index.json").read_text())
    assert (
        index["sha256"] == hashlib.sha256(next(entry().glob("pixels-*")).read_bytes()).hexdigest()
    )
