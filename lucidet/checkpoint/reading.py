"""Read weights from a file, recognised by its content, without running anything in it."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lucidet.checkpoint.seal import DamagedFileError, check_seal
from lucidet.checkpoint.unpickle import RefusedPickle, load_pickle
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
#: a zip archive of tensors holds them as they are; one that unpacks to more is no checkpoint
_MAX_EXPANSION = 1.1
_SLACK = 1 << 20


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
    with local.open("rb") as file:
        head = file.read(32)
    if _is_safetensors(head, local.stat().st_size):
        content: Any = _read_safetensors(local)
    elif head.startswith(_PICKLE) and _OLD_TORCH not in head:
        content = _read_pickle(local)
    else:
        _refuse_others(local, head)
        if head.startswith(_ZIP):
            check_seal(local)
            _check_archive(local)
        content = _read_torch(local, is_zip=head.startswith(_ZIP))
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
    if not local.is_file():
        raise FileNotFoundError(_missing(path, f"looked for {local.absolute()}"))
    return local


def _missing(path: str | os.PathLike[str], detail: str) -> str:
    return (
        f"weights file {os.fspath(path)!r} is not there ({detail}). Put the file there, or set "
        f'MODEL.WEIGHTS to the path of a file you have; MODEL.WEIGHTS "" trains from scratch'
    )


def _refuse_others(path: Path, head: bytes) -> None:
    for start, what in _OTHERS.items():
        if head.lstrip().startswith(start):
            raise ValueError(f"{path} is no checkpoint: its content is {what}")


def _is_safetensors(head: bytes, size: int) -> bool:
    """A safetensors file: the length of its JSON header in 8 bytes, then the JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {"model": load_file(path)}
    except SafetensorError as error:
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


def _check_archive(path: Path) -> None:
    """Refuse zip archives that hold programs, or that unpack to far more than their size."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # truncated: torch.load says so
    names = [entry.filename for entry in entries]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise ValueError(
            f"{path} is a TorchScript program, not weights: it holds code and is refused. Save "
            "its state dict alone, where you trust it: torch.save(model.state_dict(), FILE)"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise ValueError(
            f"{path} is a zip archive, but not one of torch.save (entries: {names[:3]})"
        )
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > _MAX_EXPANSION * size + _SLACK:
        raise ValueError(
            f"{path} unpacks from {size} to {unpacked} bytes; torch.save does not compress, so "
            "this is no checkpoint but perhaps a zip bomb; it is refused"
        )


def _read_torch(path: Path, is_zip: bool) -> Any:
    try:
        with path.open("rb") as file:  # by path, torch would go by the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is long; its reason stands behind this word
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        if _names_code(reason):
            raise ValueError(
                f"{path} holds more than tensors and plain containers, which could run code when "
                f"loaded; it is refused ({reason.splitlines()[0]}). Save its state dict alone"
            ) from error
        raise DamagedFileError(_not_readable(path, is_zip, error)) from error
    except (
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
        AssertionError,
    ) as error:
        raise DamagedFileError(_not_readable(path, is_zip, error)) from error


def _names_code(reason: str) -> bool:
    """Whether the unpickler stopped at a class or function, not at garbage."""
    return any(word in reason for word in ("GLOBAL", "class", "build", "call"))


def _not_readable(path: Path, is_zip: bool, error: Exception) -> str:
    what = "is truncated or damaged" if is_zip or not path.stat().st_size else "is no checkpoint"
    return (
        f"{path} ({path.stat().st_size} bytes) {what}; expected a file written by torch.save or "
        f"safetensors ({_first_line(error)}). Fetch or save it again"
    )


def _first_line(error: Exception) -> str:
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return (text or type(error).__name__).splitlines()[0]


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
    found = f"keys {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__
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
