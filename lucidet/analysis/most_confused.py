"""Which classes of a large confusion matrix are shown."""

from __future__ import annotations

import numpy as np

__all__ = ["most_confused"]

#: more classes than this: the matrix shows those that are confused most
_SHOWN = 25


def most_confused(confusion: np.ndarray) -> list[int]:
    """Return the classes to show, background last.

    Of many classes these are the ones with the most confusions, without those that occur neither
    as a ground-truth box nor as a detection.

    Args:
        confusion: (K + 1, K + 1) counts; the last row and column are background.
    """
    background = len(confusion) - 1
    if background <= _SHOWN:
        return list(range(background + 1))
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * np.diag(confusion)
    most = np.argsort(-wrong[:background], kind="stable")[:_SHOWN]
    return [*sorted(k for k in most.tolist() if occurs[k]), background]
