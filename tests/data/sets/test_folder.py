"""Folders of pictures: labels, order, unreadable files, and the cache."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.data import load_dataset
from minigan.data.files.decode import Form, Unreadable, decode
from minigan.data.files.locations import cache_folder
from minigan.data.files.png import save_png
from minigan.data.prepare import build, file_index
from minigan.data.prepare.resize import parse_fit
from minigan.file_lock import locked
from minigan.report.animation import encode
from minigan.report.plots import drawing
from minigan.report.plots import png as encoded
from tests.support.pictures import archive, colors, png, put
from tests.support.refusals import refusal

ROOT = Path(__file__).parents[3]
POSIX = os.name == "posix"


def load(path, shape=(4, 4, 3), **options):
    """load_dataset; its lines for the user are load.lines."""
    load.lines = []
    return load_dataset("folder", images=path, image_shape=shape, log=load.lines.append, **options)


def entry():
    """-> the only folder of prepared pictures"""
    (folder,) = (cache_folder() / "pictures").iterdir()
    return folder


def content(folder):
    """-> the files of prepared pictures, by name"""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def test_prepared_pictures_that_cannot_be_opened_are_one_line(tmp_path, monkeypatch):
    """As with few file descriptors, or little address space."""

    def fail(*arguments, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    put(tmp_path, ["a.png"])
    monkeypatch.setattr(np, "memmap", fail)
    assert "cannot be opened: free some memory, or raise ulimit" in refusal(load, tmp_path)


# ---- labels and order


def test_labels_are_the_folders(tmp_path):
    names = ["b/2.png", "a/1.PNG", "b/1.Png", "a-b/1.png", "a/deep/er/2.png", "c é/1.png"]
    data = load(put(tmp_path / "p", names))
    assert data.name == "folder" and data.classes == ("a", "a-b", "b", "c é") and data.note is None
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 3] and data.labels.dtype == np.int32
    assert colors(data) == [1, 4, 3, 2, 0, 5]  # sorted by name, folder by folder
    assert isinstance(data.images, np.memmap) and data.images.shape == (6, 4, 4, 3)
    assert not data.images.flags.writeable


def test_no_labels_if_pictures_lie_at_the_top(tmp_path):
    data = load(put(tmp_path / "p", ["b/1.png", "c.png", "a.png"]))
    assert data.labels is None and data.classes == () and colors(data) == [2, 0, 1]


def test_pictures_beside_the_folders_are_named(tmp_path):
    names = [f"{i}/1.png" for i in range(1, 11)]
    folder = put(tmp_path / "p", names)
    assert load(folder).classes == ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
    put(folder, ["stray.png"])
    data = load(folder)
    assert data.classes == () and data.unlabeled.endswith("lie beside the folders: stray.png")
    assert load.lines[-1] == f"{folder}: no classes: {data.unlabeled}"
    assert load(put(tmp_path / "flat", ["1.png", "2.png"])).unlabeled == ""


def test_folders_without_pictures_are_named(tmp_path):
    folder = put(tmp_path / "p", ["1/1.png", "3/1.heic", "10/1.png"])
    (folder / "2").mkdir()
    assert load(folder).classes == ("1", "10")
    assert load.lines[-1] == f"{folder}: no pictures in the folders 2, 3"


def test_what_minigan_wrote_is_left_out(tmp_path):
    pytest.importorskip("matplotlib")
    folder = put(tmp_path / "p", ["a/1.png", "b/2.png"])
    first = load(folder)
    save_png(folder / "grid.png", np.zeros((4, 4, 3), np.uint8))
    frames = [Image.new("L", (4, 4), i) for i in range(2)]
    encode(folder / "b/walk.gif", frames, [1, 1])
    encode(folder / "b/walk.webp", frames, [1, 1])
    with drawing(1, 1) as figure:
        (folder / "a/losses.png").write_bytes(encoded(figure))
    data = load(folder)
    left_out = "left out 4 pictures of minigan: a/losses.png, b/walk.gif, b/walk.webp, "
    assert load.lines[-1] == f"{folder}: {left_out}grid.png"
    assert data.classes == ("a", "b") and data.fingerprint == first.fingerprint
    alone = put(tmp_path / "q", [])
    alone.mkdir()
    save_png(alone / "grid.png", np.zeros((4, 4, 3), np.uint8))
    assert len(load(alone).images) == 1  # samples, to train on
    assert load.lines[-1] == f"{alone}: minigan wrote all of these pictures: using them"


def test_a_limit_does_not_count_what_minigan_wrote(tmp_path):
    """A run may save its samples beside the pictures that it was trained on."""
    folder = put(tmp_path / "p", ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    fingerprints = {limit: load(folder, limit=limit).fingerprint for limit in (2, 3, 4, 5)}
    for name in ("0-grid.png", "a/0-grid.png", "zz.png"):
        save_png(folder / name, np.zeros((4, 4, 3), np.uint8))
    for limit, fingerprint in fingerprints.items():
        data = load(folder, limit=limit)
        assert data.fingerprint == fingerprint and data.classes == ("a", "b")[: 1 + (limit > 2)]
        assert not any("minigan wrote" in line or "no classes" in line for line in load.lines)


def test_an_archive_repeats_what_it_leaves_out(tmp_path):
    path = archive(tmp_path / "z.zip", ["p/a.png", "p/b.heic"])
    for _ in range(2):  # the second time from the cache
        load(path)
        assert load.lines[-1].startswith(f"{path}: left out 1 file: 1 .heic; minigan takes .jpg ")


def test_a_folder_as_minigan_0_2_0_listed_it(tmp_path):
    """A run that was trained on it goes on only with the same pictures in the same order."""
    numbers = (1, 2, 10)
    folder = put(tmp_path / "p", [*(f"{k}/{i}.png" for k in numbers for i in numbers), "1/3.tif"])
    old = load(folder, as_text=True)
    assert old.classes == ("1", "10", "2") and old.fingerprint == "2e431089eb8c3243"
    assert old.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    new = load(folder)
    assert new.classes == ("1", "2", "10") and len(new.images) == 10


def test_limit(tmp_path):
    folder = put(tmp_path / "p", [f"{'ab'[i // 6]}/{i:02}.png" for i in range(12)])
    data = load(folder, limit=8)
    assert colors(data) == list(range(8)) and data.labels.tolist() == [0] * 6 + [1] * 2
    data = load(folder, limit=5)
    assert colors(data) == list(range(5)) and data.classes == ("a",)
    assert colors(load(folder, limit=100)) == list(range(12))


def test_more_pictures_than_are_decoded_at_a_time(tmp_path):
    names = [f"{'ab'[i % 2]}/{i:03}.png" for i in range(300)]
    data = load(put(tmp_path / "p", names))
    assert colors(data) == [*range(0, 300, 2), *range(1, 300, 2)]
    assert data.labels.tolist() == [0] * 150 + [1] * 150


def test_each_size_and_fit_has_its_own_cache(tmp_path):
    folder = put(tmp_path / "p", ["1.png", "2.png"])
    shapes = ((4, 4, 3), (4, 4, 1), (2, 8, 3))
    for shape in shapes:
        for fit in ("crop", "squash", "centre:3"):
            assert load(folder, shape, fit=fit).images.shape == (2, *shape)
    assert len(os.listdir(cache_folder() / "pictures")) == 9


def test_equal_pixels_have_the_same_fingerprint(tmp_path):
    names = ["a/1.png", "b/2.png"]
    data = load(put(tmp_path / "p", names))
    assert load(put(tmp_path / "q", names)).fingerprint == data.fingerprint
    others = [
        load(put(tmp_path / "r", names, 5)),
        load(put(tmp_path / "s", ["a/1.png", "a/2.png"])),
        load(tmp_path / "p", (4, 4, 1)),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_the_path_may_be_text_with_a_tilde_or_relative(home, monkeypatch):
    put(home / "mine", ["1.png"])
    monkeypatch.chdir(home)
    assert colors(load("~/mine")) == colors(load("mine")) == colors(load(home / "mine")) == [0]
    entry()  # only one


# ---- unreadable files


def test_unreadable_files_are_skipped_by_name(tmp_path):
    folder = put(tmp_path / "p", [f"{'ab'[i % 2]}/{i:03}.png" for i in range(100)])
    (folder / "a" / "000.png").write_bytes(b"")
    (folder / "b" / "051.png").write_bytes(png(51)[:50])
    (folder / "b" / "099.png").write_text("<html>")
    data = load(folder)
    assert len(data.images) == 97 and data.labels.tolist() == [0] * 49 + [1] * 48
    order = [*range(0, 100, 2), *range(1, 100, 2)]
    assert colors(data) == [i for i in order if i not in (0, 51, 99)]
    line = load.lines[-1]
    assert line.startswith(
        "skipped 3 (a/000.png: not a picture in JPEG, PNG, WebP, BMP, GIF, TIFF or PPM; b/051.png: "
    )
    where = f"all of them are listed in {entry() / 'index.json'}"
    assert line.endswith(f"of 100 files that cannot be read; {where}")
    skipped = json.loads((entry() / "index.json").read_text())["skipped"]
    assert [name for name, _ in skipped] == ["a/000.png", "b/051.png", "b/099.png"]
    load(folder)
    assert load.lines == [line]  # repeated from the cache


def test_more_than_five_percent_is_an_error(tmp_path):
    folder = put(tmp_path / "p", [f"{i:03}.png" for i in range(100)])
    bad = [folder / f"{i:03}.png" for i in (0, 1, 2, 3, 4, 70)]
    for path in bad[:5]:
        path.write_bytes(b"x")
    assert len(load(folder).images) == 95
    bad[5].write_bytes(b"x")
    message = refusal(load, folder)
    assert message.startswith(f"{folder}: 6 (000.png: not a picture")
    assert (
        "of the first 72 files cannot be read, more than 5% of 100: repair or remove them"
        in message
    )
    assert message.count(".png") == 3 and "..." in message
    for path in bad:
        path.write_bytes(png(int(path.stem)))
    assert colors(load(folder)) == list(range(100))


def test_files_that_could_not_be_read_for_a_while(tmp_path, monkeypatch):
    """The folder has not changed, a disk was away: the failure must not stay."""
    folder = put(tmp_path / "p", ["0.png", "1.png"])

    def away(*_):
        raise Unreadable("away")

    with monkeypatch.context() as patch:
        patch.setattr(build, "decode", away)
        assert "2 (0.png: away" in refusal(load, folder)
    assert colors(load(folder)) == [0, 1]


def test_a_file_that_the_system_could_not_read_is_tried_again(tmp_path, monkeypatch):
    """Its permissions, perhaps: neither its size nor its time changes when it can be read."""
    folder = put(tmp_path / "p", [f"{i:02}.png" for i in range(30)])
    archive(tmp_path / "z.zip", [f"{i:02}.png" for i in range(30)])
    for path, opener in ((folder, "Tree"), (tmp_path / "z.zip", "Archive")):
        kind = getattr(file_index, opener)

        def denied(source, name, real=kind.open):
            if name == "07.png":
                raise PermissionError(13, "Permission denied")
            return real(source, name)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "open", denied)
            for _ in range(2):
                assert len(load(path).images) == 29
            (line,) = load.lines  # the second time from the cache
            assert line.startswith("skipped 1 (07.png: Permission denied) of 30 files")
        assert colors(load(path)) == list(range(30))
        load(path)
        assert load.lines == []


def test_a_failing_disk_is_no_damage_of_a_picture(tmp_path):
    """It is reported as the system says it, and tried again the next time."""

    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        decode(Failing(), Form((4, 4, 3), parse_fit("crop")))


def test_background_and_most_pixels_have_their_own_cache(tmp_path):
    (tmp_path / "p").mkdir()
    Image.new("LA", (4, 4), (9, 0)).save(tmp_path / "p" / "1.png")
    for background, color in (("white", 255), ("black", 0), ("1,20,255", (1, 20, 255))):
        data = load(tmp_path / "p", background=background)
        assert np.all(data.images == color) and data.traits["transparent"] == 1
        assert load(tmp_path / "p", background=background).traits == data.traits
    for wrong in ("grey", "1,2", "256,0,0", "-1,0,0", ""):
        message = refusal(load, tmp_path / "p", background=wrong, kind=mg.ConfigError)
        assert message.startswith("--background must be white, black or R,G,B such as 128,128,128")
    assert len(load(tmp_path / "p", max_pixels=16).images) == 1
    message = refusal(load, tmp_path / "p", max_pixels=7)
    assert "4 x 4 pixels, a decompression bomb; --max-pixels 16 allows it" in message


def test_a_picture_that_pillow_would_refuse(monkeypatch):
    """Its limit belongs to the whole process, and may be lower."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    for shape in ((4, 4, 3), (4, 3, 3)):
        form = Form(shape, parse_fit("crop"))
        assert decode(io.BytesIO(png(7)), form)[0, 0].tolist() == [7, 0, 9]


