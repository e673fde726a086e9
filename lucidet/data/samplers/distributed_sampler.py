"""Which image comes next, for one process or many.

Training samplers are endless streams of indices. All processes draw the same stream, from a shared
seed, and each takes every world-size-th index: together they see each index once.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data.sampler import Sampler

from lucidet.utils import comm

logger = logging.getLogger(__name__)

# N images


class TrainingSampler(Sampler[int]):
    """Endless indices 0..size-1, shuffled anew in each round.

    Args:
        size: number of images N, > 0.
        shuffle: a new random order for each round; otherwise ascending.
        seed: of the order; the same in all processes. Default: drawn once and shared.

    With W processes, process r gets indices r, r + W, r + 2W ... of the one stream.

    >>> sampler = TrainingSampler(3, shuffle=False)
    >>> list(itertools.islice(sampler, 5))
    [0, 1, 2, 0, 1]
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        _check_size(type(self).__name__, size)
        self._size, self._shuffle = size, shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()
        self._start = 0

    def __iter__(self) -> Iterator[int]:
        first = self._start + self._rank
        yield from itertools.islice(self.stream(), first, None, self._world_size)

    @property
    def seed(self) -> int:
        """Seed of the order."""
        return self._seed

    def reseed(self, seed: int) -> None:
        """Let the next iteration have the order of `seed`."""
        self._seed = int(seed)

    def position(self, used: int) -> dict[str, int]:
        """Return where the stream is after `used` indices, of all processes together."""
        return {"seed": self._seed, "start": self._start + used}

    def go_to(self, position: dict[str, int]) -> None:
        """Let the next iteration begin at a `position`, of this sampler or of an earlier run's."""
        self.reseed(position["seed"])
        self._start = int(position["start"])

    def stream(self) -> Iterator[int]:
        """Yield the indices of all processes together, from the beginning of the run."""
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield from self._one_round(generator)

    def _one_round(self, generator: torch.Generator) -> list[int]:
        if self._shuffle:
            return torch.randperm(self._size, generator=generator).tolist()
        return list(range(self._size))


def _check_size(name: str, size: int) -> None:
    if not isinstance(size, int):
        raise TypeError(f"{name}(size=) must be a whole number, got {type(size).__name__}")
    if size <= 0:
        raise ValueError(
            f"{name}(size={size}): there is no image to draw; the data set is empty, or all of "
            "it was filtered out (DATALOADER.FILTER_EMPTY_ANNOTATIONS)"
        )


class RandomSubsetTrainingSampler(TrainingSampler):
    """:class:`TrainingSampler` over a random part of the data set, the same part throughout.

    Args:
        size: number of images.
        subset_ratio: part to use, in (0, 1].
        shuffle: as in TrainingSampler.
        seed_shuffle: seed of the order; seed_subset: seed of the choice. Default: one
            seed for both, drawn once and shared.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ) -> None:
        super().__init__(size, shuffle=shuffle, seed=seed_shuffle)
        if not 0 < subset_ratio <= 1:
            raise ValueError(
                "DATALOADER.RANDOM_SUBSET_RATIO (subset_ratio) must lie in (0, 1], "
                f"got {subset_ratio}"
            )
        self._size_subset = max(1, int(size * subset_ratio))
        self._one_seed = seed_subset == seed_shuffle  # given once for both, or not at all
        self._choose(self._seed if seed_subset is None else int(seed_subset))
        logger.info("training on a random subset: %d of %d images", self._size_subset, size)

    def _choose(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.indexes_subset = torch.randperm(self._size, generator=generator)[: self._size_subset]

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        if self._one_seed:
            self._choose(seed)

    def _one_round(self, generator: torch.Generator) -> list[int]:
        if self._shuffle:
            order = torch.randperm(self._size_subset, generator=generator)
            return self.indexes_subset[order].tolist()
        return self.indexes_subset.tolist()


class RepeatFactorTrainingSampler(TrainingSampler):
    """Endless indices in which an image with rare categories comes up more often.

    Args:
        repeat_factors: (N,) how often each image comes in a round, >= 0. The fractional part is
            drawn anew in each round: 1.3 means once, and with probability 0.3 twice.
        shuffle, seed: as in TrainingSampler.

    After Gupta et al. 2019, LVIS (arXiv 1908.03195), appendix B.2.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(len(repeat_factors), shuffle=shuffle, seed=seed)
        factors = torch.as_tensor(repeat_factors, dtype=torch.float32)
        if (factors < 0).any() or not (factors > 0).any():
            raise ValueError("repeat_factors must be >= 0, and > 0 for some image")
        self._int_part = factors.floor()
        self._frac_part = factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Sequence[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Return (N,) repeat factors: the largest of an image's categories' factors, at least 1.

        Args:
            dataset_dicts: the records, with ``annotations``.
            repeat_thresh: share of images under which a category counts as rare.
            sqrt: factor sqrt(repeat_thresh / share) instead of repeat_thresh / share.

        >>> records = [{"annotations": [{"category_id": 0}]}] * 3 + [
        ...     {"annotations": [{"category_id": 1}]}
        ... ]
        >>> RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 1.0)
        tensor([1.1547, 1.1547, 1.1547, 2.0000])
        """
        categories = [{a["category_id"] for a in d.get("annotations", ())} for d in dataset_dicts]
        images_with: Counter[int] = Counter(itertools.chain.from_iterable(categories))
        factor_of = {}
        for category, count in images_with.items():
            ratio = repeat_thresh / (count / len(dataset_dicts))
            factor_of[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
        factors = [max((factor_of[c] for c in present), default=1.0) for present in categories]
        return torch.tensor(factors, dtype=torch.float32)

    def _one_round(self, generator: torch.Generator) -> list[int]:
        extra = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        counts = (self._int_part + extra).long()
        indices = torch.repeat_interleave(torch.arange(self._size), counts)
        if self._shuffle:
            indices = indices[torch.randperm(len(indices), generator=generator)]
        return indices.tolist()


class InferenceSampler(Sampler[int]):
    """Each index once over all processes: process r gets a run of consecutive ones.

    The runs differ in length by at most 1, and nothing is padded: results are exact.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        if size < 0:
            raise ValueError(f"InferenceSampler(size={size}): size must be >= 0")
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        """Return the indices of process `rank`; the first ones get the larger shares.

        >>> [InferenceSampler._get_local_indices(5, 3, r) for r in range(3)]
        [range(0, 2), range(2, 4), range(4, 5)]
        """
        share, left = divmod(total_size, world_size)
        begin = rank * share + min(rank, left)
        return range(begin, begin + share + (rank < left))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
