"""One image's trace in the terms of explain: what stages and texts are made from."""

# P proposals, R anchors in all, T stages of ROI heads

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lucidet.explain.anchors import AnchorGrid, Coverage
from lucidet.explain.candidates import Pool, dense_pool, event_of, two_stage_pool
from lucidet.explain.frames import Frame, overlaps
from lucidet.explain.model_facts import assigner_of, level_names, levels_of_pooler, settings_of
from lucidet.explain.proposals import ProposalStage
from lucidet.inspection.event import whole
from lucidet.inspection.trace import Trace
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.modeling.proposal_generator.rpn import RPN

__all__ = ["WATCHED", "View"]

#: the probes that explain needs
WATCHED = frozenset(
    (
        "input.batch",
        "anchors.grid",
        "rpn.head",
        "rpn.proposals",
        "roi.levels",
        "dense.head",
        "detections.nms",
        "detections.final",
    )
)


class View:
    """What a detector did with one image.

    Attributes:
        model: the detector.
        settings: of it.
        frame: sizes of the image.
        grid: the anchors, None without.
        rpn: what became of them, None for dense detectors.
        pool: scores, boxes and candidates.
        proposals: (P, 4), None for dense detectors.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        file_size: tuple[int, int],
        match_iou: float = 0.5,
        image: int = 0,
    ) -> None:
        """
        Args:
            model: in eval mode; it is not run.
            trace: of it, with the events of `WATCHED`.
            file_size: (height, width) that detections are scaled to.
            match_iou: from which a box fits a ground-truth box.
            image: number in the batch.
        """
        self.model: Any = model
        self.trace, self.image = trace, image
        self.settings = settings_of(model, match_iou)
        height, width = trace["input.batch"]["image_sizes"][image]
        self.frame = Frame((int(height), int(width)), file_size)
        self.two_stage = not isinstance(model, DenseDetector)
        self.grid = AnchorGrid(trace) if "anchors.grid" in trace else None
        self.rpn: ProposalStage | None = None
        self.proposals: Tensor | None = None
        if isinstance(model, DenseDetector):
            self.pool: Pool = dense_pool(model, trace, self.settings, image)
            return
        self.pool = two_stage_pool(trace, self.settings, image)
        self.roi_boxes, self.roi_levels = _rois(model, trace, image)
        self.proposals = self.roi_boxes[0]
        generator = getattr(model, "proposal_generator", None)
        if isinstance(generator, RPN) and self.grid is not None:
            self.rpn = ProposalStage(generator, trace, self.grid, image)
            self.proposals = self.proposals[: len(self.rpn.proposals)]  # a GPU pads them
        self.roi_names, self.pooler = levels_of_pooler(model)

    @property
    def levels(self) -> list[dict[str, Any]]:
        """Name and stride of each level with anchors."""
        if self.grid is None:
            return []
        names = level_names(self.model)
        strides = self.grid.strides
        return [{"name": n, "stride": s} for n, s in zip(names, strides, strict=False)]

    def levels_of_rows(self) -> Tensor | None:
        """Return the level of each row's anchor."""
        if self.grid is None:
            return None
        if not self.two_stage:
            return self.grid.level
        return None if self.rpn is None else self.grid.level[self.rpn.anchor_of]

    def anchor_of(self, row: int) -> int | None:
        """Return the anchor of a row of the pool: of a proposal, or the row itself."""
        if not self.two_stage:
            return row
        return None if self.rpn is None else int(self.rpn.anchor_of[row])

    def coverage(self, boxes: Tensor) -> list[Coverage]:
        """Return how the anchors fit boxes (M, 4) of the resized image; see `AnchorGrid`."""
        assert self.grid is not None
        return self.grid.coverage(assigner_of(self.model), boxes)

    def final(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and classes of the detections, as the detector returned them."""
        event = event_of(self.trace, "detections.final", self.image)
        return whole(event["boxes"]), whole(event["scores"]), whole(event["classes"])

    def proposal_overlaps(self, truth: Tensor) -> Tensor:
        """Return the IoUs (P,) of the proposals with a box (4,) of the resized image."""
        assert self.proposals is not None
        return overlaps(self.proposals, truth[None])[:, 0]


def _rois(model: Any, trace: Trace, image: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return per stage of the box heads the ROIs (P, 4) and their levels (P,)."""
    predictor = model.roi_heads.box_predictor
    stages = len(predictor) if isinstance(predictor, nn.ModuleList) else 1
    boxes, levels = [], []
    # heads for masks and keypoints pool after these
    for event in trace.all("roi.levels")[:stages]:
        rois = whole(event["boxes"])
        own = rois[:, 0] == image
        boxes.append(rois[own, 1:].float())
        levels.append(whole(event["levels"])[own])
    if not boxes:
        return [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)]
    return boxes, levels
