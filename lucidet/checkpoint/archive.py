"""The zip archive around a checkpoint: its entries lie in the file one after another, as they are.

torch's own reader believes what the archive says of itself. Two readers of one archive can see
different things in it; one that this file does not understand completely is refused.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from lucidet._regular_file import open_regular
from lucidet.checkpoint.seal import DamagedFileError

__all__ = ["Archive", "open_archive"]

#: a zip archive of tensors holds them as they are; one that unpacks to more is no checkpoint
_MAX_EXPANSION = 1.1
_SLACK = 1 << 20
_MAX_DIRECTORY = 64 << 20  # bytes of the list of entries; 100 000 tensors have 10 MB
_MAX_PROGRAM = 64 << 20  # bytes of data.pkl; a detector's has 200 kB
_LOCAL_HEADER = 30  # bytes, before name and extra field
_END, _END_SIZE = b"PK\x05\x06", 22


class Archive:
    """What a checked archive holds.

    Attributes:
        program: data.pkl, the pickle that tells what the tensors are.
        sizes: bytes of each tensor's storage, by the name below data/.
    """

    def __init__(self, program: bytes, sizes: dict[str, int]) -> None:
        self.program = program
        self.sizes = sizes


def open_archive(path: Path) -> Archive:
    """Check a zip archive of torch.save and return its program and its storages' sizes.

    Raises:
        DamagedFileError: it cannot be read, or its parts overlap or reach over its end.
        ValueError: it holds programs, is compressed, or is no archive of torch.save.
    """
    with open_regular(path, "weights") as file:
        _check_directory(file, path)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                _check_entries(entries, path)
                _check_places(file, entries, archive.start_dir, path)
                program = next(e for e in entries if e.filename.endswith("data.pkl"))
                if program.file_size > _MAX_PROGRAM:
                    raise ValueError(f"{path}: its data.pkl has {program.file_size} bytes")
                prefix = program.filename.removesuffix("data.pkl") + "data/"
                sizes = {
                    entry.filename.removeprefix(prefix): entry.file_size
                    for entry in entries
                    if entry.filename.startswith(prefix)
                }
                return Archive(archive.read(program), sizes)
        except (
            zipfile.BadZipFile,
            EOFError,
            NotImplementedError,
            OSError,
            RuntimeError,
            UnicodeDecodeError,
            struct.error,
        ) as error:
            raise DamagedFileError(f"{path} is truncated or damaged ({error})") from error


def _check_directory(file: BinaryIO, path: Path) -> None:
    """Bound the list of entries before it is read: a small part of the file says how long it is."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_SIZE - (1 << 16)))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_SIZE:
        raise DamagedFileError(
            f"{path} ({size} bytes) is truncated or damaged: the end of the archive is missing"
        )
    (length,) = struct.unpack_from("<I", tail, at + 12)
    if length == 0xFFFFFFFF and at >= 20:  # more than 65 535 entries or 4 GB: 64-bit numbers
        (record_at,) = struct.unpack_from("<Q", tail, at - 20 + 8)
        if record_at + 56 <= size:
            file.seek(record_at)
            (length,) = struct.unpack_from("<Q", file.read(56), 40)
    if length > min(size, _MAX_DIRECTORY):
        raise DamagedFileError(f"{path}: a list of entries of {length} bytes in {size} bytes")


def _check_entries(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse programs, compression, other archives, and names that occur twice."""
    names = [entry.filename for entry in entries]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise ValueError(
            f"{path} is a TorchScript program, not weights: it holds code and is refused. Save "
            "its state dict alone, where you trust it: torch.save(model.state_dict(), FILE)"
        )
    if sum(name.endswith("data.pkl") for name in names) != 1:
        raise ValueError(
            f"{path} is a zip archive, but not one of torch.save (entries: {names[:3]})"
        )
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > _MAX_EXPANSION * size + _SLACK:
        raise ValueError(
            f"{path} unpacks from {size} to {unpacked} bytes; torch.save does not compress, so "
            "this is no checkpoint but perhaps a zip bomb; it is refused"
        )
    if len(set(names)) < len(names):
        raise DamagedFileError(f"{path} is damaged: entries of its archive have the same name")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(
                f"{path}: its entry {entry.filename!r:.80} is compressed, which torch.save never "
                "does; it is refused"
            )


def _check_places(
    file: BinaryIO, entries: list[zipfile.ZipInfo], directory: int, path: Path
) -> None:
    """Refuse entries that share bytes of the file, or reach into the list of entries."""
    free_from = 0
    for entry in sorted(entries, key=lambda e: e.header_offset):
        if entry.header_offset < free_from:
            raise DamagedFileError(f"{path} is damaged: entries of its archive overlap")
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER)
        name, extra = struct.unpack_from("<HH", header, 26)
        free_from = entry.header_offset + _LOCAL_HEADER + name + extra + entry.file_size
        if free_from > directory:
            raise DamagedFileError(f"{path} is damaged: {entry.filename!r:.80} reaches too far")
