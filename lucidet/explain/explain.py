"""One image explained: the fate of each ground-truth box, the origin of each detection."""

# M ground-truth boxes, D detections

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lucidet.explain.chain import chain_of
from lucidet.explain.facts import add_facts
from lucidet.explain.frames import overlaps, short
from lucidet.explain.judging import add_detections, add_fates
from lucidet.explain.matching import GroundTruth
from lucidet.explain.model_facts import num_classes_of
from lucidet.explain.origins import origin_of
from lucidet.explain.recompute import Kept, detections_at, with_detections
from lucidet.explain.record import Explanation, ObjectRecord
from lucidet.explain.view import WATCHED, View
from lucidet.inspection.trace import Trace, watch

__all__ = ["explain_image", "explain_trace"]


def explain_image(
    model: nn.Module,
    entry: dict[str, Any],
    truth: GroundTruth,
    *,
    classes: Sequence[str] = (),
    match_iou: float = 0.5,
    details: bool = True,
) -> Explanation:
    """Run a detector on one image and explain what it did.

    Args:
        model: in eval mode.
        entry: `image` (C, H, W), and `height`, `width` of the file, as a mapper gives it.
        truth: the image's annotations, in pixels of the file.
        classes: names of the dataset's classes.
        match_iou: from which a detection counts for a ground-truth box.
        details: chains and origins too; without them the fates alone, for a whole dataset.

    Raises:
        ValueError: a detector that can't be explained; see :func:`explain_trace`.
    """
    if model.training:
        raise ValueError("explain needs a model in test mode: call model.eval() first")
    with torch.no_grad(), watch(only=WATCHED) as trace:
        model([entry])
    return explain_trace(
        model, trace, entry, truth, classes=classes, match_iou=match_iou, details=details
    )


@torch.no_grad()
def explain_trace(
    model: nn.Module,
    trace: Trace,
    entry: dict[str, Any],
    truth: GroundTruth,
    *,
    classes: Sequence[str] = (),
    match_iou: float = 0.5,
    details: bool = True,
) -> Explanation:
    """Explain a run that was watched; see :func:`explain_image`.

    Args:
        trace: of one image, with the events of `WATCHED`.
        entry: of which `height`, `width`, `file_name` and `image_id` are used.

    Raises:
        ValueError: the detector is not one that can be explained, or replaces what the explanation
            follows (another post-processing).
    """
    resized = trace["input.batch"]["image_sizes"][0]
    size = int(entry.get("height", resized[0])), int(entry.get("width", resized[1]))
    view = View(model, trace, size, match_iou)
    record = _record(view, entry, classes)
    kept = _checked(record, view)
    record.objects = _objects(truth, record)
    outcome, match = add_detections(record, truth, kept)
    missed = ((match.detection < 0) & ~truth.crowd).nonzero()[0].tolist()
    covers = add_facts(view, record, truth, None if details else missed)
    fates = add_fates(record, outcome, match)
    if details:
        for found, fate in zip(record.objects, fates, strict=True):
            found.chain = chain_of(found, fate, view, record, covers.get(found.index))
        for detection in record.detections:
            detection.origin = origin_of(detection, view, record)
    return record


def _record(view: View, entry: dict[str, Any], classes: Sequence[str]) -> Explanation:
    """Return the record of an image, still without boxes that are explained."""
    height, width = view.frame.resized
    class_map = getattr(view.model, "class_map", None)
    proposals = None
    levels = view.levels_of_rows()
    if view.proposals is not None:
        proposals = {"box": short(view.proposals)}
        if view.rpn is not None:
            proposals |= {"logit": short(view.rpn.proposal_logits), "level": levels.tolist()}  # type: ignore[union-attr]
    return Explanation(
        image={
            "file_name": str(entry.get("file_name", "")),
            "image_id": entry.get("image_id"),
            "width": view.frame.file[1],
            "height": view.frame.file[0],
            "resized": [width, height],
        },
        architecture=type(view.model).__name__,
        two_stage=view.two_stage,
        levels=view.levels,
        classes=list(classes),
        num_classes=num_classes_of(view.model),
        class_map=[] if class_map is None else class_map.tolist(),
        settings=view.settings,
        exact={"score_thresh": view.pool.floor, "topk": view.settings.topk},
        candidates=view.pool.as_record(levels),
        proposals=proposals,
    )


def _checked(record: Explanation, view: View) -> Kept:
    """Return the detections that follow from the candidates: those that the detector returned."""
    kept = detections_at(record, view.settings)
    boxes, scores, classes = view.final()
    same = len(boxes) == len(kept.boxes) and torch.equal(classes, kept.labels)
    if not same or not torch.allclose(boxes, kept.boxes, atol=1e-2):
        aligned = with_detections(record, kept, boxes, scores, classes)
        if aligned is not None:
            return aligned
        raise ValueError(
            f"the {len(kept.boxes)} detections that follow from the scores are not the "
            f"{len(boxes)} that {type(view.model).__name__} returned: a subclass replaces its "
            "post-processing, which can't be explained"
        )
    return kept


def _objects(truth: GroundTruth, record: Explanation) -> list[ObjectRecord]:
    boxes = torch.from_numpy(truth.boxes).float()
    corners = truth.boxes.tolist()
    others = overlaps(boxes, boxes).fill_diagonal_(0.0)
    others[:, torch.from_numpy(truth.crowd)] = 0.0
    crowding = others.amax(dim=1) if len(truth) else others.new_zeros(0)
    return [
        ObjectRecord(
            index=i,
            box=corners[i],
            label=int(truth.labels[i]),
            name=record.class_name(int(truth.labels[i])),
            size=truth.size(i),
            crowding=round(float(crowding[i]), 4),
            crowd=bool(truth.crowd[i]),
        )
        for i in range(len(truth))
    ]
