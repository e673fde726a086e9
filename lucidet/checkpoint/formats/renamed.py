"""What the name maps of foreign formats share: their result, and changes of order in weights."""

# K classes, A anchors a cell, S sizes, Q aspect ratios (A = S * Q)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

#: names of a norm's tensors in torch, as they stand behind the norm's own name
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass
class Renamed:
    """Weights under lucidet's names.

    Attributes:
        format: where they come from, for people.
        weights: name -> tensor.
        unused: name in the file -> why no detector has a place for it.
        settings: config keys that the weights need to give their numbers.
        anywhere: names are ends of the model's names, such as ``res2.0.conv1.weight``: these
            weights belong to a backbone, wherever the model has it.
    """

    format: str
    weights: dict[str, Tensor]
    unused: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    anywhere: bool = False


def background_last(scores: Tensor) -> Tensor:
    """Move the background, row 0 of a classifier (K + 1, ...), behind the classes."""
    return torch.cat([scores[1:], scores[:1]])


def masks_without_background(masks: Tensor) -> Tensor:
    """Return the rows (K, ...) of a mask predictor (K + 1, ...) without background's, the first.

    One mask for all classes, which some models have beside background's, stays alone, too.
    """
    return masks[1:] if len(masks) > 1 else masks


def without_background(deltas: Tensor) -> Tensor:
    """Return the rows (K * 4, ...) of box deltas ((K + 1) * 4, ...) without background's four."""
    return deltas[4:]


def sizes_first(rows: Tensor, num_ratios: int) -> Tensor:
    """Put the anchors of a predictor into lucidet's order.

    Args:
        rows: (A * n, ...) weights or biases that predict n numbers for each anchor of a cell, all
            sizes of the first aspect ratio first.
        num_ratios: Q; where A is no multiple of it, there is one size and nothing to do.

    Returns:
        The same rows, all ratios of the first size first.

    >>> sizes_first(torch.tensor([11, 21, 12, 22, 13, 23]), num_ratios=3).tolist()
    [11, 12, 13, 21, 22, 23]
    """
    return rows.unflatten(0, (num_ratios, -1)).transpose(0, 1).flatten(0, 1)


def reorder_anchors(rows: Tensor, num_anchors: int, num_ratios: int) -> Tensor:
    """Do :func:`sizes_first` for predictors of several numbers an anchor, (A * n, ...)."""
    if num_anchors <= num_ratios or num_anchors % num_ratios:
        return rows  # one size on each level
    grouped = rows.unflatten(0, (num_anchors, -1))  # (A, n, ...)
    return sizes_first(grouped, num_ratios).flatten(0, 1)


def strip_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights without a prefix that all names have; else as they are."""
    if weights and all(name.startswith(prefix) for name in weights):
        return {name.removeprefix(prefix): value for name, value in weights.items()}
    return dict(weights)
