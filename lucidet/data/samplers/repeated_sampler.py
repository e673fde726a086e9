"""A sampler that ends after a pass, made endless: what a training loop needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sized

from torch.utils.data.sampler import Sampler

from lucidet.utils import comm
from lucidet.utils.keyed_random import SAMPLER, kept_cpu_generators, seed_cpu_generators

__all__ = ["RepeatedSampler"]


class RepeatedSampler(Sampler[int]):
    """The indices of a sampler, pass after pass: torch's samplers end after one.

    What a sampler with a length draws at random is a function of the seed and the pass, so that all
    worker processes see one order. A sampler without end is passed on as it is.

    Args:
        sampler: gives indices; at least one a pass.
        seed: of the passes; default: a random one. Each process of a training has its own passes.

    >>> from itertools import islice
    >>> list(islice(RepeatedSampler(range(3)), 7))
    [0, 1, 2, 0, 1, 2, 0]
    """

    def __init__(self, sampler: Iterable[int], seed: int | None = None) -> None:
        self.sampler = sampler
        self._seed = comm.shared_random_seed() if seed is None else seed
        self._rank = comm.get_rank()

    def __iter__(self) -> Iterator[int]:
        number = 0
        while True:
            count = 0
            for index in self._one_pass(number):
                yield int(index)
                count += 1
            if not count:
                raise ValueError(
                    f"sampler {type(self.sampler).__name__} gave no index; it must give at least "
                    "one in each pass"
                )
            number += 1

    def _one_pass(self, number: int) -> Iterable[int]:
        if not isinstance(self.sampler, Sized):
            return self.sampler
        with kept_cpu_generators():
            seed_cpu_generators(SAMPLER, self._seed, self._rank, number)
            rest = iter(self.sampler)
            # one more: samplers of other libraries have a length and no end
            indices = list(itertools.islice(rest, len(self.sampler) + 1))
        return itertools.chain(indices, rest)
