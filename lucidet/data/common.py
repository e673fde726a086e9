"""Data sets around data sets: a shared list, a mapped one, a stream, batches by aspect ratio."""

from __future__ import annotations

import contextlib
import copy
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torch.utils.data.sampler import Sampler

from lucidet.data.shared_list import SharedList
from lucidet.data.skipped_records import SkippedRecords

__all__ = [
    "AspectRatioGroupedDataset",
    "DatasetFromList",
    "MapDataset",
    "ToIterableDataset",
    "set_default_dataset_from_list_serialize_method",
]

logger = logging.getLogger(__name__)

# a mapper that refuses this many records in a row is broken, or its data is
MAX_RETRIES = 1000

_serialize_method: Callable[[Sequence[Any]], Sequence[Any]] = SharedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(
    new: Callable[[Sequence[Any]], Sequence[Any]],
) -> Iterator[None]:
    """Within the block, DatasetFromList stores its items with ``new(items)``."""
    global _serialize_method
    old, _serialize_method = _serialize_method, new
    try:
        yield
    finally:
        _serialize_method = old


def wide_or_not(records: Sequence[Any]) -> list[bool] | None:
    """Return for each record whether its image is wider than high; None where some do not tell.

    >>> wide_or_not([{"width": 4, "height": 3}, {"width": 3, "height": 3}])
    [True, False]
    """
    if not all(isinstance(r, dict) and "width" in r and "height" in r for r in records):
        return None
    return [r["width"] > r["height"] for r in records]


class DatasetFromList(Dataset):
    """A list as a data set.

    Args:
        lst: the items.
        copy: give out deep copies, so that callers may change what they get (serialised items are
            fresh in any case).
        serialize: keep the items in one buffer that worker processes share without copying; or a
            function that turns the list into such a sequence.
    """

    def __init__(
        self,
        lst: Sequence[Any],
        copy: bool = True,
        serialize: bool | Callable[[Sequence[Any]], Sequence[Any]] = True,
    ) -> None:
        self._copy, self._serialize = copy, bool(serialize)
        self.is_wide = wide_or_not(lst)  # before they are stored: looking at each again is slow
        if not serialize:
            self._lst: Sequence[Any] = lst
        else:
            method = serialize if callable(serialize) else _serialize_method
            self._lst = _stored(lst, method)
        if isinstance(self._lst, SharedList) and self._lst.nbytes >= 2**20:
            logger.info(
                "%d records in %.1f MiB of shared memory", len(lst), self._lst.nbytes / 2**20
            )

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, index: int) -> Any:
        item = self._lst[index]
        own = self._copy and (not self._serialize or isinstance(self._lst, list))
        return copy.deepcopy(item) if own else item


def _stored(items: Sequence[Any], method: Callable[[Sequence[Any]], Sequence[Any]]) -> Any:
    """Return the items as `method` stores them; as they are where they can't be serialised."""
    try:
        return method(items)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # a lambda, an open file
        logger.warning(
            "the records can't be serialised (%s) and are not shared between worker processes: "
            "each has its own copy",
            error,
        )
        return [*items]


class MapDataset(Dataset):
    """Applies a function to each item of a data set.

    When the function returns None for an item, another item, drawn with ``numpy.random``, takes its
    place (in a dataset with a length); in a stream the item is left out.

    Args:
        dataset: a data set, or an iterable one.
        map_func: item -> item or None.
        skipped: where items are noted for which the function raises an error; another item takes
            their place too, drawn from NumPy's state before the function was called. None: the
            error is raised.
    """

    def __new__(
        cls, dataset: Any, map_func: Callable[[Any], Any], skipped: SkippedRecords | None = None
    ) -> Any:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[Any, Callable[[Any], Any]]:
        return self._dataset, self._map_func

    def __init__(
        self, dataset: Any, map_func: Callable[[Any], Any], skipped: SkippedRecords | None = None
    ) -> None:
        self._dataset, self._map_func, self.skipped = dataset, map_func, skipped

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        current, refused = int(index), set()
        for attempt in range(1, MAX_RETRIES + 1):
            mapped = self._mapped(current)
            if mapped is not None:
                return mapped
            refused.add(current)
            if attempt in (3, 30, 300):
                logger.warning("the mapper returned None for %d items in a row", attempt)
            current = self._draw_replacement(refused)
        raise ValueError(
            f"the mapper returned None for {MAX_RETRIES} items in a row, starting with item "
            f"{index} of {len(self)}; it must accept some of the data set's records"
            + (f" ({len(self.skipped)} raise errors, see the log)" if self.skipped else "")
        )

    def _mapped(self, index: int) -> Any:
        """Return the mapped item; None where it is refused or skipped."""
        if self.skipped is None:
            return self._map_func(self._dataset[index])
        before, item = np.random.get_state(), None
        try:
            item = self._dataset[index]
            return self._map_func(item)
        except MemoryError:
            raise
        except Exception as error:
            self.skipped.add(index, item, error)
            # the replacement must not depend on how far the function came
            np.random.set_state(before)
            return None

    def _draw_replacement(self, refused: set[int]) -> int:
        draws = np.random.randint(len(self), size=16).tolist()
        # an item refused for this one is tried again only if nothing better came up
        return next((i for i in draws if i not in refused), draws[0])


