"""The downloader against a server on this machine that misbehaves in many ways."""

import errno
import gzip
import io
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from minigan.data.files.download import fetch
from minigan.data.files.idx import read_idx
from minigan.data.files.locations import cache_folder
from minigan.data.sets import mnist
from minigan.data.sets.mnist import load_mnist
from minigan.errors import DataUnavailable
from tests.support.idx import (
    GOOD,
    GOOD_LABELS,
    PIXELS,
    SHAPE,
    SMALL,
    flipped,
    is_the_small_set,
    sha,
)
from tests.support.refusals import refusal

PACKED = gzip.compress(GOOD)
NAME = "train-images-idx3-ubyte.gz"
CONTENT = {NAME: PACKED, "train-labels-idx1-ubyte.gz": gzip.compress(GOOD_LABELS)}
TIMEOUT = 0.2  # s


# ---- what a mirror may do; the first part of the path is its name


def serve(request, content=None, length=None, code=200):
    """An answer with this content, and a declared length that may be wrong; -1: none declared."""
    content = CONTENT[request.path.rsplit("/", 1)[1]] if content is None else content
    request.send_response(code)
    if length != -1:
        request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)


def good(request):
    serve(request)


def good_without_length(request):
    serve(request, length=-1)


def plain(request):  # a server that unpacks on the way
    serve(request, GOOD)


def missing(request):
    serve(request, b"nothing here", code=404)


def failing(request):
    serve(request, b"sorry", code=503)


def truncated(request):
    serve(request, PACKED[:-20], length=len(PACKED))


def truncated_without_length(request):
    serve(request, PACKED[:-20], length=-1)


def truncated_chunked(request):
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"400\r\n" + PACKED[:100])


def portal(request):
    serve(request, b"<html>Log in to the network</html>")


def wrong_bytes(request):
    serve(request, gzip.compress(flipped(GOOD, 500)))


def endless(request):
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(10_000):
            request.wfile.write(bytes(1 << 16))
    except ConnectionError:
        pass


def slow_headers(request):
    time.sleep(2 * TIMEOUT)


def slow_body(request):
    request.send_response(200)
    request.send_header("Content-Length", str(len(PACKED)))
    request.end_headers()
    request.wfile.write(PACKED[:50])
    time.sleep(2 * TIMEOUT)


def reset(request):
    linger = b"\1\0\0\0\0\0\0\0"  # closing sends RST
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()


def nonsense(request):
    request.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def rude(request):
    request.wfile.write(b"HTTP/1.0 500 \x1b[2J\x1b[31m" + b"x" * 1000 + b"\r\n\r\n")


def bad_length(request):
    serve(request, PACKED, length="many")


def loop(request):
    request.send_response(302)
    request.send_header("Location", request.path)
    request.send_header("Content-Length", "0")
    request.end_headers()


BAD = {  # behavior: what the message must say
    missing: "HTTP Error 404: Not Found",
    failing: "HTTP Error 503",
    loop: "HTTP Error 302",
    truncated: "ended before the end-of-stream marker",
    truncated_without_length: "ended before the end-of-stream marker",
    truncated_chunked: "IncompleteRead",
    portal: "is a web page, not data (a login page of the network",
    wrong_bytes: "SHA-256",
    endless: "the answer is longer than",
    slow_headers: "timed out|no answer within 0.2 s",  # the same, noticed in two places
    slow_body: "timed out",
    reset: "Connection reset",
    nonsense: "SSH-2.0",
    rude: "HTTP Error 500: \\x1b[2J\\x1b[31mxxx",
}


@pytest.fixture(scope="module")
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behavior = self.path.split("/")[1]
            self.server.asked.append(behavior)
            globals()[behavior](self)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # some tests are about a reset connection
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def mirror(server):
    """mirror(behavior) is the address of a mirror; mirror.asked lists who was asked, in order."""
    server.asked.clear()

    def mirror(behavior):
        return f"http://127.0.0.1:{server.server_port}/{behavior.__name__}/"

    mirror.asked = server.asked
    return mirror


def check(path):
    read_idx(path, SHAPE, sha256=sha(GOOD), cure="")


def get(folder, *mirrors, **options):
    options = {"check": check, "limit": len(GOOD), "timeout": TIMEOUT, **options}
    return fetch([mirror + NAME for mirror in mirrors], folder / NAME, **options)


# ---- what works


