"""Which checkpoint of a folder a training goes on from."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lucidet.checkpoint.archive import open_archive
from lucidet.checkpoint.torch_program import check_program

__all__ = ["LAST_CHECKPOINT", "checkpoint_files", "resume_candidates", "stored_entry"]

LAST_CHECKPOINT = "last_checkpoint"  # a file that holds the name of the newest checkpoint
#: what trainings save: model_0000019.pth, model_final.pth, model_best.pth
_OURS = re.compile(r".+_(?:(\d{7,})|final|best)\.pth")
_LONGEST_NAME = 255  # bytes, of file systems

logger = logging.getLogger("lucidet.checkpoint")


def resume_candidates(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the paths of checkpoints in the order in which they should be tried.

    First the one that ``last_checkpoint`` names, whether or not it exists; then those before it,
    and then all others, the highest iteration first. The best model comes last: it is older.
    """
    folder = os.fspath(folder)
    named = _named(folder)
    if named:
        yield os.path.join(folder, named)
    number = _OURS.fullmatch(named or "")
    limit = int(number[1]) if number and number[1] else None
    others = [name for name in checkpoint_files(folder) if name != named]
    ranked = sorted(others, key=lambda name: _rank(folder, name, limit), reverse=True)
    for name in ranked:
        yield os.path.join(folder, name)


def _rank(folder: str, name: str, limit: int | None) -> tuple[bool, bool, int, str]:
    iteration = _iteration(Path(folder, name))
    reached = -1 if iteration is None else iteration
    return "_best" not in name, limit is None or reached <= limit, reached, name


def checkpoint_files(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of a folder's checkpoints, readable or not, sorted.

    A file counts if an iteration is in it or, where it cannot be read, by its name.
    """
    paths = [path for path in Path(folder).glob("*.pth") if path.is_file()]
    return sorted(path.name for path in paths if _is_checkpoint(path))


def _is_checkpoint(path: Path) -> bool:
    try:
        return stored_entry(path, "iteration") is not None
    except ValueError:
        return _OURS.fullmatch(path.name) is not None


def stored_entry(path: str | os.PathLike[str], key: str) -> Any:
    """Return one entry of a checkpoint, None where it has no such; tensors are not read.

    Raises:
        ValueError: the file is missing or cannot be read.
    """
    try:
        archive = open_archive(Path(path))
        check_program(archive.program, archive.sizes, os.path.getsize(path))
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return content.get(key)
    except Exception as error:  # damage shows in many ways
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{os.fspath(path)} cannot be read ({reason})") from error


def _iteration(path: Path) -> int | None:
    """Return the iteration in a checkpoint, None where it has none or cannot be read."""
    try:
        iteration = stored_entry(path, "iteration")
    except ValueError:
        return None  # reported when it is tried
    return iteration if isinstance(iteration, int) and not isinstance(iteration, bool) else None


def _named(folder: str) -> str | None:
    """Return the file name in ``last_checkpoint``; None, with a warning, where it is no name."""
    path = Path(folder, LAST_CHECKPOINT)
    if not path.is_file():
        if checkpoint_files(folder):
            logger.warning("%s is missing: taking the newest checkpoint of the folder", path)
        return None
    with path.open("rb") as file:
        content = file.read(_LONGEST_NAME + 1)
    name = content.decode("utf-8", errors="replace").strip()
    if name and name == os.path.basename(name) and _is_plain(name, content):
        return name
    if not name:
        reason = "is empty"
    elif _is_plain(name, content) or name in (".", ".."):
        reason = f"names {name!r}, which is outside of the folder: it is refused"
    else:
        reason = f"holds no file name: {name[:40]!r}"
    logger.warning("%s %s; taking the newest checkpoint of the folder", path, reason)
    return None


def _is_plain(name: str, content: bytes) -> bool:
    """Whether a text can be a file name."""
    return name.isprintable() and len(content) <= _LONGEST_NAME and name not in (".", "..")