def test_traits_count_what_a_user_may_want_to_know(tmp_path):
    (tmp_path / "p").mkdir()
    frames = [Image.new("L", (6, 4), value) for value in (0, 255, 9)]
    frames[0].save(tmp_path / "p" / "1.gif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "p" / "2.gif")
    traits = load(tmp_path / "p", (8, 4, 1)).traits
    assert traits == {"animated": 1, "turned": 2}
    assert load(tmp_path / "p", (4, 8, 1)).traits == {"animated": 1}
    assert load(tmp_path / "p", (4, 4, 1)).traits == {"animated": 1}
    assert load(tmp_path / "p", (5, 7, 1)).traits == {"animated": 1, "small": 2}


@pytest.mark.skipif(not POSIX, reason="links need rights on Windows")
def test_nothing_is_deleted_through_a_link(tmp_path):
    folder, mine = put(tmp_path / "p", ["1.png"]), tmp_path / "mine"
    load(folder)
    place = entry()
    (place / "notes.txt").write_text("not minigan's")
    put(folder, ["2.png"])
    load(folder)
    assert (place / "notes.txt").exists()
    place.rename(mine)
    place.symlink_to(mine)
    put(folder, ["3.png"])
    before = content(mine)
    assert f"{place}: is a link: delete it, or set XDG_CACHE_HOME" in refusal(load, folder)
    assert content(mine) == before


def test_no_pictures(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "notes.txt").write_text("x")
    assert refusal(load, tmp_path / "p").startswith(f"{tmp_path / 'p'}: no pictures in it (JPEG, ")
    assert "no pictures in it" in refusal(load, archive(tmp_path / "z.zip", []))
    assert "cannot be read (No such file" in refusal(load, tmp_path / "none")
    assert "expected a folder of pictures, or a .zip" in refusal(load, tmp_path / "p" / "notes.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "a.zip")  # opening it would wait for ever
        assert "it is no regular file" in refusal(load, tmp_path / "a.zip")
    assert "Not a directory" in refusal(load, tmp_path / "p" / "notes.txt" / "x")
    assert not cache_folder().exists()


# ---- the cache


def states(folder):
    """-> path -> what a write would change, and reading would not"""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path: (s.st_ino, s.st_mode, s.st_size, s.st_ctime_ns) for path, s in found.items()}


def test_nothing_is_decoded_the_second_time(tmp_path, monkeypatch):
    folder = put(tmp_path / "p", [f"{i}.png" for i in range(9)])
    before = states(folder)
    first = load(folder)
    assert load.lines == [f"preparing 9 pictures of {folder} as 4x4x3, once: in {entry()}"]
    assert sorted(path.name[:7] for path in entry().iterdir()) == ["index.j", "lock", "pixels-"]
    monkeypatch.setattr(build, "decode", None)
    second = load(folder)
    assert load.lines == [] and second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.images, first.images)
    if POSIX:  # the folder was only read
        assert states(folder) == before


