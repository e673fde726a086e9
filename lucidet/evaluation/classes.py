"""Refuse detections of classes that the data set does not have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np


def refuse_unknown_classes(
    predicted: np.ndarray, known: Collection[int], image_id: Any, dataset: str
) -> None:
    """Raise at the first batch, not after the last: numbers of other classes would be nonsense.

    Args:
        predicted: (D,) classes of an image's detections.
        known: the data set's classes, 0..K-1.
        image_id: of the image, for the message.
        dataset: its name, for the message.

    Raises:
        ValueError: a predicted class is unknown.

    >>> refuse_unknown_classes(np.array([0, 1]), range(2), 17, "cells")
    """
    unknown = [int(k) for k in np.unique(predicted) if int(k) not in known]
    if unknown:
        raise ValueError(
            f"image {image_id}: the model predicts class {unknown[-1]}, but data set {dataset!r} "
            f"has only {len(known)} classes, counted from 0; set NUM_CLASSES of the model to that "
            "number for weights trained on such data, or say with MODEL.CLASS_MAP what each class "
            "of the model is in the data set (-1: nothing)"
        )
