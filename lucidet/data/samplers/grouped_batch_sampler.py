"""Batches of indices that belong to one group, for example of like aspect ratio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch.utils.data.sampler import BatchSampler, Sampler


class GroupedBatchSampler(BatchSampler):
    """Yields ``batch_size`` indices of one group as soon as that many have come up.

    Args:
        sampler: the indices.
        group_ids: the group of each index, any hashable values.
        batch_size: number of indices in a batch.

    Order within a group is that of `sampler`. Incomplete batches at the end of a finite sampler
    are not given out.

    >>> list(GroupedBatchSampler([0, 1, 2, 3, 4], group_ids=[0, 1, 0, 1, 0], batch_size=2))
    [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        sampler: Sampler[int] | Iterable[int],
        group_ids: Sequence[object] | Mapping[int, object],
        batch_size: int,
    ) -> None:
        if not isinstance(sampler, Iterable):
            raise ValueError(f"sampler must give indices, got {type(sampler).__name__}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.sampler = sampler
        self.group_ids, self.batch_size = group_ids, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[object, list[int]] = {}
        for index in self.sampler:
            group = waiting.setdefault(self.group_ids[index], [])
            group.append(index)
            if len(group) == self.batch_size:
                yield list(group)
                group.clear()

    def __len__(self) -> int:
        raise TypeError(
            "the number of batches is not known before: it depends on the groups' sizes"
        )
