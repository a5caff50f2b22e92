"""The downloader against a server on this machine that misbehaves in every way we could think of."""

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
from tqdm import tqdm

from minigan.data.files import download
from minigan.data.files.download import fetch
from minigan.data.files.idx import read_idx
from minigan.data.files.locations import cache_folder
from minigan.data.sets import mnist
from minigan.data.sets.mnist import load_mnist
from minigan.errors import DataError, DataUnavailable
from tests.test_mnist import (
    GOOD,
    GOOD_LABELS,
    HTML,
    SHAPE,
    SMALL,
    flipped,
    is_the_small_set,
    refusal,
    sha,
)

PACKED = gzip.compress(GOOD)
NAME = "train-images-idx3-ubyte.gz"
CONTENT = {NAME: PACKED, "train-labels-idx1-ubyte.gz": gzip.compress(GOOD_LABELS)}


# ---- what a mirror may do; the first part of the path is its name


def serve(request, content=None, length=None, code=200):
    """An answer with so much content, and with a length declared that may be a lie; -1: none declared."""
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
    serve(request, HTML[:200])


def wrong_bytes(request):
    serve(request, gzip.compress(flipped(GOOD, 500)))


def declares_too_much(request):
    serve(request, PACKED, length=10**12)


def endless(request):
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(10_000):
            request.wfile.write(bytes(1 << 16))
    except ConnectionError:
        pass


def slow_headers(request):
    time.sleep(1)


def slow_body(request):
    request.send_response(200)
    request.send_header("Content-Length", str(len(PACKED)))
    request.end_headers()
    request.wfile.write(PACKED[:50])
    time.sleep(1)


def reset(request):
    request.connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
    )  # closing sends RST
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


BAD = {  # behaviour: (what the message must say, how often it is asked)
    missing: ("HTTP 404", 1),
    failing: ("HTTP 503", 2),
    truncated: (f"the connection ended after {len(PACKED) - 20} of {len(PACKED)} bytes", 2),
    truncated_without_length: ("the gzip stream is cut off", 2),
    truncated_chunked: ("IncompleteRead", 2),
    portal: ("is a web page, not data (a login page of the network", 2),
    wrong_bytes: ("SHA-256", 2),
    declares_too_much: ("the answer is 1000000000000 bytes long, expected at most", 1),
    endless: ("the answer is longer than", 1),
    slow_headers: ("no answer within 0.3 s", 1),
    slow_body: ("no answer within 0.3 s", 1),
    reset: ("Connection reset", 2),
    nonsense: ("SSH-2.0", 2),
    rude: ("HTTP 500  [2J [31mxxx", 2),
}


@pytest.fixture(scope="module")
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour = self.path.split("/")[1]
            self.server.asked.append(behaviour)
            globals()[behaviour](self)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # a reset connection is what some tests are about
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
def mirror(server, monkeypatch):
    """mirror(behaviour) is the address of a mirror that behaves so; mirror.asked who was asked, in order."""
    monkeypatch.setattr(download, "PAUSE", 0)
    server.asked.clear()

    def mirror(behaviour):
        return f"http://127.0.0.1:{server.server_port}/{behaviour.__name__}/"

    mirror.asked = server.asked
    return mirror


def check(path, url):
    read_idx(path, SHAPE, sha256=sha(GOOD), name=url, cure="")


def get(folder, *mirrors, **options):
    return fetch(
        NAME,
        folder,
        mirrors,
        **{"check": check, "limit": len(GOOD), "timeout": 0.3, "progress": False, **options},
    )


# ---- what works


@pytest.mark.parametrize("behaviour", [good, good_without_length, plain])
def test_downloads_into_a_new_folder(tmp_path, mirror, behaviour):
    folder = tmp_path / "cache" / "mnist"
    assert get(folder, mirror(behaviour)) == folder / NAME
    np.testing.assert_array_equal(
        read_idx(folder / NAME, SHAPE), np.frombuffer(GOOD[16:], np.uint8).reshape(SHAPE)
    )
    assert os.listdir(folder) == [NAME]
    assert mirror.asked == [behaviour.__name__]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_file_has_the_rights_of_any_new_file(tmp_path, mirror):
    (tmp_path / "other").touch()
    assert get(tmp_path, mirror(good)).stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("behaviour", BAD, ids=lambda behaviour: behaviour.__name__)
