"""Random choice of the anchors or proposals that a loss is computed on."""

# R labels (anchors or proposals)

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["subsample_labels", "subsample_masks"]


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw up to `num_samples` labels, a given part of them positive.

    Too few positives: more negatives take their places. Too few of both: fewer samples. Where all
    are taken nothing is random and they keep their order.

    Args:
        labels: (R,) int; -1 is ignored, `bg_label` negative, anything else positive.
        num_samples: number of samples, at most.
        positive_fraction: at most ``int(num_samples * positive_fraction)`` are positive; 0..1.
        bg_label: the label of background.

    Returns:
        Indices into `labels` (int64) of the positives and of the negatives.

    >>> pos, neg = subsample_labels(torch.tensor([1, -1, 0, 0]), 10, 0.5, bg_label=0)
    >>> pos.tolist(), neg.tolist()
    ([0], [2, 3])
    """
    background = labels == bg_label
    positive = ((labels != -1) & ~background).nonzero().squeeze(1)
    negative = background.nonzero().squeeze(1)
    positive = _draw(positive, int(num_samples * positive_fraction))
    return positive, _draw(negative, num_samples - len(positive))


def _draw(candidates: Tensor, count: int) -> Tensor:
    """Return `count` of the candidates without repetition, or all, in order, if fewer."""
    if len(candidates) <= count:
        return candidates
    return candidates[torch.randperm(len(candidates), device=candidates.device)[:count]]


def subsample_masks(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw like :func:`subsample_labels`, as masks: the host never waits for the device.

    Returns:
        Two masks (R,) bool: the positives and the negatives drawn.

    >>> pos, neg = subsample_masks(torch.tensor([1, -1, 0, 0]), 10, 0.5, bg_label=0)
    >>> pos.tolist(), neg.tolist()
    ([True, False, False, False], [False, False, True, True])
    """
    background = labels == bg_label
    foreground = (labels != -1) & ~background
    # candidates get lots in 0..1, everything else 2: the lowest lots win
    lots = torch.rand(len(labels), device=labels.device)
    positive = _lowest(lots.where(foreground, 2.0), int(num_samples * positive_fraction))
    negative = _lowest(lots.where(background, 2.0), num_samples, limit=num_samples - positive.sum())
    return positive, negative


def _lowest(lots: Tensor, count: int, limit: Tensor | None = None) -> Tensor:
    """Return a mask (R,) of the `count` lowest lots below 2; of these the `limit` lowest."""
    values, index = lots.topk(min(count, len(lots)), largest=False)  # ascending
    drawn = values < 2.0
    if limit is not None:
        drawn &= torch.arange(len(index), device=index.device) < limit
    return torch.zeros_like(lots, dtype=torch.bool).index_put((index,), drawn)
