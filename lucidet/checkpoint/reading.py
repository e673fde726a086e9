"""Read weights from a file, recognised by its content, without running anything in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lucidet._regular_file import check_regular, open_regular
from lucidet.checkpoint.archive import open_archive
from lucidet.checkpoint.seal import DamagedFileError, check_seal
from lucidet.checkpoint.torch_program import check_old_file, check_program
from lucidet.checkpoint.unpickle import RefusedPickle, as_arrays, load_pickle, numpy_globals
from lucidet.utils.file_io import PathManager

_ZIP = b"PK\x03\x04"  # torch.save since 1.6 writes a zip archive
_PICKLE = b"\x80"
#: the number with which torch.save's older files begin, as a pickle
_OLD_TORCH = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
#: beginnings of what is often saved under a checkpoint's name by mistake
_OTHERS = {
    b"<": "a web page or XML (a download that failed?)",
    b"\xff\xd8": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x89HDF": "an HDF5 file (Keras?)",
    b"version https://git-lfs": "a pointer of Git LFS; run `git lfs pull`",
}


def load_weights_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: local file, or an address that `lucidet.utils.file_io.PathManager` knows. The kind of
            file is seen from its content, not its name: ``.pth`` as torch.save writes it,
            ``.safetensors``, and ``.pkl`` of arrays as detectron2 and Detectron write it.

    Returns:
        ``{"model": {name: tensor}, ...}`` on the CPU, beside "model" whatever else the file holds
        ("optimizer", "iteration" ...). A plain dict of tensors is taken as the model.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is truncated, or differs from its checksum.
        ValueError: it is no checkpoint, or holds objects that could run code.
    """
    local = local_weights_path(path)
    with open_regular(local, "weights") as file:
        head = file.read(32)
    if _is_safetensors(head, local.stat().st_size):
        content: Any = _read_safetensors(local)
    elif head.startswith(_PICKLE) and _OLD_TORCH not in head:
        content = _read_pickle(local)
    elif head.startswith(_PICKLE):
        content = _read_old_torch(local)
    elif head.startswith(_ZIP):
        content = _read_archive(local)
    else:
        raise _no_checkpoint(local, head)
    return _as_checkpoint(content, local)


def local_weights_path(path: str | os.PathLike[str]) -> Path:
    """Return the local file behind `path`, fetched where necessary.

    Raises:
        FileNotFoundError: there is none; the message says what to do.
    """
    try:
        local = Path(PathManager.get_local_path(path))
    except ValueError as error:  # no handler for this kind of address
        raise FileNotFoundError(_missing(path, str(error))) from error
    if not _exists(local):
        raise FileNotFoundError(_missing(path, f"looked for {local.absolute()}"))
    if not local.is_dir():
        check_regular(local, "weights")
        return local
    raise FileNotFoundError(_missing(path, f"{local.absolute()} is a folder"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a zero byte
        return False


def _missing(path: str | os.PathLike[str], detail: str) -> str:
    return (
        f"weights file {os.fspath(path)!r} is not there ({detail}). Put the file there, or set "
        f'MODEL.WEIGHTS to the path of a file you have; MODEL.WEIGHTS "" trains from scratch'
    )


def _no_checkpoint(path: Path, head: bytes) -> ValueError:
    for start, what in _OTHERS.items():
        if head.lstrip().startswith(start):
            return ValueError(f"{path} is no checkpoint: its content is {what}")
    size = path.stat().st_size
    what = "is no checkpoint" if size else "is truncated or damaged"
    return DamagedFileError(
        f"{path} ({size} bytes) {what}; expected a file written by torch.save or safetensors. "
        "Fetch or save it again"
    )


def _is_safetensors(head: bytes, size: int) -> bool:
    """A safetensors file: the length of its JSON header in 8 bytes, then the JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {"model": load_file(path)}
    except (SafetensorError, OverflowError, ValueError) as error:
        raise ValueError(f"{path} is damaged (safetensors: {error}); fetch it again") from error


def _read_pickle(path: Path) -> Any:
    try:
        return load_pickle(path)
    except RefusedPickle as error:
        raise ValueError(
            f"{path} holds more than arrays and plain containers; it is refused: {error}. "
            "Nothing in it was run"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes): {error}. Fetch it again"
        ) from error


def _read_archive(path: Path) -> Any:
    check_seal(path)
    archive = open_archive(path)
    with _refusals(path):
        check_program(archive.program, archive.sizes, path.stat().st_size)
    return _read_torch(path, with_numpy=b"numpy" in archive.program)


def _read_old_torch(path: Path) -> Any:
    with _refusals(path), open_regular(path, "weights") as file:
        check_old_file(file, path.stat().st_size)
    return _read_torch(path)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Say which file it is that is refused, and what to do."""
    try:
        yield
    except RefusedPickle as error:
        raise ValueError(
            f"{path} holds more than tensors and plain containers, which could run code when "
            f"loaded; it is refused ({error}). Save its state dict alone"
        ) from error
    except ValueError as error:
        raise DamagedFileError(_not_readable(path, str(error))) from error


def _read_torch(path: Path, with_numpy: bool = False) -> Any:
    """Read what has been checked; NumPy's numbers and arrays through the same stand-ins."""
    allowed = numpy_globals(path.stat().st_size) if with_numpy else []
    try:
        # by path, torch would go by the suffix
        with open_regular(path, "weights") as file, torch.serialization.safe_globals(allowed):
            content = torch.load(file, map_location="cpu", weights_only=True)
        return as_arrays(content) if with_numpy else content
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types for broken files
        raise DamagedFileError(_not_readable(path, _first_line(error))) from error


def _not_readable(path: Path, reason: str) -> str:
    return (
        f"{path} ({path.stat().st_size} bytes) is truncated or damaged; expected a file written by "
        f"torch.save or safetensors ({reason}). Fetch or save it again"
    )


def _first_line(error: Exception) -> str:
    """Return torch's reason, without its advice to load the file in a way that runs code."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    first = (text or type(error).__name__).splitlines()[0]
    return type(error).__name__ if "weights_only" in first else first[:200]


def _as_checkpoint(content: Any, path: Path) -> dict[str, Any]:
    """Return ``{"model": weights, ...}``; weights stand under "model", "blobs" or by themselves."""
    if isinstance(content, dict):
        for key in ("model", "state_dict", "blobs"):
            weights = content.get(key)
            if isinstance(weights, dict):
                rest = {name: value for name, value in content.items() if name != key}
                return {**rest, "model": _tensors(weights)}
        tensors = _tensors(content)
        if tensors:
            return {"model": tensors}
    found = (
        f"keys {list(content)[:5]!r:.200}" if isinstance(content, dict) else type(content).__name__
    )
    raise ValueError(
        f'{path} is no checkpoint: expected {{"model": {{name: tensor}}}} or a dict of tensors, '
        f"found {found}"
    )


def _tensors(weights: dict[Any, Any]) -> dict[str, Any]:
    """Return the entries with arrays as tensors; what is no tensor is left for who uses it."""
    if not weights or not all(isinstance(name, str) for name in weights):
        return {}
    if not all(isinstance(v, (torch.Tensor, np.ndarray, int, float)) for v in weights.values()):
        return {}
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in weights.items()
        if isinstance(value, (torch.Tensor, np.ndarray))
    }