class _MapIterableDataset(IterableDataset):
    """MapDataset for a stream: items for which the function returns None are left out."""

    def __init__(self, dataset: Iterable[Any], map_func: Callable[[Any], Any]) -> None:
        self._dataset, self._map_func = dataset, map_func

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for item in self._dataset:
            mapped = self._map_func(item)
            if mapped is not None:
                yield mapped


class ToIterableDataset(IterableDataset):
    """The items of a data set as a stream, in the order of a sampler.

    Args:
        dataset: a data set with indices.
        sampler: gives the indices; the same in every worker process.
        shard_sampler: each of W workers takes every W-th chunk of the sampler's indices, so that
            together they give each once. Set False if the sampler does so itself.
        shard_chunk_size: indices in a chunk; the batch size keeps batches as without workers.
    """

    def __init__(
        self,
        dataset: Any,
        sampler: Sampler[int] | Iterable[int],
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ) -> None:
        if isinstance(dataset, IterableDataset):
            raise ValueError("ToIterableDataset takes a data set with indices; this one streams")
        if not isinstance(sampler, Iterable):
            raise ValueError(f"sampler must give indices, got {type(sampler).__name__}")
        self.dataset, self.sampler = dataset, sampler
        self.shard_sampler, self.shard_chunk_size = shard_sampler, shard_chunk_size

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info() if self.shard_sampler else None
        indices: Iterator[int] = iter(self.sampler)
        if worker is not None and worker.num_workers > 1:
            indices = shard_by_chunks(indices, worker.id, worker.num_workers, self.shard_chunk_size)
        for index in indices:
            yield self.dataset[index]

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


def shard_by_chunks(items: Iterable[int], shard: int, count: int, chunk: int) -> Iterator[int]:
    """Yield chunks number shard, shard + count, shard + 2 count ... of `items`.

    >>> list(shard_by_chunks(range(9), shard=1, count=2, chunk=2))
    [2, 3, 6, 7]
    """
    for position, item in enumerate(items):
        if position // chunk % count == shard:
            yield item


def _is_wide(record: dict[str, Any]) -> bool:
    """Return whether an image is wider than high, by its record or by itself."""
    width, height = record.get("width"), record.get("height")
    if width is None or height is None:
        if "image" not in record:
            raise ValueError(
                "a mapped record has neither width and height nor an image, only "
                f"{sorted(record)}: it can't be grouped by aspect ratio; set "
                "DATALOADER.ASPECT_RATIO_GROUPING False"
            )
        height, width = record["image"].shape[-2:]
    return bool(width > height)


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of images that are all wider than high, or all not: less padding.

    For streams, and for records that do not tell the sizes of their images before they are mapped;
    else a `BatchOrder` groups the indices.

    Args:
        dataset: a stream of mapped records with ``width`` and ``height``.
        batch_size: records in a batch.

    Yields lists of ``batch_size`` records; the order is nearly that of the stream. Batches that a
    finite stream leaves incomplete are not given out.
    """

    def __init__(self, dataset: Iterable[dict[str, Any]], batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.dataset, self.batch_size = dataset, batch_size

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        waiting: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for record in self.dataset:
            wide = _is_wide(record)
            waiting[wide].append(record)
            if len(waiting[wide]) == self.batch_size:
                batch, waiting[wide] = waiting[wide], []
                yield batch
