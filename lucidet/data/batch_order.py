"""Which images make up which batch of a training: a function of the seed and the position.

Nothing of it depends on the number of worker processes or, with lucidet's samplers, on the number
of training processes. A resumed run counts on from where the interrupted one was, images that
waited to be grouped by aspect ratio included.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from lucidet.data.samplers import TrainingSampler
from lucidet.utils import comm
from lucidet.utils.keyed_random import IMAGE, kept_cpu_generators, seed_cpu_generators

__all__ = ["BatchOrder", "MappedBatches"]

logger = logging.getLogger(__name__)

Numbered = tuple[int, int]  # (number of the image in the run, its index in the dataset)


class BatchOrder:
    """Endless batches of numbered indices, the part of this process.

    Args:
        sampler: the indices. A `TrainingSampler` gives one order for all processes: each batch of
            the run is made up from it and then divided. The order that any other sampler yields is
            this process's own.
        batch_size: images in a batch of this process.
        groups: the group of each index; the images of a batch of the run are of one group. None:
            batches in the order of the sampler.
        drop_last: leave out an incomplete batch at the end of a finite sampler without groups.
        seed: of what is random about each image; None: that of the sampler, or a new one.

    Attributes:
        total: images in a batch of the run, all processes together.
    """

    def __init__(
        self,
        sampler: Iterable[int],
        batch_size: int,
        groups: Sequence[Any] | None = None,
        drop_last: bool = True,
        seed: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.groups = groups
        self.drop_last = drop_last
        self._rank, self._world = comm.get_rank(), comm.get_world_size()
        self.total = batch_size * self._world
        self._shared: TrainingSampler | None = None
        if (
            isinstance(sampler, TrainingSampler)
            and type(sampler).__iter__ is TrainingSampler.__iter__
        ):
            self._shared = sampler
        if seed is None:
            seed = self._shared.seed if self._shared else comm.shared_random_seed()
        self.seed = seed
        self._start = 0  # images before the first batch, of all processes together
        self._done = 0  # batches since then

    def __iter__(self) -> Iterator[list[Numbered]]:
        batches = self._plain() if self.groups is None else self._grouped(self.groups)
        share = slice(self._rank, None, self._world) if self._shared else slice(None)
        for batch in itertools.islice(batches, self._done, None):
            yield batch[share]

    def _numbered(self) -> Iterator[Numbered]:
        if self._shared:
            stream = enumerate(self._shared.stream())
            return itertools.islice(stream, self._start, None)
        own = zip(itertools.count(self._rank, self._world), self.sampler, strict=False)
        return itertools.islice(own, self._start // self._world, None)

    @property
    def _size(self) -> int:
        return self.total if self._shared else self.batch_size

    def _plain(self) -> Iterator[list[Numbered]]:
        numbered = self._numbered()
        while batch := list(itertools.islice(numbered, self._size)):
            if len(batch) < self._size and self.drop_last:
                return
            yield batch

    def _grouped(self, groups: Sequence[Any]) -> Iterator[list[Numbered]]:
        waiting: dict[Any, list[Numbered]] = {}
        for number, index in self._numbered():
            group = waiting.setdefault(groups[index], [])
            group.append((number, index))
            if len(group) == self._size:
                yield list(group)
                group.clear()

    # ------------------------------------------------------------------------------ resuming

    def position(self, images: int) -> dict[str, int]:
        """Return where the run is after `images` more, of all processes together."""
        place = {"start": self._start, "batches": self._done + images // self.total}
        place |= {"batch_size": self.total, "seed": self.seed}
        if self._shared:
            place["order"] = self._shared.seed
        return place

    def go_to(self, position: Mapping[str, int], seed: int | None = None) -> None:
        """Let the next iteration begin at a `position` of an earlier run.

        With another batch size as many images are skipped, and groups start empty.

        Args:
            position: of this class, or of a sampler.
            seed: the user's, which counts instead of the earlier run's.
        """
        self._start, self._done = int(position["start"]), int(position.get("batches", 0))
        before = int(position.get("batch_size", self.total))
        if before != self.total:
            self._start, self._done = self._start + self._done * before, 0
            logger.info("The batch size was %d and is %d: groups start empty", before, self.total)
        self.seed = int(position["seed"]) if seed is None else seed
        if self._shared:
            order = int(position.get("order", position["seed"])) if seed is None else seed
            self._shared.reseed(order)


class MappedBatches(IterableDataset):
    """Batches of mapped records; each worker maps every W-th batch of an order.

    Before image n is mapped, the global random generators are seeded by (seed, n): mappers and
    augmentations may draw from Python's, NumPy's and torch's. In the training process itself they
    are put back afterwards.

    Args:
        dataset: index -> mapped record.
        order: the batches.
        collate_fn: makes a batch of a list.
    """

    def __init__(
        self, dataset: Any, order: BatchOrder, collate_fn: Callable[[list[Any]], Any]
    ) -> None:
        self.dataset, self.order, self.collate_fn = dataset, order, collate_fn

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is None:
            for batch in self.order:
                with kept_cpu_generators():
                    mapped = self._mapped(batch)
                yield mapped
        else:
            for batch in itertools.islice(self.order, worker.id, None, worker.num_workers):
                yield self._mapped(batch)

    def _mapped(self, batch: list[Numbered]) -> Any:
        records = []
        for number, index in batch:
            seed_cpu_generators(IMAGE, self.order.seed, number)
            records.append(self.dataset[index])
        return self.collate_fn(records)

    def __len__(self) -> int:
        images = len(self.order.sampler)  # type: ignore[arg-type]
        full, rest = divmod(images, self.order.batch_size)
        return full + (rest > 0 and not self.order.drop_last)
