"""Faults of the machine in the middle of a training, said so that one knows what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

__all__ = ["ResourceFaultError", "explained", "is_disk_full", "shapes_of_batch"]

_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")


class ResourceFaultError(OSError):
    """Memory, disk or a process of the machine is gone; the program is not to blame."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that there is no space, or no quota, on a disk."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        found = found.__cause__ or found.__context__
    return False


def explained(error: Exception) -> Exception:
    """Return `error`, or, for a fault of the machine, one that says what to do.

    >>> str(explained(OSError(errno.ENOSPC, "No space left on device", "out/model.pth")))[:26]
    'the disk is full: out/mode'
    """
    if isinstance(error, torch.OutOfMemoryError):
        return ResourceFaultError(_out_of_memory(error))
    if is_disk_full(error):
        return ResourceFaultError(
            f"the disk is full: {getattr(error, 'filename', None) or 'OUTPUT_DIR'} could not be "
            "written. The last complete checkpoint is kept; make room and go on with --resume"
        )
    killed = _WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if killed:
        return ResourceFaultError(
            f"worker process {killed[1]} of the data loader is gone: {str(error).splitlines()[0]} "
            "The system kills processes when memory runs out: set DATALOADER.NUM_WORKERS lower, "
            "and go on with --resume"
        )
    return error


def _out_of_memory(error: torch.OutOfMemoryError) -> str:
    shapes = "; ".join(shapes_of_batch(error)) or "not known"
    return (
        f"out of GPU memory on a batch of images (channels, height, width; boxes): {shapes}. Set "
        "SOLVER.IMS_PER_BATCH lower and SOLVER.ACCUMULATE higher, INPUT.MIN_SIZE_TRAIN or "
        "INPUT.MAX_SIZE_TRAIN lower, or SOLVER.AMP.ENABLED True; SOLVER.SKIP_OUT_OF_MEMORY True "
        "skips single batches; go on with --resume "
        f"({str(error).splitlines()[0]})"
    )


def shapes_of_batch(error: BaseException) -> Iterator[str]:
    """Yield a description of each image of the batch that a step of the traceback worked on."""
    step = error.__traceback__
    while step is not None:
        batch = step.tb_frame.f_locals.get("batch")
        if isinstance(batch, list) and batch and isinstance(batch[0], Mapping):
            yield from (_described(record) for record in batch)
            return
        step = step.tb_next


def _described(record: Mapping[str, Any]) -> str:
    image, found = record.get("image"), record.get("instances")
    shape = tuple(image.shape) if isinstance(image, torch.Tensor) else "no image"
    return f"{record.get('file_name', '?')} {shape}, {0 if found is None else len(found)} boxes"
