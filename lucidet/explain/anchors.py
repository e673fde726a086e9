"""Which anchors or locations could have found a ground-truth box."""

# M ground-truth boxes, L levels, R anchors in all, R_l of level l, A anchors of a location

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lucidet.explain.frames import overlaps
from lucidet.inspection.event import whole
from lucidet.inspection.trace import Trace
from lucidet.modeling.assigners import MaxIoUAssigner, assign_batch
from lucidet.modeling.legacy import GrownObjects
from lucidet.modeling.matcher import Matcher
from lucidet.structures import Boxes, PaddedBoxes

__all__ = ["AnchorGrid", "Coverage", "background_iou"]

#: ground-truth boxes that are assigned together, so that memory is bounded
_AT_ONCE = 8


@dataclass(frozen=True)
class Coverage:
    """How the anchors fit one ground-truth box.

    Attributes:
        positives: anchors that the detector's own assigner would give it, if it were alone.
        best: anchor with the highest IoU, among all levels.
        best_iou: that IoU.
    """

    positives: int
    best: int
    best_iou: float


class AnchorGrid:
    """The anchors of all levels, and where each stands."""

    def __init__(self, trace: Trace) -> None:
        """`trace`: has the event ``anchors.grid``."""
        event = trace["anchors.grid"]
        self.levels: list[Tensor] = [whole(level).float() for level in event["anchors"]]
        self.strides = [int(stride) for stride in event["strides"]]
        self.per_location = [len(whole(cell)) for cell in event["cell_anchors"]]
        self.boxes = torch.cat(self.levels)  # (R, 4)
        lengths = torch.tensor([len(level) for level in self.levels])
        self.level = torch.arange(len(self.levels)).repeat_interleave(lengths)  # (R,)
        self.start = [0, *lengths.cumsum(0).tolist()]
        self._widths = [
            _width(own, a) for own, a in zip(self.levels, self.per_location, strict=True)
        ]

    def place(self, anchor: int) -> dict[str, Any]:
        """Return level, column and row of the location, and the number of the anchor's shape."""
        level = int(self.level[anchor])
        location, shape = divmod(anchor - self.start[level], self.per_location[level])
        row, column = divmod(location, self._widths[level])
        return {
            "anchor": anchor,
            "level": level,
            "stride": self.strides[level],
            "column": column,
            "row": row,
            "shape": shape,
            "box": [round(v, 2) for v in self.boxes[anchor].tolist()],
        }

    def coverage(self, assigner: Any, gt_boxes: Tensor) -> list[Coverage]:
        """Return how the anchors fit each of the ground-truth boxes (M, 4), each for itself."""
        found: list[Coverage] = []
        levels = [Boxes(level) for level in self.levels]
        for own in gt_boxes.split(_AT_ONCE):
            alone = PaddedBoxes(own[:, None], torch.ones(len(own), 1, dtype=torch.bool))
            labels = assign_batch(assigner, levels, alone).labels  # (m, R)
            iou, best = overlaps(own, self.boxes).max(dim=1)
            positives = (labels == 1).sum(dim=1)
            found += map(Coverage, positives.tolist(), best.tolist(), iou.tolist())
        return found


def background_iou(assigner: Any) -> float | None:
    """Return the IoU below which an anchor is background; None: it is not a matter of IoU."""
    if isinstance(assigner, GrownObjects):
        assigner = assigner.assigner
    if isinstance(assigner, Matcher):
        return float(assigner.thresholds[1])
    if type(assigner) is MaxIoUAssigner:
        return float(assigner.thresholds[0])
    return None


def _width(anchors: Tensor, per_location: int) -> int:
    """Return the columns of a level's grid."""
    if not len(anchors):
        return 1
    y = anchors[::per_location, 1] + anchors[::per_location, 3]
    return max(1, int((y == y[0]).sum()))
