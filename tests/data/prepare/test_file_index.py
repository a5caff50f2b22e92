"""Which files of a folder or .zip are pictures, and .zip files that lie or are damaged."""

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import minigan as mg
from minigan.data import load_dataset
from minigan.data.files.decode import SUFFIXES, Unreadable
from minigan.data.prepare.file_index import Archive, Tree
from tests.support.pictures import archive, colors, png, put
from tests.support.refusals import refusal

ROOT = Path(__file__).parents[3]


def load(path):
    """load_dataset; its lines for the user are load.lines."""
    load.lines = []
    return load_dataset("folder", images=path, image_shape=(4, 4, 3), log=load.lines.append)


# ---- folders


def test_what_is_a_picture(tmp_path):
    suffixes = (*SUFFIXES, ".JPEG", ".PNG", ".Tiff")
    pictures = [*(f"{i}{suffix}" for i, suffix in enumerate(suffixes)), "x.jpg/8.png"]
    hidden = [".9.png", ".git/9.png", "__MACOSX/9.png", "a/.hidden/9.png"]
    others = ["a/9.txt", "a/9.heic", "a/png", "a/9.png.part"]
    folder = put(tmp_path, pictures + hidden + others)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")  # opening it would wait for ever
    assert Tree(folder).names() == pictures


def test_numbers_in_names_are_sorted_by_their_value(tmp_path):
    names = ["2/9.png", "2/10.png", "10/1.png", "a/x2y.png", "a/x010y.png", "a/x10y.png"]
    folder = put(tmp_path, names[::-1])
    assert Tree(folder).names() == names
    old = ["10/1.png", "2/10.png", "2/9.png", "a/x010y.png", "a/x10y.png", "a/x2y.png"]
    assert Tree(folder, as_text=True).names() == old


def test_classes_of_equal_numbers_are_not_mixed(tmp_path):
    names = ["001/1.png", "01/1.png", "01/2.png", "1/1.png", "1/2.png"]
    put(tmp_path / "folder", names)
    for path in (tmp_path / "folder", archive(tmp_path / "a.zip", names)):
        data = load(path)
        assert data.classes == ("001", "01", "1")
        assert list(zip(colors(data), data.labels, strict=True)) == [
            (0, 0), (1, 1), (2, 1), (3, 2), (4, 2)
        ]  # fmt: skip


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    odd = ["a/1.heic", "a/2.HEIC", "b/3.mp4", "frame.0001", "README", "c.d/x", ".x.png", "._1.png"]
    put(tmp_path, ["a/1.png", *odd, "__MACOSX/a/1.png", ".git/x.heic"])
    kinds = "2 .heic, 1 .mp4, 1 hidden, 3 without a suffix"
    for source in (Tree(tmp_path), Archive(archive(tmp_path.with_suffix(".zip"), odd))):
        source.names()
        files, empty = source.notes
        found = files.partition("left out 7 files: ")[2].partition("; minigan takes .jpg ")[0]
        assert sorted(found.split(", ")) == sorted(kinds.split(", "))
        assert empty.startswith("no pictures in the folders ") and "c.d" in empty


RUN = ["run/config.json", "run/metrics.csv", "run/real.png", "run/samples/step-00000001.png"]


