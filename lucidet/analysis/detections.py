"""Detections of a COCO results file, as an array."""

# D detections

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.evaluation.coco_ap import CocoTruth

__all__ = ["read_detections"]


def read_detections(truth: CocoTruth, path: Path) -> np.ndarray:
    """Return (D, 7) as for `CocoTruth.curves`.

    Raises:
        ValueError: no list of detections, or one without a field, or of an unknown image or class.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a list of detections, got {type(records).__name__}")
    images: dict[Any, int] = {}
    categories: dict[Any, int] = {}
    rows = np.zeros((len(records), 7))
    for number, record in enumerate(records):
        try:
            image, category = record["image_id"], record["category_id"]
            if image not in images:
                images[image] = truth.index_of_image(image)
            if category not in categories:
                categories[category] = truth.index_of_category(category)
            rows[number] = (
                images[image],
                *record["bbox"],
                record["score"],
                categories[category],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(_wrong(path, number, record)) from error
        except ValueError as error:
            if "prediction" in str(error):  # of an unknown image or class
                raise ValueError(f"{path}: detection {number}: {error}") from None
            raise ValueError(_wrong(path, number, record)) from error
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{path}: detection {bad[0]} has a number that is not finite: {records[bad[0]]}"
        )
    return rows


def _wrong(path: Path, number: int, record: Any) -> str:
    return (
        f"{path}: detection {number} needs image_id, category_id, bbox [x, y, width, height] and "
        f"score, got {str(record)[:200]}"
    )
