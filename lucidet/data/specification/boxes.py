"""Check the boxes of one image: corners in order, with an area, inside the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lucidet.data.specification.reading import Report

SLACK = 1.0  # pixels over the border that are taken for rounding, as in COCO's own files


def checked_box(
    corners: Sequence[float], size: tuple[int, int], report: Report, where: str
) -> list[float] | None:
    """Return the box clipped to its image, or None if it cannot be used; both are counted.

    Args:
        corners: x1, y1, x2, y2 in continuous pixels.
        size: (width, height) of the image.
        report: counts what is dropped or changed.
        where: file and object, for the report.

    >>> report = Report()
    >>> checked_box([8, 1, 2, 4], (10, 10), report, "a.xml, object 1")
    [2.0, 1.0, 8.0, 4.0]
    >>> checked_box([11, 1, 12, 4], (10, 10), report, "a.xml, object 2") is None
    True
    """
    x1, y1, x2, y2 = (float(v) for v in corners)
    shown = f"{where}: {x1:g}, {y1:g}, {x2:g}, {y2:g} in an image of {size[0]} x {size[1]}"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        report.drop("boxes without finite numbers are left out", shown)
        return None
    if x2 < x1 or y2 < y1:
        report.mend("boxes with swapped corners are put in order", shown)
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if x2 == x1 or y2 == y1:
        report.drop("boxes without area are left out", shown)
        return None
    width, height = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        report.drop("boxes outside their image are left out", shown)
        return None
    if x1 < -SLACK or y1 < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
        report.mend("boxes that reach over their image are clipped", shown)
    return [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
