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
    # the host of a GPU waits once, for both numbers together
    num_positive, num_negative = torch.stack([positive.sum(), negative.sum()]).tolist()
    order = torch.where(positive, 0, torch.where(negative, 1, 2)).argsort(stable=True)
    return order[:num_positive], order[num_positive : num_positive + num_negative]


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
