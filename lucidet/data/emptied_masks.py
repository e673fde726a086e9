"""Objects of which augmentation leaves no mask: they are dropped, counted and reported."""

from __future__ import annotations

import logging
import mmap
from typing import Any

import torch

__all__ = ["EmptiedMasks"]

logger = logging.getLogger(__name__)


class EmptiedMasks:
    """Counts dropped objects, in one memory for all worker processes.

    >>> counted = EmptiedMasks()
    >>> counted.add({"image_id": 7}, 2)
    >>> len(counted)
    2
    """

    def __init__(self) -> None:
        # as SharedList: the tensor keeps the mapping alive and travels to spawned processes
        self._count = torch.frombuffer(mmap.mmap(-1, 8), dtype=torch.int64)

    def __len__(self) -> int:
        return int(self._count)

    def add(self, record: dict[str, Any], dropped: int) -> None:
        """Note that `dropped` objects of a record have no mask; logged at 1, 10, 100, ..."""
        if not dropped:
            return
        before = len(self)
        self._count += dropped
        # two workers may count at once: the number is for people, not exact to the last object
        if len(str(before)) < len(str(before + dropped)) or before == 0:
            logger.info(
                "objects whose mask is empty after augmentation are dropped: %d so far, the last "
                "in image %s (image_id %s)",
                before + dropped,
                record.get("file_name"),
                record.get("image_id"),
            )
