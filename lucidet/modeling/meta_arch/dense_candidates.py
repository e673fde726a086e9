"""Which of a level's scores become boxes at all: those above the threshold, the best of them."""

# R_l anchors of level l, K classes, C candidates

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["best_candidates", "highest_first"]


def best_candidates(
    scores: Tensor, threshold: float, count: int, logits: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return anchors (C,), classes (C,) and scores (C,) of the candidates, highest score first.

    Args:
        scores: (R_l, K); an anchor can become several candidates, one a class.
        threshold: candidates score more than this.
        count: at most so many.
        logits: `scores` are logits; only those that can pass get their sigmoid.
    """
    if scores.numel() == 0:
        none = torch.zeros(0, dtype=torch.int64, device=scores.device)
        return none, none, scores.new_zeros(0)
    floor = lowest_logit(threshold) if logits else threshold
    # one look at each anchor's best class; only the anchors that can be among the best are searched
    best = scores.amax(dim=1)  # (R_l,)
    best = best.where(~best.isnan(), -math.inf)  # else one NaN would hide all others
    anchors = ((best > floor) & among_highest(best, count)).nonzero().squeeze(1)
    row, classes = (scores[anchors] > floor).nonzero().unbind(dim=1)
    anchors = anchors[row]
    found = scores[anchors, classes]
    if logits:
        found = found.sigmoid()
        passed = found > threshold
        anchors, classes, found = anchors[passed], classes[passed], found[passed]
    order = highest_first(found, count)
    return anchors[order], classes[order], found[order]


def lowest_logit(score: float) -> float:
    """Return a logit just below that of `score`: whoever scores more than `score` lies above.

    >>> round(lowest_logit(0.5), 3), lowest_logit(0.0), lowest_logit(1.0)
    (-0.001, -inf, inf)
    """
    if not 0 < score < 1:
        return math.copysign(math.inf, score - 0.5)
    return math.log(score / (1 - score)) - 1e-3


def highest_first(scores: Tensor, count: int) -> Tensor:
    """Return where the `count` highest scores are, highest first; of equal ones the first.

    `Tensor.topk` takes any of the equal ones, a saturated head has many, and sorting all to take a
    few is ten times as slow. So only those that reach the lowest of the highest are sorted.

    >>> highest_first(Tensor([0.5, 0.9, 0.5, 0.1, 0.5]), 3)
    tensor([1, 0, 2])
    """
    reach = among_highest(scores, count).nonzero().squeeze(1)
    return reach[scores[reach].sort(descending=True, stable=True).indices[:count]]


def among_highest(values: Tensor, count: int) -> Tensor:
    """Return a mask of the values that reach the `count`-th highest; equal ones all do.

    >>> among_highest(Tensor([0.5, 0.9, 0.5, 0.1]), 2)
    tensor([ True,  True,  True, False])
    """
    if not 0 < count < len(values):
        return torch.ones_like(values, dtype=torch.bool)
    return values >= values.topk(count, sorted=False).values.min()
