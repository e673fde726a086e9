"""Open files that others wrote: regular ones only, and no more than a limit of them is read.

A path in a config or an annotation may name a device without end (``/dev/zero``), a pipe at which a
reader waits for ever, or a file of terabytes. Every reader of lucidet opens files through here.
"""

from __future__ import annotations

import io
import os
import stat
from typing import BinaryIO, TextIO

__all__ = [
    "LIMITS",
    "IrregularFileError",
    "check_regular",
    "limit_of",
    "open_regular",
    "open_regular_text",
    "read_regular",
]

_MIB, _GIB = 1 << 20, 1 << 30
#: kind of content -> bytes of its largest file; Objects365's annotations are the largest known
LIMITS = {
    "config": _MIB,
    "text": 256 * _MIB,
    "XML": 64 * _MIB,
    "JSON": 8 * _GIB,
    "image": _GIB,
    "weights": 64 * _GIB,
}
_VARIABLE = "LUCIDET_MAX_FILE_BYTES"
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class IrregularFileError(ValueError):
    """A path that is no regular file, or a file that is larger than its kind may be."""


def limit_of(kind: str) -> int:
    """Return the bytes of the largest file of a kind; ``LUCIDET_MAX_FILE_BYTES`` raises it."""
    text = os.environ.get(_VARIABLE, "")
    if text and not text.isdecimal():
        raise ValueError(f"{_VARIABLE} must be a number of bytes, got {text!r}")
    return max(LIMITS[kind], int(text or 0))


def open_regular(path: str | os.PathLike[str], kind: str) -> BinaryIO:
    """Open a regular file for reading bytes.

    Args:
        path: links are followed.
        kind: of :data:`LIMITS`.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: as `open` does.
        IrregularFileError: (a ValueError) a device, pipe or socket, or a larger file.
    """
    # without O_NONBLOCK, opening a pipe would wait for a program that writes into it
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except ValueError as error:  # a zero byte in the name
        raise FileNotFoundError(2, f"no path ({error})", os.fspath(path)) from None
    try:
        _check(os.fstat(descriptor), path, kind)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: str | os.PathLike[str], kind: str) -> None:
    """Raise as :func:`open_regular` does, for libraries that open a path themselves."""
    open_regular(path, kind).close()


def open_regular_text(path: str | os.PathLike[str], kind: str) -> TextIO:
    """Open a regular file for reading UTF-8 text; see :func:`open_regular`."""
    return io.TextIOWrapper(open_regular(path, kind), encoding="utf-8")


def read_regular(path: str | os.PathLike[str], kind: str) -> bytes:
    """Return a regular file's bytes; see :func:`open_regular`."""
    with open_regular(path, kind) as file:
        data = file.read(limit_of(kind) + 1)
    if len(data) > limit_of(kind):  # it grew, or its size was not known beforehand
        raise _too_large(path, kind, len(data))
    return data


def _check(status: os.stat_result, path: str | os.PathLike[str], kind: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "Is a directory", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        what = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        raise IrregularFileError(
            f"{os.fspath(path)} is {what}; only regular files are read. Copy its content to a file"
        )
    if status.st_size > limit_of(kind):
        raise _too_large(path, kind, status.st_size)


def _too_large(path: str | os.PathLike[str], kind: str, size: int) -> IrregularFileError:
    return IrregularFileError(
        f"{os.fspath(path)} has {size} bytes; at most {limit_of(kind)} are read of {kind} files. "
        f"Where it is meant to be so large, set {_VARIABLE}={size}"
    )
