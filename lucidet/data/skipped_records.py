"""Records that can't be mapped: skipped and reported, up to a limit (``DATALOADER.ON_ERROR``)."""

from __future__ import annotations

import logging
import mmap
from typing import Any

import torch
from torch.utils.data import IterableDataset

__all__ = ["SkippedRecords", "find_skipped", "skipping"]

logger = logging.getLogger(__name__)

ON_ERROR = ("stop", "skip")


class SkippedRecords:
    """Which records of a dataset were skipped; one memory for all worker processes.

    Args:
        total: records in the dataset.
        limit: at most this many different records are skipped, in this training process.
    """

    def __init__(self, total: int, limit: int) -> None:
        self.limit = limit
        # as SharedList: the tensor keeps the mapping alive and travels to spawned processes
        self._flags = torch.frombuffer(mmap.mmap(-1, max(total, 1)), dtype=torch.uint8)

    def __len__(self) -> int:
        return int(self._flags.count_nonzero())

    def add(self, index: int, record: Any, error: Exception) -> None:
        """Note that a record was skipped; it is reported the first time.

        Args:
            index: of the record in the dataset.
            record: names its image.
            error: why it can't be mapped.

        Raises:
            ValueError: more records than the limit were skipped.
        """
        if self._flags[index]:
            return
        self._flags[index] = 1
        what = f"{_name(record, index)}: {type(error).__name__}: {error}"
        if len(self) > self.limit:
            raise ValueError(
                f"{len(self)} records can't be mapped, more than DATALOADER.MAX_SKIPPED "
                f"{self.limit}; the last is {what}. Repair these records, or set "
                "DATALOADER.MAX_SKIPPED higher; DATALOADER.ON_ERROR stop ends at the first one"
            ) from error
        logger.warning("skipped %s. Another image takes its place (DATALOADER.ON_ERROR)", what)

    def report(self) -> None:
        """Log how many records were skipped."""
        if len(self):
            total = self._flags.numel()
            logger.warning("%d of %d records were skipped: they can't be mapped", len(self), total)


def _name(record: Any, index: int) -> str:
    if not isinstance(record, dict):
        return f"record {index}"
    image_id = record.get("image_id", "not given")
    return f"{record.get('file_name', f'record {index}')} (image_id {image_id})"


def skipping(on_error: str, limit: int, dataset: Any) -> SkippedRecords | None:
    """Return where skipped records of a dataset are noted; None: an error stops the training.

    Args:
        on_error: "stop" or "skip".
        limit: at most this many records are skipped, >= 0.
        dataset: has a length; a stream can't skip.

    Raises:
        ValueError: a value that is not known, or a stream.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"DATALOADER.ON_ERROR must be one of {ON_ERROR}, got {on_error!r}")
    if on_error == "stop":
        return None
    if limit < 0:
        raise ValueError(f"DATALOADER.MAX_SKIPPED must be at least 0, got {limit}")
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            "DATALOADER.ON_ERROR skip needs a dataset with indices, and this one streams: leave "
            "out its broken records in the stream itself, or set DATALOADER.ON_ERROR stop"
        )
    return SkippedRecords(len(dataset), limit)


def find_skipped(loader: Any) -> SkippedRecords | None:
    """Return where the dataset behind a loader notes skipped records, or None."""
    while loader is not None:
        found = getattr(loader, "skipped", None)
        if isinstance(found, SkippedRecords):
            return found
        loader = getattr(loader, "dataset", getattr(loader, "batches", None))
    return None