@pytest.mark.parametrize("behavior", [good, good_without_length, plain, bad_length])
def test_downloads_into_a_new_folder(tmp_path, mirror, behavior):
    folder = tmp_path / "cache" / "mnist"
    assert get(folder, mirror(behavior)) == folder / NAME
    np.testing.assert_array_equal(read_idx(folder / NAME, SHAPE), PIXELS)
    assert os.listdir(folder) == [NAME]
    assert mirror.asked == [behavior.__name__]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path, mirror):
    (tmp_path / "other").touch()
    assert get(tmp_path, mirror(good)).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_two_at_once(tmp_path, mirror):
    results, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        results.append(get(tmp_path, mirror(good), timeout=5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / NAME] * 4
    assert os.listdir(tmp_path) == [NAME] and (tmp_path / NAME).read_bytes() == PACKED


# ---- what does not work


@pytest.mark.parametrize(
    "behavior, expected", BAD.items(), ids=lambda b: getattr(b, "__name__", "")
)
def test_a_bad_mirror_is_named_and_leaves_nothing_behind(tmp_path, mirror, behavior, expected):
    begin = time.perf_counter()
    message = refusal(get, tmp_path, mirror(behavior))
    assert time.perf_counter() - begin < 1
    assert message.isprintable() and len(message) < 1000
    assert message.startswith(f"{NAME}: could not be downloaded ({mirror(behavior)}{NAME}: ")
    assert any(words in message for words in expected.split("|"))
    assert message.endswith(f": check the network, or put the file into {tmp_path}")
    assert os.listdir(tmp_path) == []


def test_the_next_mirror_is_tried_and_all_are_named(tmp_path, mirror):
    message = refusal(get, tmp_path, mirror(missing), mirror(portal))
    assert f"{mirror(missing)}{NAME}: HTTP Error 404" in message
    assert f"{mirror(portal)}{NAME}: is a web page" in message
    mirror.asked.clear()
    assert get(tmp_path, mirror(missing), mirror(wrong_bytes), mirror(good)).read_bytes() == PACKED
    assert os.listdir(tmp_path) == [NAME] and mirror.asked == ["missing", "wrong_bytes", "good"]


@pytest.mark.parametrize("behavior", [wrong_bytes, truncated, endless])
def test_a_file_already_there_stays_as_it_is(tmp_path, mirror, behavior):
    (tmp_path / NAME).write_bytes(b"mine")
    refusal(get, tmp_path, mirror(behavior))
    assert (tmp_path / NAME).read_bytes() == b"mine" and os.listdir(tmp_path) == [NAME]


def test_addresses_that_lead_nowhere(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "refused" in refusal(get, tmp_path, f"http://127.0.0.1:{port}/")
    assert "unknown url type" in refusal(get, tmp_path, "mirror/")
    assert "no host given" in refusal(get, tmp_path, "http:///")
    assert os.listdir(tmp_path) == []


def test_a_name_lookup_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    begin = time.perf_counter()
    assert "no answer within 0.1 s" in refusal(get, tmp_path, "http://one.example/", timeout=0.1)
    assert time.perf_counter() - begin < 1


def test_a_folder_that_cannot_be_written(tmp_path, mirror, monkeypatch):
    (tmp_path / "file").touch()
    message = refusal(get, tmp_path / "file" / "mnist", mirror(good))
    assert message.startswith(f"{tmp_path / 'file' / 'mnist' / NAME}: cannot be written (")

    def deny(*_, **__):  # chmod does not stop root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("minigan.files.open", deny, raising=False)
    assert "cannot be written (Permission denied)" in refusal(get, tmp_path, mirror(good))
    assert mirror.asked == []  # it is reported before the network is used


@pytest.mark.parametrize("call", ("fsync", "replace"))
def test_a_full_disk_is_not_blamed_on_the_mirror(call, tmp_path, mirror, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    message = refusal(get, tmp_path, mirror(good), mirror(good))
    assert message.startswith(
        f"{tmp_path / NAME}: cannot be written (No space left on device): free some space"
    )
    assert os.listdir(tmp_path) == []
    assert mirror.asked == ["good"]


def test_nothing_is_renamed_before_it_is_checked_and_on_the_disk(tmp_path, mirror, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (order.append(name), real(*args))[1]
        )
    get(tmp_path, mirror(good), check=lambda path: order.append("check"))
    assert order[:3] == ["check", "fsync", "replace"]


def test_ctrl_c_leaves_nothing_behind(tmp_path, mirror):
    def interrupt(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, mirror(good), check=interrupt)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("terminal", (True, False))
def test_a_bar_only_on_a_terminal(tmp_path, mirror, monkeypatch, terminal):
    stderr = io.StringIO()
    stderr.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stderr)
    get(tmp_path, mirror(good))
    assert ("train-images-idx3-ubyte" in stderr.getvalue()) is terminal


# ---- load_mnist with it


@pytest.fixture
def use(tmp_path, monkeypatch):
    """use(*mirrors): the small MNIST is published there."""
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path / "pictures"))

    def use(*mirrors):
        the_set = mnist.SETS["mnist"]._replace(files=SMALL, mirrors=mirrors)
        monkeypatch.setitem(mnist.SETS, "mnist", the_set)

    return use


def test_load_mnist_downloads_once_into_the_cache(use, mirror):
    use(mirror(missing), mirror(good))
    assert is_the_small_set(load_mnist())
    assert sorted(os.listdir(cache_folder() / "mnist")) == sorted(CONTENT)
    mirror.asked.clear()
    assert is_the_small_set(load_mnist())
    assert mirror.asked == []


def test_load_mnist_downloads_only_what_is_missing(use, mirror):
    (cache_folder() / "mnist").mkdir(parents=True)
    (cache_folder() / "mnist" / "train-images-idx3-ubyte").write_bytes(GOOD)
    use(mirror(good))
    assert is_the_small_set(load_mnist())
    assert mirror.asked == ["good"]


def test_load_mnist_that_may_not_or_cannot_download(use, mirror, tmp_path):
    use(mirror(good))
    refusal(load_mnist, tmp_path)
    assert mirror.asked == [] and not cache_folder().exists()
    use(mirror(portal), mirror(missing))
    message = refusal(load_mnist, kind=DataUnavailable)
    places = f"{tmp_path / 'pictures'} or {cache_folder()}"
    assert message.startswith(f"MNIST is not in {places}; {NAME}: could not be downloaded")
    assert "web page" in message and "HTTP Error 404" in message
    assert os.listdir(cache_folder() / "mnist") == []
