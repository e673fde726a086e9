"""Which scores of a level become boxes at all: those above the threshold, the best of them."""

# N images, R_l anchors of level l, K classes, C candidates, at most `count`

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

__all__ = ["best_candidates", "highest_first", "top_scores", "top_scores_plain"]

Candidates = tuple[Tensor, Tensor, Tensor, Tensor]


def top_scores(scores: Tensor, threshold: float, count: int, logits: bool = False) -> Candidates:
    """Return the candidates of each image, highest score first, of equal scores the first.

    Args:
        scores: (N, R_l, K); an anchor can become several candidates, one a class.
        threshold: candidates score more than this.
        count: at most this many of an image.
        logits: `scores` are logits; candidates get their sigmoid.

    Returns:
        anchors: (N, C) int64 in 0..R_l-1.
        classes: (N, C) int64 in 0..K-1.
        scores: (N, C).
        valid: (N, C) bool; other places hold no candidate.
    """
    if scores.device.type != "cpu" or scores.numel() == 0:
        return top_scores_plain(scores, threshold, count, logits)
    found = [best_candidates(own, threshold, count, logits) for own in scores]
    marked = [(*own, torch.ones_like(own[0], dtype=torch.bool)) for own in found]
    anchors, classes, best, valid = (
        pad_sequence(list(column), batch_first=True) for column in zip(*marked, strict=True)
    )
    return anchors, classes, best, valid


def top_scores_plain(
    scores: Tensor, threshold: float, count: int, logits: bool = False
) -> Candidates:
    """Return the same for all images at once, with places for `count` candidates."""
    num_classes, few = scores.shape[2], min(count, scores.shape[1])
    if scores.numel() == 0 or few == 0:
        none = torch.zeros((len(scores), 0), dtype=torch.int64, device=scores.device)
        return none, none, scores.new_zeros(none.shape), none.bool()
    floor = lowest_logit(threshold) if logits else threshold
    # the best entries are those of the anchors with the best entries
    best = scores.amax(dim=2)  # (N, R_l)
    best = best.masked_fill(best.isnan(), -math.inf)  # else one NaN would hide all others
    allowed = (best >= best.topk(few, dim=1).values[:, -1:]) & (best > floor)
    rank = (best.sigmoid() if logits else best).masked_fill(~allowed, -math.inf)
    anchors = rank.sort(dim=1, descending=True, stable=True).indices[:, :few].sort(dim=1).values
    entries = scores.gather(1, anchors[..., None].expand(-1, -1, num_classes))  # (N, few, K)
    passing = (entries > floor) & allowed.gather(1, anchors)[..., None]
    if logits:
        entries = entries.sigmoid()
        passing &= entries > threshold
    ranked = entries.masked_fill(~passing, -math.inf).flatten(1)
    found, place = ranked.sort(dim=1, descending=True, stable=True)
    found, place = found[:, :count], place[:, :count]
    row = torch.div(place, num_classes, rounding_mode="floor")
    return anchors.gather(1, row), place % num_classes, found, found > -math.inf


def best_candidates(
    scores: Tensor, threshold: float, count: int, logits: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return anchors (C,), classes (C,) and scores (C,) of the candidates, highest score first.

    Args:
        scores: (R_l, K) of one image.
        threshold, count, logits: see :func:`top_scores`; only logits that can pass get their
            sigmoid.
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
    """Return a logit just below that of `score`: the logits of higher scores lie above it.

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