def test_second_mirror_steps_in(tmp_path, mirror, behaviour):
    assert get(tmp_path, mirror(behaviour), mirror(good)).read_bytes() == PACKED
    assert os.listdir(tmp_path) == [NAME]
    assert mirror.asked == [behaviour.__name__, "good"]


def test_mirror_that_failed_is_asked_again_after_the_others(tmp_path, mirror, monkeypatch):
    def recovers(request):
        (failing if mirror.asked.count("recovers") == 1 else good)(request)

    monkeypatch.setitem(globals(), "recovers", recovers)
    assert get(tmp_path, mirror(recovers), mirror(missing)).read_bytes() == PACKED
    assert mirror.asked == ["recovers", "missing", "recovers"]


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


# ---- what does not


@pytest.mark.parametrize(
    "behaviour, expected, times",
    [(b, *v) for b, v in BAD.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_mirror_is_named_and_leaves_nothing_behind(
    tmp_path, mirror, behaviour, expected, times
):
    begin = time.perf_counter()
    message = refusal(get, tmp_path, mirror(behaviour))
    assert time.perf_counter() - begin < 1
    assert message.isprintable() and len(message) < 1000
    assert message.startswith(f"{NAME}: could not be downloaded ({mirror(behaviour)}{NAME}: ")
    assert expected in message
    assert message.endswith(f": check the network, or put the file into {tmp_path}")
    assert os.listdir(tmp_path) == []
    assert mirror.asked == [behaviour.__name__] * times


def test_redirect_loop_and_wrong_length_header(tmp_path, mirror):
    assert "HTTP 302" in refusal(get, tmp_path, mirror(loop))
    assert get(tmp_path, mirror(bad_length)).read_bytes() == PACKED  # taken for no length at all


def test_all_mirrors_are_named(tmp_path, mirror):
    message = refusal(get, tmp_path, mirror(missing), mirror(portal))
    assert (
        f"{mirror(missing)}{NAME}: HTTP 404" in message
        and f"{mirror(portal)}{NAME}: is a web page" in message
    )


@pytest.mark.parametrize("behaviour", [wrong_bytes, truncated, endless])
def test_file_already_there_stays_as_it_is(tmp_path, mirror, behaviour):
    (tmp_path / NAME).write_bytes(b"mine")
    refusal(get, tmp_path, mirror(behaviour))
    assert (tmp_path / NAME).read_bytes() == b"mine" and os.listdir(tmp_path) == [NAME]


def test_connection_refused(tmp_path, mirror):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "refused" in refusal(get, tmp_path, f"http://127.0.0.1:{port}/")
    assert os.listdir(tmp_path) == []


def test_address_that_is_none(tmp_path, mirror):
    assert "unknown url type" in refusal(get, tmp_path, "mirror/")
    assert "no host given" in refusal(get, tmp_path, "http:///")


def test_no_name_resolved_comes_back_at_once(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    begin = time.perf_counter()
    message = refusal(
        get, tmp_path, "http://one.example/", "https://two.example/"
    )  # with the real PAUSE
    assert time.perf_counter() - begin < 0.5
    assert message.count("the name cannot be resolved, no network?") == 2


def test_look_up_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    begin = time.perf_counter()
    assert "no answer within 0.1 s" in refusal(get, tmp_path, "http://one.example/", timeout=0.1)
    assert time.perf_counter() - begin < 1


def test_folder_that_cannot_be_made(tmp_path, mirror):
    (tmp_path / "file").touch()
    message = refusal(get, tmp_path / "file" / "mnist", mirror(good))
    assert message.startswith(f"{tmp_path / 'file' / 'mnist' / NAME}: cannot be written (")
    assert mirror.asked == []


def test_folder_that_may_not_be_written(tmp_path, mirror, monkeypatch):
    def deny(*_, **__):  # chmod does not stop root
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("touch", "stat", "unlink"):
        monkeypatch.setattr(download.Path, name, deny)
    assert "cannot be written (Permission denied)" in refusal(get, tmp_path, mirror(good))
    assert mirror.asked == []


class FullDisk(io.FileIO):
    def write(self, data):
        super().write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_is_not_taken_for_a_bad_mirror(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(download, "open", FullDisk, raising=False)
    message = refusal(get, tmp_path, mirror(good), mirror(good))
    assert message.startswith(
        f"{tmp_path / NAME}: cannot be written (No space left on device): free some space"
    )
    assert os.listdir(tmp_path) == []
    assert mirror.asked == ["good"]


def test_nothing_is_renamed_before_it_is_on_the_disk_and_checked(tmp_path, mirror, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (order.append(name), real(*args))[1]
        )
    get(tmp_path, mirror(good), check=lambda path, url: order.append("check"))
    assert order == ["fsync", "check", "replace"]


def test_final_name_held_open_by_another_process(tmp_path, mirror, monkeypatch):
    def sharing_violation(source, target):
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(os, "replace", sharing_violation)
    assert "cannot be written (Access is denied)" in refusal(get, tmp_path, mirror(good))
    (tmp_path / NAME).write_bytes(PACKED)
    assert get(tmp_path, mirror(good)) == tmp_path / NAME
    assert os.listdir(tmp_path) == [NAME]


def test_ctrl_c_leaves_nothing_behind(tmp_path, mirror):
    def interrupt(path, url):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, mirror(good), check=interrupt)
    assert os.listdir(tmp_path) == []


# ---- the bar


@pytest.mark.parametrize(
    "terminal, progress, drawn", [(True, True, True), (True, False, False), (False, True, False)]
)
def test_bar_only_on_a_terminal_that_wants_it(
    tmp_path, mirror, monkeypatch, terminal, progress, drawn
):
    stderr = io.StringIO()
    stderr.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stderr)
    get(tmp_path, mirror(good), progress=progress)
    assert ("train-images-idx3-ubyte" in stderr.getvalue()) is drawn


def test_bar_knows_the_length(tmp_path, mirror, monkeypatch):
    bars = []
    monkeypatch.setattr(
        download, "tqdm", lambda **options: bars.append(tqdm(**options)) or bars[-1]
    )
    get(tmp_path, mirror(good))
    get(tmp_path, mirror(good_without_length))
    assert [bar.total for bar in bars] == [len(PACKED), None]


# ---- load_mnist with it


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path / "pictures"))
    monkeypatch.setitem(mnist.SETS, "mnist", mnist.SETS["mnist"]._replace(files=SMALL))


