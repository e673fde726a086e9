"""Fetch files over the network into a cache folder: resumed, checked, and not at all when offline.

``LUCIDET_CACHE`` is the folder (else ``~/.cache/lucidet``); ``LUCIDET_OFFLINE=1`` forbids the
network. Beside a fetched file ``FILE`` stands ``FILE.sha256``, its checksum when it was fetched.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from lucidet._regular_file import limit_of
from lucidet.utils.cache_folder import cache_folder

__all__ = ["cache_folder", "cached_path", "fetch", "is_offline", "sha256_of"]

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_TOTAL = 6 * 3600  # seconds of one transfer
_SLOWEST, _PATIENCE = 1024, 60  # bytes a second, on average after this many seconds
_LONGEST_NAME = 200  # bytes, of a file in the cache; file systems allow 255 with our suffixes
#: what is said of a page that a server sends in the place of a file
_PAGES = ("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml")
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416
#: torchvision's names end in the first digits of the file's SHA-256: resnet50-0676ba61.pth
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8})\.(?:pth|pt|safetensors)")

logger = logging.getLogger("lucidet.checkpoint")


def is_offline() -> bool:
    """Return whether ``LUCIDET_OFFLINE`` forbids the network."""
    return os.environ.get("LUCIDET_OFFLINE", "") not in ("", "0")


def cached_path(url: str) -> Path:
    """Return where the file of a URL lies in the cache, whether or not it is there.

    Raises:
        ValueError: the URL has no host or no file name.
    """
    parts = urllib.parse.urlsplit(url)
    names = [urllib.parse.unquote(name) for name in parts.path.split("/") if name]
    host = re.sub(r"[^A-Za-z0-9.-]", "_", parts.netloc)
    # a name from the network must not lead out of the folder
    names = [re.sub(r"[^A-Za-z0-9._=+-]", "_", name) for name in names if name not in (".", "..")]
    host = host if host.strip(".") else "_" * len(host)
    if not host or not names or parts.scheme not in ("http", "https"):
        raise ValueError(f"{url} names no file; expected https://HOST/FILE")
    names = [_short(name) for name in names]
    if parts.query:  # files that differ only in it must not meet
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    return cache_folder().joinpath("weights", host, *names)


def _short(name: str) -> str:
    """Return a file name that is not too long, and none of those that stand beside a file."""
    if name.endswith((".sha256", ".part", ".etag")):
        name += "_"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{name[-100:]}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, address: str = "") -> Path:
    """Return the file of a URL from the cache, fetched first if it isn't there.

    A transfer that broke off is continued. A file that you put there yourself is taken.

    Args:
        url: http or https.
        address: how the user named it, for messages.

    Raises:
        FileNotFoundError: offline, or the network has failed; names the file and where to put it.
        ValueError: the file in the cache has changed since it was fetched.
    """
    target = cached_path(url)
    if target.is_file():
        _check(target, url)
        return target
    if is_offline():
        raise FileNotFoundError(_help(url, address, target, "LUCIDET_OFFLINE is set"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # one process fetches, the others wait and find the file
        locks = cache_folder() / "locks"
        locks.mkdir(exist_ok=True)
        held = FileLock(locks / hashlib.sha256(url.encode()).hexdigest()[:16]).acquire()
    except OSError as error:
        raise FileNotFoundError(_help(url, address, target, _reason(error))) from error
    with held:
        if target.is_file():
            _check(target, url)
        else:
            _fetch_new(url, address, target)
    return target


def _fetch_new(url: str, address: str, target: Path) -> None:
    """Fetch the file and put it in place once it is complete and checked."""
    part = target.with_name(f"{target.name}.part")
    if part.is_symlink():  # not ours: what comes would be written elsewhere
        part.unlink()
    try:
        _download(url, part)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(_help(url, address, target, _reason(error))) from error
    _refuse_page(part, url)
    digest = sha256_of(part)
    expected = _DIGEST_IN_NAME.search(url)
    if expected and not digest.startswith(expected[1]):
        part.unlink()
        raise ValueError(
            f"{url}: the SHA-256 of what came is {digest[:8]}..., its name says {expected[1]}; the "
            "transfer was damaged or the file replaced. Try again"
        )
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n")
    os.replace(part, target)


def _refuse_page(part: Path, url: str) -> None:
    """Remove what came where it is a page, of a login or an error, and raise."""
    with part.open("rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head or head[:1] in (b"<", b"{"):
        part.unlink()
        raise ValueError(
            f"{url}: what came is {'a web page or text' if head else 'empty'}, not weights; it is "
            "not kept. Does the address need a login, or is it that of a page about the file?"
        )


def _check(target: Path, url: str) -> None:
    note = target.with_name(f"{target.name}.sha256")
    digest = sha256_of(target)
    if not note.is_file():  # put there by hand
        expected = _DIGEST_IN_NAME.search(url)
        if expected and not digest.startswith(expected[1]):
            raise ValueError(
                f"{target} is not the file of {url}: its SHA-256 is {digest[:8]}..., expected "
                f"{expected[1]}.... Remove it, and fetch it again"
            )
        note.write_text(f"{digest}  {target.name}\n")
    elif note.read_text().split()[:1] != [digest]:
        raise ValueError(
            f"{target} has changed since it was fetched (SHA-256 {digest[:8]}..., noted in "
            f"{note.name}: {note.read_text()[:8]}...). Remove both, and it is fetched again"
        )


def _download(url: str, part: Path) -> None:
    """Write the file into `part`, going on where an earlier transfer of the same file stopped."""
    tag_file = part.with_name(f"{part.name}.etag")
    start = part.stat().st_size if part.is_file() else 0
    tag = tag_file.read_text() if tag_file.is_file() else ""
    if start and not tag:  # whether it is still the same file could not be known
        start = 0
    request = urllib.request.Request(url, headers={"User-Agent": "lucidet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise
        part.unlink(missing_ok=True)  # more than all of it is there: begin again
        tag_file.unlink(missing_ok=True)
        response = urllib.request.urlopen(url, timeout=_TIMEOUT)
        start = 0
    with response:
        if start and response.status != _PARTIAL_CONTENT:
            start = 0  # the file has changed, or the server sends all of it
        new_tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        tag_file.write_text(new_tag)
        kind = response.headers.get_content_type()
        if kind in _PAGES:
            raise OSError(f"the server sent a page ({kind}) and no weights; is a login needed?")
        length = int(response.headers.get("Content-Length") or 0)
        if start + length > limit_of("weights"):
            raise OSError(f"{start + length} bytes are more than weights may have")
        _copy(response, part, start, length, url)
    tag_file.unlink(missing_ok=True)


def _copy(response: Any, part: Path, start: int, length: int, url: str) -> None:
    if start:
        logger.info("Going on with %s at byte %d", url, start)
    else:
        logger.info("Fetching %s", url)
    received, began = 0, time.monotonic()
    bar, advance = _progress(url.rpartition("/")[2], start, start + length)
    with bar, part.open("ab" if start else "wb") as file:
        while chunk := response.read1(_CHUNK):  # what is there; a server may send a byte a minute
            file.write(chunk)
            received += len(chunk)
            advance(len(chunk))
            seconds = time.monotonic() - began
            if seconds > _TOTAL or (seconds > _PATIENCE and received < _SLOWEST * seconds):
                raise OSError(f"{received} bytes came in {seconds:.0f} seconds, which is too slow")
            if start + received > limit_of("weights") or 0 < length < received:
                raise OSError(f"more than the announced {length} bytes came")
    if length and received != length:
        raise OSError(f"the connection broke off after {received} of {length} bytes")


def _progress(
    name: str, done: int, total: int
) -> tuple[AbstractContextManager[Any], Callable[[int], None]]:
    """Return a bar on the terminal and what moves it; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        return nullcontext(), lambda _: None
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(name, total=total or None, completed=done)
    return bar, lambda count: bar.advance(task, count)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return f"the network has failed: {getattr(error, 'reason', error)}"


def _help(url: str, address: str, target: Path, reason: str) -> str:
    name = address or url
    return (
        f"cannot fetch the weights {name} ({reason}). Fetch {url} on a machine with a network and "
        f"put it here as {target}, or set MODEL.WEIGHTS to the path of a file you have; "
        'MODEL.WEIGHTS "" trains from scratch'
    )
