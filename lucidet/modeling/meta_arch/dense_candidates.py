"""Which of a level's scores become boxes at all: those above the threshold, the best of them."""

# R_l anchors of level l, K classes, C candidates

from __future__ import annotations

import math

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
    # flat: finding positions in one dimension is several times as quick as in two
    num_classes = max(scores.shape[1], 1)
    flat = scores.reshape(-1)
    floor = lowest_logit(threshold) if logits else threshold
    index = (flat > floor).nonzero().squeeze(1)
    found = flat[index]
    if logits:
        found = found.sigmoid()
        passed = found > threshold
        index, found = index[passed], found[passed]
    best = highest_first(found, count)
    return index[best] // num_classes, index[best] % num_classes, found[best]


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
    if 0 < count < len(scores):
        lowest = scores.topk(count, sorted=False).values.min()
        reach = (scores >= lowest).nonzero().squeeze(1)
        return reach[highest_first(scores[reach], len(reach))[:count]]
    return scores.sort(descending=True, stable=True).indices[:count]