def use(monkeypatch, *mirrors):
    monkeypatch.setitem(mnist.SETS, "mnist", mnist.SETS["mnist"]._replace(mirrors=mirrors))


def test_load_mnist_downloads_once_into_the_cache(home, mirror, monkeypatch):
    use(monkeypatch, mirror(missing), mirror(good))
    assert is_the_small_set(load_mnist(progress=False))
    assert sorted(os.listdir(cache_folder() / "mnist")) == sorted(CONTENT)
    mirror.asked.clear()
    assert is_the_small_set(load_mnist(progress=False))
    assert mirror.asked == []


def test_load_mnist_downloads_only_what_lacks(home, mirror, monkeypatch):
    (cache_folder() / "mnist").mkdir(parents=True)
    (cache_folder() / "mnist" / "train-images-idx3-ubyte").write_bytes(GOOD)
    use(monkeypatch, mirror(good))
    assert is_the_small_set(load_mnist(progress=False))
    assert mirror.asked == ["good"]


def test_load_mnist_that_may_not_or_cannot_download(home, mirror, monkeypatch, tmp_path):
    use(monkeypatch, mirror(good))
    refusal(load_mnist, download=False, kind=DataUnavailable)
    refusal(load_mnist, tmp_path, kind=DataError)
    assert mirror.asked == [] and not cache_folder().exists()
    use(monkeypatch, mirror(portal), mirror(missing))
    message = refusal(load_mnist, kind=DataUnavailable, progress=False)
    assert (
        f"MNIST is not in {tmp_path / 'pictures'} or {cache_folder()}; {NAME}: could not be downloaded"
        in message
    )
    assert "web page" in message and "HTTP 404" in message
    assert os.listdir(cache_folder() / "mnist") == []
