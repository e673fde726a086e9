"""A checksum inside each checkpoint, so that damage is found before anything is loaded.

A file of torch.save is a zip archive. Its last part may hold a comment, which readers skip: there
the SHA-256 of everything before it is stored. File and checksum are replaced as one.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import IO

__all__ = ["DamagedFileError", "SealingWriter", "check_seal"]

_PREFIX = b"sha256:"
_COMMENT = len(_PREFIX) + 64
#: the end-of-archive record: a signature, 16 bytes, and the length of the comment in 2 bytes
_END, _END_SIZE = b"PK\x05\x06", 22
_CHUNK = 1 << 20


class DamagedFileError(ValueError):
    """A file is not as it was written: truncated, overwritten or changed."""


class SealingWriter:
    """A file for torch.save to write to; `seal` adds the checksum.

    Args:
        file: opened for binary writing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._tail = b""  # the last two bytes so far: in the end the length of the comment, 0

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes, all but the last two, which may be the end of the archive."""
        view = memoryview(data).cast("B")
        keep = min(len(view), 2)
        if keep == 2:
            self._put(self._tail)
            self._put(view[:-2])
            self._tail = bytes(view[-2:])
        else:
            joined = self._tail + bytes(view)
            self._put(joined[:-2])
            self._tail = joined[-2:]
        return len(view)

    def _put(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def seal(self) -> None:
        """Write the end of the archive with the checksum as its comment."""
        comment = _PREFIX + self._digest.hexdigest().encode()
        self._file.write(len(comment).to_bytes(2, "little") + comment)


def check_seal(path: str | os.PathLike[str]) -> None:
    """Check a zip archive against its checksum; one without is checked entry by entry (CRC-32).

    Raises:
        DamagedFileError: it differs from what was written.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        if _end_is_at(file, size - _END_SIZE):
            _check_entries(path)
            return
        if not _end_is_at(file, size - _END_SIZE - _COMMENT):
            raise DamagedFileError(
                f"{path} ({size} bytes) is truncated or damaged: the end of the archive is missing"
            )
        file.seek(size - _COMMENT)
        comment = file.read()
        noted = comment.removeprefix(_PREFIX).decode("ascii", errors="replace")
        if _digest_until(file, size - _COMMENT - 2) != noted:
            raise DamagedFileError(f"{path} ({size} bytes) is damaged: its checksum does not match")


def _end_is_at(file: IO[bytes], position: int) -> bool:
    if position < 0:
        return False
    file.seek(position)
    return file.read(len(_END)) == _END


def _digest_until(file: IO[bytes], end: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while end > 0 and (chunk := file.read(min(_CHUNK, end))):
        digest.update(chunk)
        end -= len(chunk)
    return digest.hexdigest()


def _check_entries(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise DamagedFileError(f"{path} is truncated or damaged ({error})") from error
    if bad is not None:
        raise DamagedFileError(f"{path} is damaged: the checksum of its entry {bad} does not match")
