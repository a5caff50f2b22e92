"""Shuffled batches: every image once an epoch, in a reproducible order, prepared by a thread."""

import copy
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minigan as mg
from minigan.data import Batches, to_floats, to_pixels

IMAGES = np.arange(11, dtype=np.uint8).reshape(11, 1, 1, 1)  # image i is the number i
# No two of these are alike, and none is its own mirror image.
NOISE = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8)


def drawn(batches, count):
    return [list(to_pixels(batches.draw()[0]).ravel()) for _ in range(count)]


def test_an_epoch_has_every_image_once_and_the_next_another_order():
    batches = Batches(IMAGES, 4, seed=7)
    first, second = drawn(batches, 3), drawn(batches, 3)
    assert [len(batch) for batch in first] == [4, 4, 3]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(11))
    assert first != second
    assert drawn(Batches(IMAGES, 4, seed=7), 6) == first + second
    assert drawn(Batches(IMAGES, 4, seed=8), 3) != first


@pytest.mark.parametrize("shuffle", ("epoch", "once", "never"))
def test_fewer_images_than_a_batch_are_repeated_as_evenly_as_possible(shuffle):
    batches = Batches(IMAGES, 30, seed=7, shuffle=shuffle, flip=True)
    assert batches.per_epoch == 1
    for batch in drawn(batches, 3):
        counts = np.bincount(batch, minlength=11)
        assert len(batch) == 30 and set(counts) == {2, 3}
    labels = Batches(IMAGES[:1], 4, labels=np.array([5])).draw()[1]
    assert list(labels) == [5] * 4
    with pytest.raises(mg.errors.DataError, match="expected images, got none"):
        Batches(IMAGES[:0], 4)


def test_the_order_and_the_mirrored_images_are_those_of_every_version():
    """A checkpoint stores neither, and later versions resume it."""
    order = np.arange(11)
    np.random.default_rng([7, 4, 1]).shuffle(order)
    mirrored = np.random.default_rng([7, 4, 1, 1]).integers(0, 2, 11, np.uint8)
    batches = Batches(IMAGES, 4, seed=[7, 4], flip=True)
    batches.seek(1, 0)
    assert sum(drawn(batches, 3), []) == list(order)
    batches.seek(1, 0)
    flips = [batches.choose()[1] for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate(flips), mirrored[order])


@pytest.mark.parametrize(
    "options", ({}, {"shuffle": "once"}, {"shuffle": "never"}, {"drop_last": True}), ids=str
)
@pytest.mark.parametrize("flip", (False, True))
def test_resuming_from_a_position(options, flip):
    def make():
        return Batches(NOISE, 8, seed=7, labels=np.arange(50), flip=flip, **options)

    def draw(batches, count):
        return [
            (pixels.tolist(), labels.tolist())
            for pixels, labels in (batches.draw() for _ in range(count))
        ]

    whole = draw(make(), 22)
    for done in range(22):
        batches, resumed = make(), make()
        draw(batches, done)
        resumed.draw()  # another batch is being prepared
        resumed.seek(batches.epoch, batches.position)
        assert draw(resumed, 22 - done) == whole[done:]


def test_epoch_and_position_count_what_was_drawn():
    batches = Batches(IMAGES, 4)
    assert (batches.epoch, batches.position) == (0, 0)
    seen = []
    for _ in range(5):
        batches.draw()
        time.sleep(0.005)  # the thread is ahead
        seen.append((batches.epoch, batches.position))
    assert seen == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    batches.seek(2, 3)
    assert (batches.epoch, batches.position) == (2, 3)
    batches.draw()
    assert (batches.epoch, batches.position) == (3, 1)


def test_a_last_batch_of_one_is_left_out():
    batches = Batches(IMAGES, 5, seed=0)
    assert batches.per_epoch == 2
    assert [len(batch) for batch in drawn(batches, 4)] == [5, 5, 5, 5]