CHANGES = {  # change: (the change, the colors and labels after it)
    "added": (lambda p: put(p, ["a/0.png"], 7), [7, 0, 1, 2], [0, 0, 0, 1]),
    "removed": (lambda p: (p / "a/1.png").unlink(), [1, 2], [0, 1]),
    "other content": (lambda p: put(p, ["a/1.png"], 300), [300, 1, 2], [0, 0, 1]),
    "renamed": (lambda p: (p / "a/1.png").rename(p / "a/9.png"), [1, 0, 2], [0, 0, 1]),
    "touched": (lambda p: os.utime(p / "a/1.png", (1, 1)), [0, 1, 2], [0, 0, 1]),
    "other label": (lambda p: (p / "a/1.png").rename(p / "b/1.png"), [1, 0, 2], [0, 1, 1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_prepared_again(change, tmp_path):
    make, wanted, labels = CHANGES[change]
    folder = put(tmp_path / "p", ["a/1.png", "a/2.png", "b/3.png"])
    old = load(folder)
    before = np.array(old.images)
    time.sleep(0.01)
    make(folder)
    data = load(folder)
    again = "has changed, or its cache is damaged: preparing the pictures again"
    assert load.lines[0] == f"{folder}: {again}"
    assert colors(data) == wanted and data.labels.tolist() == labels
    if POSIX:
        np.testing.assert_array_equal(old.images, before)  # another process may be training on it
        assert len(list(entry().glob("pixels-*"))) == 1
    load(folder)
    assert load.lines == []


@pytest.mark.skipif(not POSIX, reason="needs the time of the last change of a file's status")
def test_a_file_replaced_with_the_same_size_and_time_is_noticed(tmp_path):
    """As `cp -p` and `rsync -t` do."""
    folder, other = put(tmp_path / "p", ["1.png", "2.png"]), put(tmp_path / "q", ["1.png"], 5)
    load(folder)
    before = (folder / "1.png").stat()
    assert len(png(5)) == before.st_size
    os.utime(other / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    (other / "1.png").replace(folder / "1.png")
    assert colors(load(folder)) == [5, 1]


def change_index(folder, **fields):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | fields))


DAMAGE = {  # damage: (the damage, number of lines for the user after it)
    "pixels gone": (lambda folder: next(folder.glob("pixels-*")).unlink(), 2),
    "pixels cut off": (lambda folder: os.truncate(next(folder.glob("pixels-*")), 100), 2),
    "pixels empty": (lambda folder: os.truncate(next(folder.glob("pixels-*")), 0), 2),
    "index cut off": (lambda folder: os.truncate(folder / "index.json", 50), 2),
    "index of another kind": (lambda folder: (folder / "index.json").write_text("[1]"), 2),
    "index with a wrong type": (lambda folder: change_index(folder, counts=5), 2),
    "index with a wrong count": (lambda folder: change_index(folder, counts=[2, 2]), 2),
    "index gone": (lambda folder: (folder / "index.json").unlink(), 1),
    "all gone": (lambda folder: [path.unlink() for path in folder.iterdir()], 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_built_again(damage, tmp_path):
    folder = put(tmp_path / "p", ["a/1.png", "a/2.png", "b/3.png"])
    load(folder)
    whole = content(entry())
    do, lines = DAMAGE[damage]
    do(entry())
    assert colors(load(folder)) == [0, 1, 2] and len(load.lines) == lines
    assert content(entry()) == whole
    load(folder)
    assert load.lines == []


def test_a_cache_that_cannot_be_written(home, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(sys, "platform", "linux")
    (home / "minigan").write_text("a file instead of a folder")
    message = refusal(load, put(tmp_path / "p", ["1.png"]))
    assert message.startswith(str(home / "minigan"))
    assert "cannot be written (Not a directory): free some space" in message


def test_prepared_pictures_are_used_from_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    folder = put(tmp_path / "p", ["1.png"])
    load(folder)

    def deny(*_, **__):  # chmod does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("minigan.file_lock.open_regular", deny)
    assert colors(load(folder)) == [0]
    assert "cannot be written (Permission denied)" in refusal(load, folder, (2, 2, 3))


@pytest.mark.parametrize("call", ("fsync", "replace"))
def test_a_full_disk_leaves_nothing_behind(call, tmp_path, monkeypatch):
    folder = put(tmp_path / "p", ["0.png", "1.png"])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        message = refusal(load, folder)
    assert "cannot be written (No space left on device): free some space" in message
    assert os.listdir(entry()) == ["lock"]
    assert colors(load(folder)) == [0, 1]


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = put(tmp_path / "p", [f"{i:03}.png" for i in range(100)])
    decode, calls = build.decode, count()

    def interrupted(*arguments):
        if next(calls) == 20:
            raise KeyboardInterrupt
        return decode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(build, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(folder)
    assert os.listdir(entry()) == ["lock"]
    assert colors(load(folder)) == list(range(100))


def test_lines_and_bars_show_the_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "INTERVAL", 0)
    monkeypatch.setattr(build, "BLOCK", 4)
    load(put(tmp_path / "p", [f"{i}.png" for i in range(9)]))
    assert load.lines[1:] == [f"{i} of 9 pictures prepared" for i in (4, 8, 9)]
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    load(tmp_path / "p", (2, 2, 3))
    assert "0/9" in capsys.readouterr().err and len(load.lines) == 1


# ---- killed, and two at once


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """-> 600 pictures, some unreadable, and the cache that an undisturbed process makes of them"""
    home = tmp_path_factory.mktemp("many")
    folder = put(home / "p", [f"{'ab'[i % 2]}/{i:04}.png" for i in range(600)])
    for i in (5, 300, 301):
        (folder / "ab"[i % 2] / f"{i:04}.png").write_bytes(b"no")
    finish(start(folder, home / "whole"))
    return folder, cached(home / "whole")


def start(folder, cache):
    """-> a process that prepares the folder"""
    code = (
        "import sys; from minigan.data import load_dataset\n"
        "def log(line): print(line, flush=True)\n"
        "data = load_dataset('folder', images=sys.argv[1], image_shape=(16, 16, 3), log=log)\n"
        "print('made', len(data.images), data.fingerprint, flush=True)"
    )
    places = dict.fromkeys(("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"), str(cache))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    return out


def cached(cache):
    (folder,) = cache.rglob("pictures/*")
    return content(folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kills", (3, pytest.param(20, marks=pytest.mark.slow)))
def test_a_build_that_is_killed_leaves_nothing_half_made(kills, many, tmp_path):
    """SIGKILL again and again, then one process to the end: the same bytes as without."""
    folder, whole = many
    rng = np.random.default_rng()
    for _ in range(kills):
        process = start(folder, tmp_path)
        assert process.stdout.readline().startswith("preparing 600")
        time.sleep(rng.random() * 0.1)
        process.kill()
        if "made" in process.communicate()[0]:
            break  # too late
    assert "made 597 " in finish(start(folder, tmp_path))
    assert cached(tmp_path) == whole  # and no temporary files


def test_two_processes_at_once(many, tmp_path):
    folder, whole = many
    processes = [start(folder, tmp_path) for _ in range(2)]
    outs = [finish(process) for process in processes]
    assert outs[0].splitlines()[-1] == outs[1].splitlines()[-1]
    assert sum("preparing 600 pictures" in out for out in outs) == 1  # the other one waited
    assert cached(tmp_path) == whole


def test_waiting_for_another_process_is_reported_once(tmp_path):
    folder = put(tmp_path / "p", ["1.png"])
    load(folder)
    whole = content(entry())
    (entry() / "index.json").unlink()
    with locked(entry() / "lock", on_wait=None):
        thread = threading.Thread(target=load, args=(folder,))
        thread.start()
        while not load.lines:
            time.sleep(0.01)
        (entry() / "index.json").write_bytes(whole["index.json"])
    thread.join()
    assert load.lines == [f"{folder}: another process is preparing these pictures: waiting for it"]
