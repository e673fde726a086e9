"""Hand-made anchors, proposals and scores through lucidet's own RPN and post-processing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lucidet.explain.explain import explain_trace
from lucidet.explain.matching import GroundTruth
from lucidet.explain.record import Explanation
from lucidet.inspection.trace import watch
from lucidet.modeling import build_model
from lucidet.modeling.meta_arch.detector import postprocess
from lucidet.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from lucidet.structures import Boxes
from lucidet.utils.probe import probe
from tests.modeling.tiny import ATSS, FCOS, FPN, RETINANET, tiny_config

SIZE = (200, 200)
FAR = [150.0, 150, 190, 190]
CLASSES = ["cat", "dog", "bird"]


@dataclass
class Anchor:
    """An anchor with its score, the box that it is moved to, and what the ROI head made of it.

    Attributes:
        box: XYXY, pixels of a 200 x 200 image.
        score: objectness (two-stage).
        moved_to: decoded; default: `box`.
        scores: of the classes, background last (two-stage).
        final: box of the ROI head; default: the proposal's.
    """

    box: Sequence[float]
    score: float = 0.9
    moved_to: Sequence[float] | None = None
    scores: Sequence[float] = (0.01, 0.01, 0.01, 0.97)
    final: Sequence[float] | None = None


@cache
def _model(kind: str) -> Any:
    torch.manual_seed(0)
    return build_model(
        tiny_config({"rcnn": FPN, "retinanet": RETINANET, "atss": ATSS, "fcos": FCOS}[kind])
    ).eval()


def truth(
    boxes: Sequence[Sequence[float]], labels: Sequence[int] | None = None, crowd: Any = None
) -> GroundTruth:
    return GroundTruth.of(boxes, labels or [0] * len(boxes), crowd=crowd)


def _tensor(rows: Sequence[Any]) -> Tensor:
    return torch.tensor([list(row) for row in rows], dtype=torch.float32)


def _logit(score: float) -> float:
    return math.log(score / (1 - score))


def two_stage(
    gt: GroundTruth,
    anchors: Sequence[Anchor],
    *,
    file: tuple[int, int] = SIZE,
    pre: int = 100,
    post: int = 100,
    rpn_nms: float = 0.7,
    rpn_size: float = 0.0,
    rpn_score: float = 0.0,
    thresh: float = 0.05,
    nms: float = 0.5,
    limit: int = 100,
    min_size: float = 0.0,
) -> Explanation:
    """Return the explanation of a Faster R-CNN that saw these anchors."""
    model = _model("rcnn")
    rpn, predictor = model.proposal_generator, model.roi_heads.box_predictor
    rpn.pre_nms_topk, rpn.post_nms_topk = {False: pre}, {False: post}
    rpn.nms_thresh, rpn.min_box_size, rpn.score_thresh = rpn_nms, rpn_size, rpn_score
    predictor.test_score_thresh, predictor.test_nms_thresh = thresh, nms
    predictor.test_topk_per_image, predictor.test_min_box_size = limit, min_size
    boxes = _tensor([a.box for a in anchors])
    targets = _tensor([a.moved_to or a.box for a in anchors])
    logits = torch.tensor([[_logit(a.score) for a in anchors]])
    deltas = rpn.box2box_transform.get_deltas(boxes, targets)[None]
    with torch.no_grad(), watch() as trace:
        _begin(boxes)
        probe("rpn.head", logits=[logits], deltas=[deltas])
        found = rpn.predict_proposals([Boxes(boxes)], [logits], [deltas], [SIZE])[0]
        proposals = found.proposal_boxes.tensor
        rois = torch.cat([torch.zeros(len(proposals), 1), proposals], dim=1)
        probe("roi.levels", boxes=rois, levels=torch.zeros(len(rois), dtype=torch.int64))
        # each proposal is known by its logit
        order = [int((logits[0] - own).abs().argmin()) for own in found.objectness_logits]
        final = _tensor([anchors[i].final or proposals[p].tolist() for p, i in enumerate(order)])
        scores = _tensor([anchors[i].scores for i in order]).reshape(-1, 4)
        results, _ = fast_rcnn_inference(
            [final.reshape(-1, 4)], [scores], [SIZE], thresh, nms, limit, min_box_size=min_size
        )
        postprocess(results, [{"height": file[0], "width": file[1]}], [SIZE])
    entry = {"height": file[0], "width": file[1], "file_name": "a.jpg", "image_id": 7}
    return explain_trace(model, trace, entry, gt, classes=CLASSES)


@dataclass
class Location:
    """An anchor of a dense head: its class scores, and the box that it is moved to."""

    box: Sequence[float]
    scores: Sequence[float] = (0.001, 0.001, 0.001)
    moved_to: Sequence[float] | None = None
    centerness: float = 0.9


def dense(
    gt: GroundTruth,
    locations: Sequence[Location],
    *,
    kind: str = "retinanet",
    thresh: float = 0.05,
    nms: float = 0.5,
    topk: int = 100,
    limit: int = 100,
) -> Explanation:
    """Return the explanation of a dense detector whose head said this."""
    model = _model(kind)
    if kind == "atss":
        model.test_class_score_thresh = thresh
    else:
        model.test_score_thresh = thresh
    model.test_nms_thresh = nms
    model.test_topk_candidates, model.max_detections_per_image = topk, limit
    boxes = _tensor([own.box for own in locations])
    targets = _tensor([own.moved_to or own.box for own in locations])
    logits = torch.tensor([[[_logit(s) for s in own.scores] for own in locations]])
    deltas = model.box2box_transform.get_deltas(boxes, targets)[None]
    centerness = torch.tensor([[_logit(own.centerness) for own in locations]])
    # FCOS assigns by size and needs all of its levels; the others hold no location here
    more = 4 if kind == "fcos" else 0
    kinds = [[own, *[own[:, :0]] * more] for own in (logits, deltas, centerness)]
    kinds = kinds[: 2 if kind == "retinanet" else 3]
    levels = [boxes, *[boxes[:0]] * more]
    with torch.no_grad(), watch() as trace:
        _begin(*levels)
        probe("dense.head", **dict(zip(("logits", "deltas", "centerness"), kinds, strict=False)))
        plain = kind == "retinanet"
        scores = kinds[0] if plain else model.scores(kinds[0], *kinds[2:])
        candidates = model._candidates([Boxes(own) for own in levels], scores, kinds[1], plain)
        results = model._suppress(candidates, [SIZE])
        postprocess(results, [{}], [SIZE], model.keep_empty_boxes)
    entry = {"height": SIZE[0], "width": SIZE[1], "file_name": "a.jpg", "image_id": 7}
    return explain_trace(model, trace, entry, gt, classes=CLASSES)


def _begin(*anchors: Tensor) -> None:
    probe("input.batch", images=torch.zeros(1, 3, *SIZE), image_sizes=[SIZE])
    # anchors of one row: each is a location
    count = len(anchors)
    cells = [torch.zeros(1, 4)] * count
    probe("anchors.grid", anchors=list(anchors), strides=[16] * count, cell_anchors=cells)