def test_shuffle_and_drop_last():
    once = Batches(IMAGES, 4, seed=7, shuffle="once")
    first, second = drawn(once, 3), drawn(once, 3)
    assert first == second == drawn(Batches(IMAGES, 4, seed=7), 3) and sum(first, []) != list(
        range(11)
    )
    never = Batches(IMAGES, 4, seed=7, shuffle="never")
    assert drawn(never, 6) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]] * 2
    dropped = Batches(IMAGES, 4, seed=7, shuffle="never", drop_last=True)
    assert dropped.per_epoch == 2 and drawn(dropped, 3) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [0, 1, 2, 3],
    ]


def test_labels_go_with_their_images():
    labels = np.arange(11, dtype=np.int32) * 3
    batches = Batches(IMAGES, 4, seed=7, labels=labels)
    for _ in range(7):
        images, drawn_labels = batches.draw()
        assert drawn_labels.dtype == np.int32 and drawn_labels.tolist() == [
            3 * i for i in to_pixels(images).ravel()
        ]
    assert Batches(IMAGES, 4).draw()[1] is None


def test_half_of_the_images_are_mirrored_and_others_in_each_epoch():
    images = np.random.default_rng(0).integers(0, 256, (2000, 1, 2, 3), np.uint8)
    images[:, :, 0] //= 2  # so that the sides differ
    images[:, :, 1] = 255 - images[:, :, 0]
    plain, flipped = Batches(images, 100, seed=1), Batches(images, 100, seed=1, flip=True)
    turned = []
    for _ in range(40):
        a, b = plain.draw()[0], flipped.draw()[0]
        mirrored = (b == a[:, :, ::-1]).all((1, 2, 3))
        assert np.all(mirrored | (b == a).all((1, 2, 3)))
        turned.append(mirrored)
    assert 0.47 < np.mean(turned) < 0.53
    once = Batches(images, 100, seed=1, shuffle="never", flip=True)
    epochs = [np.concatenate([once.draw()[0].copy() for _ in range(20)]) for _ in range(2)]
    assert 0.4 < (epochs[0] == epochs[1]).all((1, 2, 3)).mean() < 0.6


@pytest.mark.parametrize("pixel_min", (-1.0, 0.0))
def test_range(pixel_min):
    pixels = np.arange(256, dtype=np.uint8)
    floats = np.empty(256, np.float32)
    to_floats(pixels, floats, pixel_min)
    assert floats[0] == pixel_min and floats[255] == 1 and np.all(np.diff(floats) > 0)
    np.testing.assert_array_equal(to_pixels(floats, pixel_min), pixels)
    np.testing.assert_array_equal(to_pixels(np.float32([-9, 9]), pixel_min), [0, 255])
    images = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1)
    drawn = Batches(images, 2, pixel_min=pixel_min).draw()[0]
    np.testing.assert_array_equal(np.sort(drawn.ravel()), floats)


def test_arrays_are_valid_until_the_draw_after_the_next():
    batches = Batches(NOISE, 8, labels=np.arange(50))
    for _ in range(20):
        images, labels = batches.draw()
        before = images.copy(), labels.copy()
        batches.draw()
        time.sleep(0.005)  # the third is prepared meanwhile
        np.testing.assert_array_equal(images, before[0])
        np.testing.assert_array_equal(labels, before[1])
    memory = [batches.draw()[0] for _ in range(6)]  # which is used again
    assert all(np.shares_memory(memory[i], memory[i + 3]) for i in range(3))


@pytest.fixture
def mapped(tmp_path):
    """NOISE, memory-mapped."""
    (tmp_path / "pixels").write_bytes(NOISE.tobytes())
    return np.memmap(tmp_path / "pixels", np.uint8, "r", shape=NOISE.shape)


