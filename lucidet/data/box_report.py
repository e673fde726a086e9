"""Which boxes can be used: counts those that cannot, and logs examples once."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lucidet.data.fields import as_box, shown

__all__ = ["EXAMPLES", "BoxReport"]

logger = logging.getLogger(__name__)

EXAMPLES = 3
#: pixels over the border that are taken for rounding, common in COCO's own files
SLACK = 1.0
#: with fewer boxes than this, a pattern of all of them may be chance
PATTERN = 3


class BoxReport:
    """Sorts out boxes that cannot be used, counts them and logs examples once.

    Args:
        file: annotation file or dataset, named in messages.
        form: how the boxes are written, for messages: ``"XYWH"`` or ``"XYXY"``.
        level: of the log lines; `logging.INFO` where they have been logged as warnings before.
    """

    def __init__(self, file: str, form: str = "XYWH", level: int = logging.WARNING) -> None:
        self.file, self.form, self.level = file, form, level
        self.dropped: dict[str, list[str]] = defaultdict(list)
        self.cut: list[str] = []
        self.used = 0
        self._tiny: list[str] = []  # inside 0..1
        self._other_form = 0  # of those that reach over: boxes that fit if read as x1, y1, x2, y2

    def usable(self, bbox: Any, record: dict[str, Any], annotation_id: Any) -> bool:
        """Whether `bbox` (XYWH, pixels) has an area inside its image; notes it if not."""
        box = as_box(bbox)
        corners = None
        if box is not None and len(box) == 4:
            x, y, w, h = box
            corners = (x, y, x + w, y + h)
        written = bbox if box else shown(bbox)
        return self.usable_corners(corners, record, annotation_id, written, from_sizes=True)

    def usable_corners(
        self,
        corners: Sequence[float] | None,
        record: dict[str, Any],
        annotation_id: Any,
        shown: Any,
        from_sizes: bool = False,
    ) -> bool:
        """Whether a box has an area inside its image; notes it if not.

        Args:
            corners: x1, y1, x2, y2 in pixels of the upright image; None: not four numbers.
            record: with ``image_id``, and ``width`` and ``height`` where they are known.
            annotation_id: for the message.
            shown: the box as it is written, for the message.
            from_sizes: it is written as x, y, width, height.
        """
        where = f"annotation {annotation_id} of image {record.get('image_id')}: {shown}"
        reason = _fault(corners, record)
        if reason or corners is None:
            self.dropped[reason].append(where)
            return False
        self.used += 1
        x1, y1, x2, y2 = corners
        if x2 <= 1 and y2 <= 1 and x1 >= 0 and y1 >= 0:
            self._tiny.append(where)
        width, height = record.get("width"), record.get("height")
        if width and height:
            over = x1 < -SLACK or y1 < -SLACK or x2 > width + SLACK or y2 > height + SLACK
            if over:
                self.cut.append(where)
                as_corners = x2 - x1 <= width + SLACK and y2 - y1 <= height + SLACK
                self._other_form += from_sizes and as_corners and x2 - x1 > x1 and y2 - y1 > y1
        return True

    def log(self) -> None:
        """Log what was found, if anything; images keep their other boxes.

        Raises:
            ValueError: all boxes lie within 0..1: they are fractions of the image, not pixels.
        """
        if len(self._tiny) >= PATTERN and len(self._tiny) == self.used:
            raise ValueError(
                f"{self.file}: all {self.used} boxes lie within 0..1, for example "
                f"{self._tiny[0]} ({self.form}): they are fractions of the image, lucidet takes "
                "pixels. Multiply x by the image's width and y by its height"
            )
        for reason, examples in self.dropped.items():
            self._say(
                f"{len(examples)} boxes {reason} are left out, for example %s ({self.form}). Their "
                f"images and other boxes stay; correct or remove these annotations",
                examples,
            )
        if self._tiny:
            self._say(
                f"{len(self._tiny)} boxes lie within 0..1, less than a pixel, for example %s "
                f"({self.form}): are they fractions of the image? Boxes are pixels",
                self._tiny,
            )
        if self.cut:
            hint = ""
            if 2 * self._other_form > len(self.cut) >= PATTERN:
                hint = (
                    f". {self._other_form} of them would fit as x1, y1, x2, y2: were corners "
                    "written where x, y, width, height are expected?"
                )
            self._say(
                f"{len(self.cut)} boxes reach more than a pixel over their image and are clipped "
                f"when it is loaded, for example %s ({self.form}){hint}",
                self.cut,
            )

    def _say(self, text: str, examples: list[str]) -> None:
        logger.log(self.level, f"{self.file}: {text}".replace("%s", "; ".join(examples[:EXAMPLES])))


def _fault(corners: Sequence[float] | None, record: dict[str, Any]) -> str:
    if corners is None:
        return "not four numbers"
    if not all(map(math.isfinite, corners)):
        return "not finite numbers"
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        return "without area (corners swapped, or a negative size)"
    if x2 == x1 or y2 == y1:
        return "without area"
    width, height = record.get("width"), record.get("height")
    if width and height and (x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0):
        return "outside the image"
    return ""
