"""From overlaps to labels: which object each prediction (anchor or proposal) is matched to."""

# M objects, R predictions (anchors or proposals)

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Matcher"]


class Matcher:
    """Matches every prediction to the object it fits best, and labels it by how well it fits.

    With thresholds (0.3, 0.7) and labels (0, -1, 1) a prediction is background (0) below 0.3,
    ignored (-1) from 0.3, an object (1) from 0.7.

    Low-quality matches (Ren et al. 2015, arXiv 1506.01497, section 3.1.2, case i) make sure that an
    object that no prediction fits well still has one: its best predictions, all that tie, become
    objects too. Each keeps the object that it fits best itself. An object that nothing overlaps
    gets none.

    >>> matcher = Matcher([0.3, 0.7], [0, -1, 1])
    >>> idxs, labels = matcher(torch.tensor([[0.1, 0.4, 0.7, 0.95]]))
    >>> labels.tolist()
    [0, -1, 1, 1]

    Attributes:
        thresholds: as given, between -inf and inf.
        labels: one for each interval.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        labels: Sequence[int],
        allow_low_quality_matches: bool = False,
    ) -> None:
        """
        Args:
            thresholds: qualities that separate the labels, positive and ascending.
            labels: one more than thresholds, each 1 (object), 0 (background) or -1 (ignored).
            allow_low_quality_matches: each object's best predictions become objects too.

        Raises:
            ValueError: thresholds or labels break these rules.
        """
        check_thresholds(thresholds, labels)
        self.thresholds = [-math.inf, *thresholds, math.inf]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matches and the labels of R predictions.

        Args:
            match_quality_matrix: (M, R) qualities >= 0, usually IoU.

        Returns:
            matches: (R,) int64 in 0..M-1, the object of highest quality, the first of equals;
                without objects 0.
            match_labels: (R,) int8 in {1, 0, -1}; without objects all are the first label.

        Raises:
            ValueError: the matrix doesn't have two dimensions.
        """
        if match_quality_matrix.dim() != 2:
            raise ValueError(
                "the quality matrix must be (objects, predictions), got shape "
                f"{tuple(match_quality_matrix.shape)}"
            )
        if match_quality_matrix.numel() == 0:
            matches = match_quality_matrix.new_zeros(match_quality_matrix.shape[1]).long()
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        quality, matches = match_quality_matrix.max(dim=0)
        match_labels = labels_of_quality(quality, self.thresholds[1:-1], self.labels)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(match_labels, match_quality_matrix)
        return matches, match_labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Set `match_labels` (R,) to 1 in place for every object's best predictions."""
        best = match_quality_matrix.amax(dim=1, keepdim=True)  # (M, 1)
        # where best is 0 every prediction "ties" at 0: nothing overlaps, nothing is rescued
        rescued = ((match_quality_matrix == best) & (best > 0)).any(dim=0)
        match_labels.masked_fill_(rescued, 1)


def labels_of_quality(
    quality: Tensor, thresholds: Sequence[float], labels: Sequence[int]
) -> Tensor:
    """Return the label (.., R) int8 of each quality (.., R); NaN gets the first label.

    >>> labels_of_quality(torch.tensor([0.0, 0.5, 0.9]), [0.5], [0, 1]).tolist()
    [0, 1, 1]
    """
    result = torch.full_like(quality, labels[0], dtype=torch.int8)
    for threshold, label in zip(thresholds, labels[1:], strict=True):
        result.masked_fill_(quality >= threshold, label)
    return result


def check_thresholds(thresholds: Sequence[float], labels: Sequence[int]) -> None:
    """Raise ValueError unless the thresholds are positive and ascend and the labels fit them."""
    if any(not threshold > 0 for threshold in thresholds):
        raise ValueError(f"matching thresholds must be positive, got {list(thresholds)}")
    if list(thresholds) != sorted(thresholds):
        raise ValueError(f"matching thresholds must ascend, got {list(thresholds)}")
    if len(labels) != len(thresholds) + 1:
        raise ValueError(
            f"{len(thresholds)} matching thresholds {list(thresholds)} need {len(thresholds) + 1} "
            f"labels, got {list(labels)}"
        )
    if not set(labels) <= {-1, 0, 1}:
        raise ValueError(
            "matching labels must be 1 (object), 0 (background) or -1 (ignored), "
            f"got {list(labels)}"
        )