def test_a_map_gives_what_memory_gives(mapped):
    for images in (mapped, mapped[:30], mapped[10:40], mapped[::2]):
        a, b = (
            Batches(images, 8, seed=3, flip=True),
            Batches(np.array(images), 8, seed=3, flip=True),
        )
        for _ in range(9):
            np.testing.assert_array_equal(a.draw()[0], b.draw()[0])
    changed = np.memmap(mapped.filename, np.uint8, "c", shape=NOISE.shape)  # copied when written to
    changed[...] = 255 - NOISE
    np.testing.assert_array_equal(
        to_pixels(Batches(changed, 50, shuffle="never").draw()[0]), 255 - NOISE
    )
    with_offset = np.memmap(mapped.filename, np.uint8, "r", offset=60, shape=(49, 4, 5, 3))
    np.testing.assert_array_equal(
        to_pixels(Batches(with_offset, 49, shuffle="never").draw()[0]), NOISE[1:]
    )


@pytest.mark.parametrize("in_file", (False, True))
def test_right_pixels_under_load(mapped, in_file):
    """No batch is mixed with another, with other threads and frequent switches between them."""
    stop = threading.Event()
    busy = [
        threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(stop.is_set, True)])
        for _ in range(2)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in busy:
            thread.start()
        batches = Batches(mapped if in_file else NOISE, 16, seed=5)
        for epoch in range(30):
            order = np.arange(50)
            np.random.default_rng([5, epoch]).shuffle(order)
            for position in range(batches.per_epoch):
                wanted = np.empty(
                    (len(order[position * 16 : position * 16 + 16]), *NOISE.shape[1:]), np.float32
                )
                to_floats(np.take(NOISE, order[position * 16 : position * 16 + 16], axis=0), wanted)
                got = batches.draw()[0]
                if epoch % 2:
                    time.sleep(1e-4)
                np.testing.assert_array_equal(got, wanted)
    finally:
        stop.set()
        for thread in busy:
            thread.join()
        sys.setswitchinterval(interval)


def test_a_file_that_is_cut_off_is_an_error_until_it_is_whole_again(mapped):
    content = Path(mapped.filename).read_bytes()
    batches, whole = Batches(mapped, 25, seed=1), Batches(NOISE, 25, seed=1)
    np.testing.assert_array_equal(batches.draw()[0], whole.draw()[0])
    batches.seek(0, 1)
    os.truncate(mapped.filename, 100)
    with pytest.raises(
        mg.DataError, match=r"pixels: the pictures can no longer be read .it ends too early.: "
    ) as caught:
        for _ in range(3):
            batches.draw()
    assert "\n" not in str(caught.value)
    assert (batches.epoch, batches.position) == (0, 1)
    Path(mapped.filename).write_bytes(content)
    np.testing.assert_array_equal(batches.draw()[0], whole.draw()[0])


def test_a_file_that_is_written_to_is_an_error(mapped):
    """An array of the user's own may be made again while it is trained on."""
    batches = Batches(mapped[..., None][3:40, ..., 0], 5, shuffle="never")
    np.testing.assert_array_equal(to_pixels(batches.draw()[0]), NOISE[3:8])
    other = np.memmap(mapped.filename, np.uint8, "r+", shape=NOISE.shape)
    other[20:25] = 0
    other.flush()
    with pytest.raises(mg.DataError, match="their file has been written to"):
        for _ in range(2):
            batches.draw()


def test_a_file_that_vanished(mapped):
    batches = Batches(mapped, 25, shuffle="never")
    os.unlink(mapped.filename)
    # On POSIX an open file stays.
    np.testing.assert_array_equal(to_pixels(batches.draw()[0]), NOISE[:25])
    with pytest.raises(mg.DataError, match="No such file"):
        Batches(mapped, 25)


def test_a_disk_error_is_raised_by_draw(mapped, monkeypatch):
    batches = Batches(mapped, 25)

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("minigan.data.batches.pread", broken)
    for _ in range(2):
        with pytest.raises(mg.DataError, match=r"\(Input/output error\)"):
            batches.draw()
    monkeypatch.undo()
    assert len(batches.draw()[0]) == 25


