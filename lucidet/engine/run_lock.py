"""One training for each output folder: a lock that says who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lucidet.utils import comm

__all__ = ["FolderInUseError", "held", "next_free", "require_free"]

_LOCK, _HOLDER = ".training.lock", ".training.json"


class FolderInUseError(ValueError):
    """Another training writes into the folder."""


@contextmanager
def held(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock of an output folder; the system frees it when the process ends in any way.

    Only the main process takes it; "" as a folder has none.

    Raises:
        FolderInUseError: (a ValueError) another process holds it; names process, host and time.
    """
    if not os.fspath(folder) or not comm.is_main_process():
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder, _LOCK), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUseError(_in_use(Path(folder))) from None
    holder = Path(folder, _HOLDER)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    about = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        holder.write_text(json.dumps(about), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def require_free(folder: str | os.PathLike[str]) -> None:
    """Raise FolderInUseError where another training holds the lock of `folder`."""
    if Path(folder, _LOCK).is_file():
        with held(folder):
            pass


def _in_use(folder: Path) -> str:
    try:
        about = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        who = f"process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        who = "another process"
    return (
        f"OUTPUT_DIR {os.fspath(folder)!r} is used by a training: {who}. Wait for it or end it, or "
        "set OUTPUT_DIR to another folder"
    )


def next_free(folder: str) -> str:
    """Return ``NAME-2``, or the first of ``NAME-3`` ... that does not exist.

    >>> next_free("no/such/folder")
    'no/such/folder-2'
    """
    name, number = folder.rstrip("/\\"), 2
    while os.path.exists(f"{name}-{number}"):
        number += 1
    return f"{name}-{number}"
