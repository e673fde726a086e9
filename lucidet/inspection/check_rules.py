"""What the checks look at, stage by stage; each rule yields names of CHECKS with what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.data.keypoint_annotations import as_keypoints
from lucidet.data.segmentation import segmentation_area
from lucidet.inspection.event import Event, Thinned, statistics, whole
from lucidet.inspection.ground_truth import annotated, class_name, level_ious
from lucidet.inspection.trace import Trace

__all__ = ["RULES", "not_finite"]

#: means of ImageNet in 0..255, red first
IMAGENET_RGB = (123.675, 116.28, 103.53)

#: name of the check, message
Found = Iterator[tuple[str, str]]
Rule = Callable[[Trace, Event], Found]


def _limit(trace: Trace, name: str) -> Any:
    return (trace.context.get("limits") or {}).get(name)


def _record(trace: Trace, event: Event) -> Found:
    boxes, classes = annotated(trace)
    count = _limit(trace, "num_classes")
    for i, label in enumerate(classes):
        if count is not None and not 0 <= label < count:
            yield (
                "label-out-of-range",
                f"ground-truth box {i}: class {label}, but the model has classes 0..{count - 1}",
            )
    yield from _degenerate(boxes)


def _degenerate(boxes: Tensor) -> Found:
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if not (x2 > x1 and y2 > y1):
            yield (
                "degenerate-box",
                f"ground-truth box {i}: [{x1:g}, {y1:g}, {x2:g}, {y2:g}] is "
                f"{x2 - x1:g} x {y2 - y1:g} pixels",
            )


def _masks_and_keypoints(trace: Trace, event: Event) -> Found:
    """Look at the masks and keypoints of the record, where this model trains with them."""
    height, width = whole(event["image"]).shape[:2]
    boxes, _ = annotated(trace)
    entries = [e for e in event["record"].get("annotations") or [] if not e.get("iscrowd", 0)]
    for i, (entry, box) in enumerate(zip(entries, boxes, strict=True)):
        polygons = entry.get("segmentation") if _limit(trace, "masks") else None
        if isinstance(polygons, list) and polygons:  # of other forms `mask.targets` tells
            area = segmentation_area([np.asarray(p) for p in polygons], height, width)
            if area <= 0:
                message = f"ground-truth box {i}, {_size(box)}: its mask has no area"
                yield "mask-without-area", message
        if not (_limit(trace, "keypoints") and entry.get("keypoints")):
            continue
        for j, (x, y, visible) in enumerate(as_keypoints(entry["keypoints"]).tolist()):
            inside = box[0] - 1 <= x <= box[2] + 1 and box[1] - 1 <= y <= box[3] + 1
            if visible > 0 and not inside:
                yield (
                    "keypoint-outside-box",
                    f"ground-truth box {i}, {_size(box)}: keypoint {j} at ({x:g}, {y:g}) is "
                    f"outside of {[round(v, 1) for v in box.tolist()]}",
                )


def _mask_targets(trace: Trace, event: Event) -> Found:
    boxes = whole(event["boxes"])
    covered = whole(event["targets"]).flatten(1).any(dim=1)
    for i in (~covered).nonzero().squeeze(1).tolist():
        yield (
            "mask-without-area",
            f"proposal {i}, {_size(boxes[i])}: nothing of its ground-truth mask lies inside",
        )


def _transform(trace: Trace, event: Event) -> Found:
    boxes = event.get("boxes")
    if boxes is None:
        return
    height, width = whole(event["image"]).shape[:2]
    cropped = "Crop" in event["transform"]  # what a crop cuts off is outside by intention
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if not cropped and (x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1):
            yield (
                "box-outside-image",
                f"after {event['transform']}, ground-truth box {i}: "
                f"[{x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}] in an image of {width} x {height}",
            )
    yield from _degenerate(boxes)


def _batch(trace: Trace, event: Event) -> Found:
    mean, std, order = (_limit(trace, k) for k in ("pixel_mean", "pixel_std", "format"))
    if not mean or len(mean) != 3:
        return
    known = IMAGENET_RGB if order == "RGB" else IMAGENET_RGB[::-1]
    scale = 1 / 255 if max(mean) <= 1.0 else 1.0
    off = max(abs(m - k * scale) for m, k in zip(mean, known, strict=True)) / scale
    swapped = max(abs(m - k * scale) for m, k in zip(mean, known[::-1], strict=True)) / scale
    if swapped < 1.5 < off:
        yield (
            "image-statistics",
            f"images are {order}, but PIXEL_MEAN {[round(m, 3) for m in mean]} are ImageNet's "
            "means in the opposite order",
        )
    height, width = event["image_sizes"][0]
    pixels = whole(event["images"])[0, :, :height, :width].double()
    raw = pixels * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    largest = float(raw.max())
    if max(mean) <= 1.0 < largest / 2 and largest > 20:
        yield (
            "image-statistics",
            f"pixels reach {largest:.0f}, but PIXEL_MEAN {[round(m, 3) for m in mean]} are of "
            "images in 0..1",
        )
    elif max(mean) > 20 and largest <= 1.5:
        yield (
            "image-statistics",
            f"pixels reach only {largest:.2f}, but PIXEL_MEAN {[round(m, 1) for m in mean]} are of "
            "images in 0..255",
        )
    elif max(mean) > 20 and max(std) < 1:
        yield (
            "image-statistics",
            f"PIXEL_STD {[round(s, 3) for s in std]} are of images in 0..1, PIXEL_MEAN of 0..255: "
            f"the batch deviates by {float(pixels.std()):.0f}",
        )


def _assignment(trace: Trace, event: Event) -> Found:
    objects = whole(event["gt_boxes"])
    if len(objects) == 0:
        return
    levels = [whole(level) for level in event["anchors"]]
    labels, matched = whole(event["labels"]), whole(event["matched_idxs"])
    best = level_ious(objects, levels).amax(dim=1)
    counts = torch.bincount(matched[labels == 1], minlength=len(objects))
    for i, (count, iou) in enumerate(zip(counts.tolist(), best.tolist(), strict=True)):
        if iou == 0:
            yield (
                "object-without-anchor",
                f"ground-truth box {i}, {_size(objects[i])}: highest IoU 0",
            )
        if count == 0:
            yield (
                "object-without-positive",
                f"ground-truth box {i}, {_size(objects[i])}: no positive anchor; "
                f"highest IoU {iou:.3f}",
            )
    classes, count = event.get("gt_classes"), _limit(trace, "num_classes")
    if classes is not None and count is not None:
        for i, label in enumerate(classes.tolist()):
            if not 0 <= label < count:
                yield "label-out-of-range", f"ground-truth box {i}: class {label} of 0..{count - 1}"


def _size(box: Tensor) -> str:
    return f"{float(box[2] - box[0]):.0f} x {float(box[3] - box[1]):.0f} pixels"


def _term(trace: Trace, event: Event) -> Found:
    if float(event["normalizer"]) == 0:
        yield "zero-normalizer", f"{event['name']}: {float(event['sum']):g} / 0"


def _gradients(trace: Trace, event: Event) -> Found:
    for what, wanted in (("no gradient", None), ("a gradient of exactly 0", 0.0)):
        names = [name for name, _, _, grad in event["rows"] if grad == wanted]
        if names:
            some = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            yield "parameter-without-gradient", f"{len(names)} with {what}: {some}"


def _proposals(trace: Trace, event: Event) -> Found:
    limit = (_limit(trace, "proposals") or {}).get(trace.context.get("mode"))
    if limit and len(event["boxes"]) >= limit:
        lowest = float(event["logits"][-1].sigmoid())
        yield (
            "topk-saturated",
            f"all {limit} proposals that may stay; the last one has objectness {lowest:.3f}",
        )


def _candidates(trace: Trace, event: Event) -> Found:
    limit, count = _limit(trace, "candidates"), len(event["boxes"])
    if limit and count >= limit:
        yield "topk-saturated", f"{count} candidates; at most {limit} may come from a level"


def _detections(trace: Trace, event: Event) -> Found:
    limit, count = _limit(trace, "detections"), len(event["boxes"])
    if limit and count >= limit > 0:
        lowest = float(event["scores"].min())
        yield (
            "topk-saturated",
            f"all {limit} detections that may stay (TEST.DETECTIONS_PER_IMAGE); the last one has "
            f"score {lowest:.3f}",
        )
    found = set(event["classes"].tolist())
    real = set(annotated(trace)[1])
    if count >= 5 and len(found) == 1 and found != real and (_limit(trace, "num_classes") or 2) > 1:
        yield "one-class", f"{count} detections, all {class_name(trace, found.pop())}"


def not_finite(trace: Trace) -> list[tuple[str, int, str]]:
    """Return stage, place and message of the first event with a NaN or infinite value, if any."""
    for place, event in enumerate(trace.events):
        for name, value in _tensors(event.values):
            stats = value.stats if isinstance(value, Thinned) else _quick(value)
            if stats["nan"] or stats["inf"]:
                message = f"{name}: {int(stats['nan'])} NaN, {int(stats['inf'])} infinite values"
                return [(event.name, place, message)]
    return []


def _quick(value: Tensor) -> dict[str, float]:
    if not value.is_floating_point() or bool(value.isfinite().all()):
        return {"nan": 0, "inf": 0}
    return statistics(value)


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, tensor) of all tensors in an event's values."""
    if isinstance(value, Tensor | Thinned):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{path}[{key}]" if path else str(key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _tensors(item, f"{path}[{i}]")


#: stage -> what is looked at when it is reached
RULES: dict[str, list[Rule]] = {
    "input.read": [_record, _masks_and_keypoints],
    "input.transform": [_transform],
    "input.batch": [_batch],
    "rpn.assign": [_assignment],
    "dense.assign": [_assignment],
    "mask.targets": [_mask_targets],
    "loss.term": [_term],
    "loss.gradients": [_gradients],
    "rpn.proposals": [_proposals],
    "dense.candidates": [_candidates],
    "detections.final": [_detections],
}
