"""Fetch one file from the first mirror that has it, or leave nothing behind.

The file is written under a name of its own, checked, and only then renamed:
whoever sees the final name sees a whole and right file, also when the power
fails or two processes download at once.
"""

import contextlib
import http.client
import os
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from tqdm import tqdm

from minigan.errors import DataError

CHUNK = 1 << 16  # bytes: 64 KiB
PAUSE = 1.0  # s, before mirrors that failed are tried a second time


class _MirrorFailed(Exception):
    """Why one mirror did not deliver. again: whether a second try may go better, soon."""

    def __init__(self, reason: str, again: bool):
        # What a server says may hold line ends and terminal codes, and be long.
        super().__init__("".join(c if c.isprintable() else " " for c in reason[:200]))
        self.again = again


def fetch(
    filename: str,
    folder: str | Path,
    mirrors: Sequence[str],
    *,
    check: Callable[[Path, str], object],
    limit: int,
    timeout: float = 10.0,
    progress: bool = True,
) -> Path:
    """Download `filename` into `folder`, which is made where it does not exist.

    mirrors   addresses that `filename` is appended to, tried in this order, and once
              more after the others, but for those with a lasting trouble (no such
              name or file) or that kept us waiting for `timeout`
    check     check(path, url) raises DataError unless the file at path is right
    limit     bytes: a longer answer is refused
    timeout   s: for look-up and connection together, and for each wait for data
    progress  draw a bar on stderr, where that is a terminal
    -> path of the file
    Raises DataError: no mirror delivers, or the folder cannot be written.
    """
    target = Path(folder) / filename
    partial = target.with_name(f"{filename}.{uuid.uuid4().hex}.part")
    reasons = {}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()  # a folder that cannot be written is told before the network is used
        for attempt in (1, 2):
            again = []
            for mirror in mirrors:
                url = mirror + filename
                try:
                    _save(url, partial, limit, timeout, progress)
                    _checked(check, partial, url)
                except _MirrorFailed as failure:
                    reasons[mirror] = f"{url}: {failure}"
                    again += [mirror] * failure.again
                else:
                    os.replace(partial, target)
                    return target
            mirrors = again
            if attempt == 1 and again:
                time.sleep(PAUSE)
    except OSError as error:
        if os.path.exists(
            target
        ):  # Windows: another process put it there, checked as well, and has it open
            return target
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}): free some space, "
            "or see that you may write to this folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    raise DataError(
        f"{filename}: could not be downloaded ({'; '.join(reasons.values())}): "
        f"check the network, or put the file into {target.parent}"
    )


def _save(url: str, path: Path, limit: int, timeout: float, progress: bool) -> None:
    """Write the answer of `url` to `path` and to the disk. Raises _MirrorFailed; OSError is the disk's."""
    with (
        open(path, "wb") as file,
        tqdm(
            desc=path.name.partition(".")[0],
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress else True,
        ) as bar,
    ):
        # closing: a full disk ends the connection now, not when the generator is collected
        with contextlib.closing(_stream(url, limit, timeout, bar)) as chunks:
            file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())


def _checked(check: Callable[[Path, str], object], path: Path, url: str) -> None:
    """check(path, url), with its DataError as _MirrorFailed: the bytes may be right from elsewhere."""
    try:
        check(path, url)
    except DataError as error:
        raise _MirrorFailed(str(error).removeprefix(f"{url}: "), again=True) from error


def _stream(url: str, limit: int, timeout: float, bar: tqdm) -> Generator[bytes, None, None]:
    """The answer of `url`, in pieces. Raises _MirrorFailed for whatever goes wrong on the way here.

    What the reader of the pieces raises, as a full disk, does not pass through here:
    so an OSError caught below is the network's.
    """
    try:
        with _open(url, timeout) as answer:
            bar.total, done, declared = answer.length, 0, answer.length  # None: not declared
            if (declared or 0) > limit:
                raise _MirrorFailed(
                    f"the answer is {declared} bytes long, expected at most {limit}", again=False
                )
            while chunk := answer.read(CHUNK):
                done += len(chunk)
                if done > limit:
                    raise _MirrorFailed(f"the answer is longer than {limit} bytes", again=False)
                bar.update(len(chunk))
                yield chunk
            if declared is not None and done != declared:
                raise _MirrorFailed(
                    f"the connection ended after {done} of {declared} bytes", again=True
                )
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorFailed(f"HTTP {error.code} {error.reason}", again=error.code >= 500) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)  # URLError keeps the real error there
        if isinstance(cause, TimeoutError):
            raise _MirrorFailed(f"no answer within {timeout:g} s", again=False) from error
        if isinstance(cause, socket.gaierror):
            raise _MirrorFailed("the name cannot be resolved, no network?", again=False) from error
        raise _MirrorFailed(f"{cause}" or type(cause).__name__, again=True) from error


def _open(url: str, timeout: float) -> http.client.HTTPResponse:
    """urlopen that comes back within `timeout` s. Raises what it raises, and _MirrorFailed.

    urlopen's own timeout does not hold for the look-up of the name, and starts anew
    for each of a host's addresses: behind a firewall that swallows packets that is minutes.
    A thread that is late ends by itself.
    """
    result: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "minigan"})
            result.put(urllib.request.urlopen(request, timeout=timeout))
        except Exception as error:
            result.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = result.get(timeout=timeout)
    except queue.Empty:
        raise _MirrorFailed(f"no answer within {timeout:g} s", again=False) from None
    if isinstance(answer, Exception):
        raise answer
    return answer
