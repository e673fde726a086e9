"""AP50 as it is, and as it would be if what went wrong in one way had gone right."""

# D detections, M ground-truth boxes of the dataset, K classes, R recall points

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MatchedDataset", "mean_ap"]

RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class MatchedDataset:
    """All detections and ground-truth boxes of a dataset, matched at one IoU.

    Attributes:
        scores: (D,) in the order of images.
        labels: (D,) classes.
        correct: (D,) bool, matched with a ground-truth box.
        ignored: (D,) bool, neither right nor wrong.
        verdict: (D,) index into VERDICTS.
        truth_labels: (M,) classes of the boxes that count.
        fate: (M,) index into FATES.
        num_classes: K.
    """

    scores: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    ignored: np.ndarray
    verdict: np.ndarray
    truth_labels: np.ndarray
    fate: np.ndarray
    num_classes: int

    def ap(self) -> float:
        """Return AP at this IoU in 0..1, the mean over the classes that have boxes (COCO's)."""
        return self._mended()[0]

    def ap_with_fate_mended(self, fates: list[int]) -> list[float]:
        """Return for each fate the AP if its boxes were detected, scoring above all others."""
        added = [
            np.bincount(self.truth_labels[self.fate == fate], minlength=self.num_classes)
            for fate in fates
        ]
        return self._mended(added)

    def ap_without_verdict(self, verdict: int) -> float:
        """Return the AP if the detections with a verdict were not there."""
        return self._mended(without=self.verdict == verdict)[0]

    def _mended(
        self, added: list[np.ndarray] | None = None, without: np.ndarray | None = None
    ) -> list[float]:
        """Return the mean AP for each entry of `added` (K,): true positives above all others."""
        if added is None:
            added = [np.zeros(self.num_classes, np.int64)]
        counts = ~self.ignored if without is None else ~self.ignored & ~without
        rows = np.flatnonzero(counts)
        order = rows[np.lexsort((-self.scores[rows], self.labels[rows]))]  # stable, by class
        starts = np.searchsorted(self.labels[order], np.arange(self.num_classes + 1))
        positives = np.bincount(self.truth_labels, minlength=self.num_classes)
        aps: list[list[float]] = [[] for _ in added]
        for k in np.flatnonzero(positives):
            right = self.correct[order[starts[k] : starts[k + 1]]]
            for found, more in zip(aps, added, strict=True):
                found.append(mean_ap(right, int(positives[k]), int(more[k])))
        return [float(np.mean(found)) if found else float("nan") for found in aps]


def mean_ap(right: np.ndarray, positives: int, added: int = 0) -> float:
    """Return the mean precision at 101 recalls of one class, as COCO has it.

    Args:
        right: (D,) bool, detections from the highest score down.
        positives: ground-truth boxes, at least 1.
        added: true positives that score above all of these.

    >>> mean_ap(np.array([True, False]), 1), round(mean_ap(np.array([False, True]), 1), 2)
    (1.0, 0.5)
    """
    if added:
        right = np.concatenate([np.ones(added, bool), right])
    if not len(right):
        return 0.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    # the highest precision at this recall or a higher one
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / positives, RECALL_POINTS, side="left")
    return float(np.where(at < len(right), precision[np.minimum(at, len(right) - 1)], 0.0).mean())
