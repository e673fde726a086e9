"""Read weights from a file, recognised by its content, without running anything in it."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lucidet.utils.file_io import PathManager

_ZIP = b"PK\x03\x04"  # torch.save since 1.6 writes a zip archive


def load_weights_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: local file, or an address that `lucidet.utils.file_io.PathManager` knows. ``.pth``
            as torch.save writes it and ``.safetensors`` are told apart by their content.

    Returns:
        ``{"model": {name: tensor}, ...}`` on the CPU, beside "model" whatever else the file holds
        ("optimizer", "iteration" ...). A plain dict of tensors is taken as the model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, no checkpoint, or holds objects that could run code.
    """
    local = local_weights_path(path)
    with local.open("rb") as file:
        head = file.read(9)
    if _is_safetensors(head, local.stat().st_size):
        content = _read_safetensors(local)
    else:
        content = _read_torch(local, is_zip=head.startswith(_ZIP))
    return _as_checkpoint(content, local)


def local_weights_path(path: str | os.PathLike[str]) -> Path:
    """Return the local file behind `path`.

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


def _read_torch(path: Path, is_zip: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is long; its reason stands behind this word
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip()
        if _names_code(reason):
            raise ValueError(
                f"{path} holds more than tensors and plain containers, which could run code when "
                f"loaded; it is refused ({reason.splitlines()[0]}). Save its state dict alone"
            ) from error
        raise ValueError(_not_readable(path, is_zip, error)) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ValueError(_not_readable(path, is_zip, error)) from error


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
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        return content
    if isinstance(content, dict) and content and all(isinstance(k, str) for k in content):
        tensors = [name for name, value in content.items() if isinstance(value, torch.Tensor)]
        if len(tensors) == len(content):
            return {"model": content}
    found = f"keys {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__
    raise ValueError(
        f'{path} is no checkpoint: expected {{"model": {{name: tensor}}}} or a dict of tensors, '
        f"found {found}"
    )
