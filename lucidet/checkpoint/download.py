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
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from lucidet.utils.cache_folder import cache_folder

__all__ = ["cache_folder", "cached_path", "fetch", "is_offline", "sha256_of"]

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
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
    if not host or not names:
        raise ValueError(f"{url} names no file; expected https://HOST/FILE")
    if parts.query:  # files that differ only in it must not meet
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    return cache_folder().joinpath("weights", host, *names)


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
    try:
        _download(url, part)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(_help(url, address, target, _reason(error))) from error
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
        length = int(response.headers.get("Content-Length") or 0)
        _copy(response, part, start, length, url)
    tag_file.unlink(missing_ok=True)


def _copy(response: Any, part: Path, start: int, length: int, url: str) -> None:
    if start:
        logger.info("Going on with %s at byte %d", url, start)
    else:
        logger.info("Fetching %s", url)
    received = 0
    bar, advance = _progress(url.rpartition("/")[2], start, start + length)
    with bar, part.open("ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            received += len(chunk)
            advance(len(chunk))
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