def test_the_folder_of_a_run_is_left_out(tmp_path):
    others = ["a/1.png", "a/config.json", "b/2.png", "b/metrics.csv", "xconfig.json", "metrics.csv"]
    names = [*RUN, *(f"a/deep/{name}" for name in RUN), *others]
    for source in (Tree(put(tmp_path / "p", names)), Archive(archive(tmp_path / "p.zip", names))):
        assert source.names() == ["a/1.png", "b/2.png"]
        assert source.notes[1:] == ["left out 2 runs of minigan: a/deep/run, run"]
    for folder in ("p/run", "p/run/samples"):
        assert "is the folder of a run, or in one" in refusal(load, tmp_path / folder)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_a_run_or_into_it_is_left_out(tmp_path):
    put(tmp_path / "elsewhere", RUN)
    folder = put(tmp_path / "p", ["1.png"])
    (folder / "run").symlink_to(tmp_path / "elsewhere/run")
    (folder / "samples").symlink_to(tmp_path / "elsewhere/run/samples")
    source = Tree(folder)
    assert source.names() == ["1.png"]
    assert source.notes == ["left out 2 runs of minigan: run, samples"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_that_double_are_read_once(tmp_path):
    """Two links in each of 40 folders lead to the next: 2**40 paths to one picture."""
    folder = put(tmp_path, [f"d{i}/x.txt" for i in range(40)] + ["d40/1.png"])
    for i in range(40):
        for name in "ab":
            (folder / f"d{i}" / name).symlink_to(folder / f"d{i + 1}")
    (folder / "0").symlink_to(folder / "d40")  # sorted before it, but only a link
    assert Tree(folder).names() == ["d40/1.png"]
    assert Tree(folder / "d7").names() == ["/".join(["a"] * 33) + "/1.png"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_are_followed_but_not_in_circles(tmp_path):
    put(tmp_path / "elsewhere", ["x/3.png"])
    folder = put(tmp_path / "p", ["a/1.png", "b/2.png"])
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b" / "self").symlink_to(folder / "b")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "c2.png").symlink_to("c2.png")  # leads to itself: a picture that cannot be read
    (folder / "b" / "4.png").symlink_to(folder / "a" / "1.png")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    assert Tree(folder).names() == ["a/1.png", "b/2.png", "b/4.png", "c/x/3.png", "c2.png"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems insist on Unicode")
def test_names_that_are_not_text(tmp_path):
    folder = os.fsencode(put(tmp_path, [f"z/{i}.png" for i in range(30)], 10))
    names = (b"a/\xff\xfe.png", b"\xe9\x1b[31m/2.png", b"a/new\nline.png", b"a/bad\xff\n\x1b.png")
    for i, name in enumerate(names):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(png(i) if b"bad" not in name else b"no picture")
    data = load(tmp_path)
    assert [colors(data)[i] for i in (0, 1, -1)] == [2, 0, 1]  # sorted by their bytes
    assert all(name.isprintable() for name in data.classes)
    assert all(line.isprintable() for line in load.lines)
    assert load.lines[-1].startswith("skipped 1 (a/bad")


def test_deep_trees(tmp_path):
    put(tmp_path.joinpath(*["d"] * 300), ["1.png"])
    assert load(tmp_path).classes == ("d",)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the root user may read anything"
)
def test_a_folder_that_may_not_be_read(tmp_path):
    put(tmp_path, ["a/1.png", "b/1.png"])
    (tmp_path / "b").chmod(0)
    try:
        assert f"{tmp_path / 'b'}: cannot be read (Permission denied)" in refusal(load, tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)


# ---- archives


@pytest.mark.parametrize("method", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
def test_an_archive_is_like_its_folder(method, tmp_path):
    hidden = ["a/.hidden.png", "__MACOSX/a/1.png", "b/notes.txt"]
    names = ["b/2.png", "a/1.PNG", "a/sub/3.png", "c é/1.png", *hidden]
    folder = load(put(tmp_path / "p", names))
    zipped = load(archive(tmp_path / "p.zip", names, method))
    np.testing.assert_array_equal(zipped.images, folder.images)
    np.testing.assert_array_equal(zipped.labels, folder.labels)
    assert zipped.classes == folder.classes == ("a", "b", "c é")
    assert zipped.fingerprint == folder.fingerprint


@pytest.mark.parametrize(
    "names, classes",
    (
        (["p/a/1.png", "p/b/2.png"], ("a", "b")),
        (["p/q/a/1.png", "p/q/b/2.png", "__MACOSX/p/q/b/._2.png"], ("a", "b")),
        (["p/1.png", "p/2.png"], ()),
        (["p/ab/1.png", "p/ac/2.png"], ("ab", "ac")),
        (["p/1.png", "p/b/2.png"], ()),
        (["p/ab/1.png", "p/ab.png"], ()),
        (["p/a/1.png"], ()),
        (["1.png"], ()),
        (["p\\a\\1.png", "p\\b\\2.png", "p\\c.png\\"], ("a", "b")),  # as Windows programs write it
    ),
)
def test_the_folder_that_was_zipped_is_not_a_label(names, classes, tmp_path):
    assert load(archive(tmp_path / "z.zip", names)).classes == classes


def test_names_that_lead_out_are_only_names(tmp_path):
    out = ["../../evil.png", "a/../../2.png", "./4.png"]
    names = [*out, "/abs/1.png", "C:\\x\\3.png", "a/5.png", "a//6.png", "nul\0.png"]
    data = load(archive(tmp_path / "z.zip", names))
    assert colors(data) == [2, 4, 5, 6, 3, 7] and data.labels is None
    assert Archive(tmp_path / "z.zip").names() == [
        "4.png", "C:/x/3.png", "a/5.png", "a/6.png", "abs/1.png", "nul.png"
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["z.zip"]


def test_names_that_begin_with_a_dot_and_a_slash(tmp_path):
    """As an archive of "." has them."""
    data = load(archive(tmp_path / "z.zip", ["./a/1.png", "./a/./2.png", "./b/1.png"]))
    assert data.classes == ("a", "b") and data.labels.tolist() == [0, 0, 1]


def test_the_later_of_two_members_with_one_name_counts(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(tmp_path / "z.zip", ["a.png", "b.png", "a.png", "a.png"])
    assert colors(load(tmp_path / "z.zip")) == [3, 1]


def test_a_changed_archive_is_prepared_again(tmp_path):
    names = ["a.png", "b.png"]
    assert colors(load(archive(tmp_path / "z.zip", names))) == [0, 1]
    archive(tmp_path / "z.zip", names, start=5)
    os.utime(tmp_path / "z.zip", (1, 1))
    assert colors(load(tmp_path / "z.zip")) == [5, 6]
    assert "has changed" in load.lines[0]


def edit_directory(content, number, **fields):
    """Change numbers in an archive's directory, of its member `number`."""
    layouts = {"crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L"), "offset": (42, "<L")}
    content, start = bytearray(content), content.index(b"PK\x01\x02")
    for _ in range(number):
        start = content.index(b"PK\x01\x02", start + 4)
    for name, value in fields.items():
        offset, layout = layouts[name]
        struct.pack_into(layout, content, start + offset, value)
    return bytes(content)


@pytest.mark.parametrize(
    "fields, reason",
    (
        ({"size": 10}, "damaged (Bad CRC-32"),
        ({"size": 10**6}, "damaged: not 1000000 bytes, as declared"),
        ({"size": 10**9}, "953 MiB large, expected at most 64"),
        ({"packed": 5}, "damaged"),
        ({"crc": 1}, "damaged (Bad CRC-32 for file '07.png')"),
        ({"offset": 10**6}, "damaged"),  # where another member is, Python 3.13 refuses both
    ),
    ids=str,
)
def test_a_member_that_lies_is_skipped_by_name(fields, reason, tmp_path):
    path = archive(tmp_path / "z.zip", [f"{i:02}.png" for i in range(40)])
    path.write_bytes(edit_directory(path.read_bytes(), 7, **fields))
    assert colors(load(path)) == [i for i in range(40) if i != 7]
    assert f"skipped 1 (07.png: {reason}" in load.lines[-1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_zip_bomb_takes_no_memory(tmp_path):
    """192 MiB of zeros in 192 KiB, with the true size and with a small one declared."""
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
        "import re, sys; from minigan.data import load_dataset\n"
        "for path in sys.argv[1:]: load_dataset('folder', images=path, image_shape=(4, 4, 3))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    command = [sys.executable, "-c", code, tmp_path / "z.zip", tmp_path / "y.zip"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.check_output(command, text=True, env=environment)
    assert "192 MiB large" in out and "00.png: damaged (Bad CRC-32" in out
    assert int(out.splitlines()[-1]) < 100 << 10  # KiB


def test_damaged_archives(tmp_path):
    path = archive(tmp_path / "z.zip", ["a.png", "b.png"])
    content = path.read_bytes()
    for case in (
        content[:-1],
        content[:100],
        content[:-30],
        b"PK\x03\x04" + bytes(100),
        b"PK",
        content[:-22] + content[-22:-12] + b"\xff\xff\xff\x7f" + content[-8:],
        content[:-12] + b"\xff" * 8 + content[-4:],
        content.replace(b"PK\x01\x02", b"PK\x01\x03"),
    ):
        path.write_bytes(case)
        message = "is damaged, or not a complete .zip file: download or create it again"
        assert refusal(load, path) == f"{path}: {message}"


def test_changed_bytes_of_an_archive_raise_nothing_else(tmp_path):
    path = archive(tmp_path / "z.zip", [f"{i:02}.png" for i in range(25)])
    content = path.read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        source = Archive(path)
        try:
            for name in source.names():
                with contextlib.suppress(Unreadable):
                    source.open(name)
        except mg.DataError:
            pass
