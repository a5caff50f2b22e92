"""Download one file from the first address that delivers it, or leave nothing behind.

The file is written under a temporary name, checked, and only then renamed: under its final name it
is complete and correct, even if the power fails or two processes download at once.
urllib is imported late: most runs download nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from minigan.concurrency import Workers
from minigan.data.files.messages import UNWRITABLE, as_data_errors, printable
from minigan.errors import DataError
from minigan.files import replacing
from minigan.progress_bar import progress_bar

CHUNK = 1 << 16  # bytes: 64 KiB

Check = Callable[[Path], object]


def fetch(urls: list[str], path: Path, *, check: Check, limit: int, timeout: float = 10) -> Path:
    """Download a file to `path`; its folder is created if it does not exist.

    urls      tried in this order
    check     check(file) raises DataError unless the file is right
    limit     bytes: a longer answer is rejected
    timeout   s: for the whole connection, and for each wait for data
    -> path
    Raises DataError: no url delivers, or the file cannot be written.
    """
    reasons = []
    with as_data_errors(path, UNWRITABLE):
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                with replacing(path) as file:
                    for chunk in stream(url, limit, timeout):
                        file.write(chunk)
                    file.flush()
                    check(Path(file.name))
                return path
            except DataError as error:  # from stream or check: the next url may do better
                reasons.append(str(error).replace(file.name, url))
    raise DataError(
        f"{path.name}: could not be downloaded ({'; '.join(reasons)}): "
        f"check the network, or put the file into {path.parent}"
    )


def stream(url: str, limit: int, timeout: float) -> Iterator[bytes]:
    """The answer of `url` in chunks. Raises DataError for any network error."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    named: Any = {"desc": url.rpartition("/")[2], "unit": "B", "unit_scale": True, "leave": False}
    try:
        # a length of None: not declared
        with open_url(url, timeout) as reply, progress_bar(total=reply.length, **named) as bar:
            done = 0
            while chunk := reply.read(CHUNK):
                done += len(chunk)
                bar.update(len(chunk))
                if done > limit:
                    raise ValueError(f"the answer is longer than {limit} bytes")
                yield chunk
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        # A server's message may be long and contain line breaks and terminal codes.
        raise DataError(f"{url}: {printable(str(error) or type(error).__name__)}") from error


def open_url(url: str, timeout: float) -> Any:
    """urlopen within `timeout` s -> http.client.HTTPResponse. Raises what urlopen raises.

    urlopen's own timeout does not cover the name lookup, and starts again for each of a host's
    addresses: that takes minutes if a firewall drops packets. A late thread ends by itself.
    """
    from concurrent import futures
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": "minigan"})
    try:
        with closing(Workers(1, "minigan-download")) as worker:
            return worker.submit(partial(urlopen, request, timeout=timeout)).result(timeout)
    except futures.TimeoutError:  # in Python 3.10 not the built-in one
        raise OSError(f"no answer within {timeout:g} s") from None
