"""Centerness: how central an anchor lies in its object, as a target and as part of the score."""

# R_l anchors of level l, K classes, P positives

from __future__ import annotations

import torch
from torch import Tensor

from lucidet.modeling.assigners.geometry import box_centers, edge_distances

__all__ = ["centerness_of", "scores_with_centerness"]


def centerness_of(anchors: Tensor, objects: Tensor) -> Tensor:
    """Return how central each anchor's centre lies in its object, (P,) in 0..1.

    Tian et al. 2019 (FCOS, arXiv 1904.01355), equation 3; 0 for a centre on the edge or outside.

    >>> centerness_of(torch.tensor([[4.0, 4, 6, 6]]), torch.tensor([[0.0, 0, 10, 10]])).item()
    1.0
    """
    left, top, right, bottom = edge_distances(box_centers(anchors), objects).unbind(dim=1)
    across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=1e-6)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=1e-6)
    return (across.clamp(min=0) * down.clamp(min=0)).sqrt()


def scores_with_centerness(logits: Tensor, centerness: Tensor) -> Tensor:
    """Return the geometric mean of class score and centerness, (R_l, K) in 0..1.

    Args:
        logits: (R_l, K).
        centerness: (R_l,) logits.
    """
    return (logits.sigmoid() * centerness.sigmoid()[:, None]).sqrt()
