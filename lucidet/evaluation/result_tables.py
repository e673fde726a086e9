"""Small parts of an evaluation: tables for the log, and how many detections an image may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucidet.evaluation.coco_ap import DEFAULT_LIMITS
from lucidet.utils.logger import create_table

__all__ = ["limits_of", "side_by_side"]


def side_by_side(header: Sequence[str], rows: Sequence[tuple[Any, ...]], most: int = 3) -> str:
    """Return a table with up to `most` rows beside each other, so that 80 classes fit a screen."""
    beside = max(1, min(most, len(rows)))
    blank = (None,) * len(header)
    padded = [*rows, *[blank] * (-len(rows) % beside)]
    groups = [padded[i : i + beside] for i in range(0, len(padded), beside)]
    return create_table([*header] * beside, [[v for row in group for v in row] for group in groups])


def limits_of(max_dets: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return rising numbers of detections of an image: COCO's, or what `max_dets` says.

    Raises:
        ValueError: neither a number nor at least three rising ones.
    """
    if max_dets is None:
        return DEFAULT_LIMITS
    if isinstance(max_dets, int):
        return (1, 10, max_dets)
    if len(max_dets) < 3 or list(max_dets) != sorted(max_dets):
        raise ValueError(
            f"max_dets_per_image must be a number or at least three rising numbers, got {max_dets}"
        )
    return tuple(max_dets)