def test_the_thread_ends_with_its_object(mapped):
    def threads():
        return {
            thread for thread in threading.enumerate() if thread.name.startswith("minigan-batches")
        }

    before = threads()
    batches = Batches(mapped, 8)
    assert not threads() - before  # none until it is needed
    batches.draw()
    mine = threads() - before
    assert len(mine) == 1
    del batches
    for thread in mine:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_a_program_ends_while_a_batch_is_prepared():
    code = (
        "import numpy as np; from minigan.data import Batches\n"
        "b = Batches(np.zeros((4000, 64, 64, 3), np.uint8), 2000); b.draw()\n"
        "print('end', flush=True)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_both_continue(mapped):
    """In a new process: pytest's has other threads, about which Python warns."""
    code = (
        "import numpy as np, os, sys\nfrom minigan.data import Batches\n"
        f"images = np.memmap({str(mapped.filename)!r}, np.uint8, 'r', shape=(50, 4, 5, 3))\n"
        "b, c = (Batches(each, 8, seed=3, flip=True) for each in (images, np.array(images)))\n"
        "for _ in range(4): b.draw(); c.draw()\n"
        "child = os.fork()\n"
        "same = all(np.array_equal(b.draw()[0], c.draw()[0]) for _ in range(20))\n"
        "if not child: os._exit(0 if same else 1)\n"
        "sys.exit(not same or os.waitpid(child, 0)[1])\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "make, error",
    (
        (lambda: Batches(IMAGES, 1), mg.ConfigError),
        (lambda: Batches(IMAGES, 2.0), mg.ConfigError),
        (lambda: Batches(IMAGES.astype(float), 4), mg.DataError),
        (lambda: Batches(IMAGES, 4, labels=np.arange(10)), mg.DataError),
        (lambda: Batches(IMAGES, 4, shuffle="sometimes"), mg.ConfigError),
        (lambda: Batches(IMAGES, 4, shuffle=True), mg.ConfigError),
        (lambda: Batches(IMAGES, 4, pixel_min=0.5), mg.ConfigError),
        (lambda: to_pixels(np.zeros(3), pixel_min=None), mg.ConfigError),
        (lambda: Batches(IMAGES, 4).seek(0, 4), mg.ConfigError),
        (lambda: Batches(IMAGES, 4).seek(-1, 0), mg.ConfigError),
    ),
)
def test_wrong_arguments(make, error):
    with pytest.raises(error) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_shard_of_a_whole_batch_is_prepared_alone(mapped):
    def rows(batch):
        return batch[3:5]

    options = dict(flip=True, labels=np.arange(50))
    for images in (NOISE, mapped):
        batches, expected = (Batches(images, 8, 1, **options) for _ in range(2))
        batches.shard = rows
        for _ in range(7):  # six whole ones, and one of two
            (found, numbers), (whole, of_whole) = batches.draw(), expected.draw()
            assert found.shape == whole.shape and list(numbers) == list(of_whole)
            if len(whole) == 8:
                np.testing.assert_array_equal(rows(found), rows(whole))
                assert not np.array_equal(found, whole)
            else:
                np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(copy.copy(batches).draw()[0], expected.draw()[0])


def test_choose_returns_the_batch_that_draw_returns():
    """Also after a draw, while the thread prepares the next batch, and after a seek."""
    images = np.random.default_rng(0).integers(0, 256, (23, 3, 4, 1), np.uint8)
    drawn, chosen = (Batches(images, 5, 7, labels=np.arange(23), flip=True) for _ in range(2))
    for step in range(14):
        if step == 9:
            for batches in (drawn, chosen):
                batches.seek(1, 2)
        floats, labels = drawn.draw()
        if step % 4 == 3:
            numbers, flips, own_labels = labels, None, chosen.draw()[1].copy()
        else:
            numbers, flips, own_labels = chosen.choose()
            pixels = np.where(
                flips[:, None, None, None], images[numbers][:, :, ::-1], images[numbers]
            )
            wanted = np.empty(pixels.shape, np.float32)
            to_floats(pixels, wanted)
            np.testing.assert_array_equal(floats, wanted)
        np.testing.assert_array_equal(labels, own_labels)
        assert (drawn.epoch, drawn.position) == (chosen.epoch, chosen.position)
