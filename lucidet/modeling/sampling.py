"""Random choice of the anchors or proposals that a loss is computed on.

Every random number of a training step comes from `random_priorities`. Inside :func:`keyed_step` it
is a function of (seed, step, position of the image in the step): it needs no random state, and does
not depend on how many processes share the images of the step.
"""

# N images, R labels (anchors or proposals) of each

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lucidet.utils import comm

__all__ = [
    "current_step_key",
    "keyed_step",
    "random_priorities",
    "subsample_labels",
    "subsample_masks",
]


class _StepKey:
    """Numbers the draws of one step; each draw has a key of its own."""

    def __init__(self, seed: int, step: int) -> None:
        self.key = (seed, step)
        self._draws = 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device) -> torch.Generator:
        """Return the generator of the next draw; seeding it does not wait for the device."""
        key = np.random.SeedSequence((*self.key, self._draws)).generate_state(1, np.uint64)
        self._draws += 1
        generator = self._generators.setdefault(device, torch.Generator(device))
        return generator.manual_seed(int(key[0] >> np.uint64(1)))


_step: _StepKey | None = None


@contextmanager
def keyed_step(seed: int, step: int) -> Iterator[None]:
    """Within the block, draws depend on (seed, step) alone, and not on torch's random state.

    Args:
        seed: of the run, >= 0, the same in all processes.
        step: number of the iteration, >= 0.

    >>> with keyed_step(seed=3, step=7):
    ...     first = random_priorities(2, 5, torch.device("cpu"))
    >>> with keyed_step(seed=3, step=7):
    ...     torch.equal(random_priorities(2, 5, torch.device("cpu")), first)
    True
    """
    global _step
    outside, _step = _step, _StepKey(seed, step)
    try:
        yield
    finally:
        _step = outside


def current_step_key() -> tuple[int, int] | None:
    """Return the (seed, step) of the `keyed_step` block that runs now; None outside of one."""
    return None if _step is None else _step.key


def random_priorities(images: int, candidates: int, device: torch.device) -> Tensor:
    """Return random numbers (images, candidates) in [0, 1), drawn by a fixed number of operators.

    Inside `keyed_step`, row i of process r of W is that of image ``i * W + r`` of the step, and a
    number depends on its row and column only, not on the number of rows or columns (on a GPU: for
    equal numbers of columns). Call it once for all images of a batch, so that the rows agree.

    Args:
        images: of this process's batch, N.
        candidates: anchors or proposals of each image, R, padding included.
        device: of the result.
    """
    if _step is None:
        return torch.rand(images, candidates, device=device)
    world, rank = comm.get_world_size(), comm.get_rank()
    # all processes draw for all images and take their own: column by column, so that a wider
    # batch continues the sequence of a narrower one
    drawn = torch.rand(candidates, images * world, device=device, generator=_step.generator(device))
    return drawn[:, rank::world].T.contiguous()


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Sample up to `num_samples` labels of one image, a given part of them positive.

    Too few positives: more negatives take their places. Too few of both: fewer samples. Where all
    are taken nothing is random.

    Args:
        labels: (R,) int; -1 is ignored, `bg_label` negative, anything else positive.
        num_samples: number of samples, at most.
        positive_fraction: at most ``int(num_samples * positive_fraction)`` are positive; 0..1.
        bg_label: the label of background.

    Returns:
        Indices into `labels` (int64) of the positives and of the negatives, each ascending.

    >>> pos, neg = subsample_labels(torch.tensor([1, -1, 0, 0]), 10, 0.5, bg_label=0)
    >>> pos.tolist(), neg.tolist()
    ([0], [2, 3])
    """
    positive, negative = subsample_masks(labels, num_samples, positive_fraction, bg_label)
    # the CPU waits for the GPU once, for both numbers together
    num_positive, num_negative = torch.stack([positive.sum(), negative.sum()]).tolist()
    order = torch.where(positive, 0, torch.where(negative, 1, 2)).argsort(stable=True)
    return order[:num_positive], order[num_positive : num_positive + num_negative]


def subsample_masks(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Sample like :func:`subsample_labels`, as masks and for a whole batch at once.

    The CPU never waits for the device, and the number of operators does not depend on N.

    Args:
        labels: (R,) or (N, R) int, each row an image; padding is -1.
        num_samples, positive_fraction, bg_label: as for `subsample_labels`, for each image.

    Returns:
        Two masks of the shape of `labels`, bool: the sampled positives and negatives.

    >>> pos, neg = subsample_masks(torch.tensor([[1, -1, 0, 0]]), 10, 0.5, bg_label=0)
    >>> pos.tolist(), neg.tolist()
    ([[True, False, False, False]], [[False, False, True, True]])
    """
    rows = labels if labels.dim() == 2 else labels[None]
    background = rows == bg_label
    foreground = (rows != -1) & ~background
    # candidates get priorities in 0..1, everything else 2: the lowest are taken
    priorities = random_priorities(len(rows), rows.shape[1], rows.device)
    positive = _lowest(priorities.where(foreground, 2.0), int(num_samples * positive_fraction))
    room = num_samples - positive.sum(dim=1, keepdim=True)
    negative = _lowest(priorities.where(background, 2.0), num_samples, room)
    return positive.view(labels.shape), negative.view(labels.shape)


def _lowest(priorities: Tensor, count: int, limit: Tensor | None = None) -> Tensor:
    """Return a mask (N, R) of the `count` lowest priorities below 2 in each row.

    Args:
        priorities: (N, R).
        count: at most this many of a row.
        limit: (N, 1) int: at most this many of each row, in addition.
    """
    values, index = priorities.topk(min(count, priorities.shape[1]), largest=False)  # ascending
    taken = values < 2.0
    if limit is not None:
        taken &= torch.arange(index.shape[1], device=index.device) < limit
    return torch.zeros_like(priorities, dtype=torch.bool).scatter_(1, index, taken)
