"""Write checkpoints so that a crash leaves the old file or the new one, and nothing in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch

from lucidet.checkpoint.seal import SealingWriter


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` when the block ends without error."""
    target = Path(path)
    # in the same folder, as only a rename within one file system is atomic
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())  # the content must be on the disk before the name points to it
        os.replace(temporary, target)
        sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a new name is lost in a power cut without this."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems do not know it
        pass
    finally:
        os.close(descriptor)


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Remove the temporary files of `atomic_file` that killed processes left; return their names.

    A file that some process is writing stays: the system holds its lock as long as that runs. (A
    process number says nothing, as a new process may have it by now.)
    """
    removed = []
    for path in Path(folder).glob(".*.tmp"):
        if not path.name.removesuffix(".tmp").rpartition(".")[2].isdigit():
            continue  # no name of ours
        try:
            with path.open("rb") as file:
                _lock(file)
            path.unlink()
        except OSError:  # locked, or removed by another process
            continue
        removed.append(path.name)
    return removed


def _lock(file: IO[bytes]) -> None:
    """Lock an open file until it is closed; OSError where another process has done so."""
    if os.name != "nt":  # there, no open file can be removed
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def save_torch(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Save tensors and plain containers with torch.save, atomically and with a checksum.

    Raises:
        TypeError: something in `data` could not be loaded again with ``weights_only=True``.
    """
    plain_data = plain(data)
    with atomic_file(path) as file:
        sealing = SealingWriter(file)
        torch.save(plain_data, cast(IO[bytes], sealing))
        sealing.seal()


def _refuse(value: Any, where: str) -> Any:
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a checkpoint cannot hold: files load without "
        f"running code, so only tensors, arrays, numbers, strings and containers of them are saved"
    )


def plain(value: Any, where: str = "checkpoint", other: Callable[[Any, str], Any] = _refuse) -> Any:
    """Return `value` from what ``torch.load(weights_only=True)`` accepts; arrays become tensors.

    Args:
        value: tensors, numbers, strings, None and containers of them.
        where: what `value` is, for the message.
        other: called with (value, where) for everything else.

    >>> plain({"steps": (np.int64(3), [1.5])})
    {'steps': (3, [1.5])}
    >>> plain({"hook": open})
    Traceback (most recent call last):
    ...
    TypeError: checkpoint['hook'] is a builtin_function_or_method, which a checkpoint cannot hold: \
files load without running code, so only tensors, arrays, numbers, strings and containers of them \
are saved
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.generic):  # before float: np.float64 is one
        return value.item()
    if isinstance(value, str):
        return str(value)  # torch.__version__ is of a class of its own
    if value is None or isinstance(value, (bool, int, float, complex, bytes)):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {k: plain(v, f"{where}[{k!r}]", other) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain(v, f"{where}[{i}]", other) for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    return other(value, where)
