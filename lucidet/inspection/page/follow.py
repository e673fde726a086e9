"""One ground-truth box through every stage of a trace: what each stage has for it."""

# M ground-truth boxes, R anchors of all levels

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.structures import Boxes, pairwise_iou

__all__ = ["Follower", "Note"]

#: what a stage has for a box: {"text", "boxes": [{"box", "label", "kind"}], "lost"}
Note = dict[str, Any]

#: ground-truth boxes of an image that can be followed
MOST_FOLLOWED = 100
#: IoU from which a box counts as one that is near the ground-truth box
NEAR = 0.5
#: boxes of a stage that are drawn for a ground-truth box
_DRAWN = 5


def note(text: str, boxes: list[dict[str, Any]] | None = None, lost: bool = False) -> Note:
    return {"text": text, "boxes": boxes or [], "lost": lost}


def shown(box: Tensor, label: str, kind: str) -> dict[str, Any]:
    values = [round(v, 1) for v in box.nan_to_num().tolist()]
    return {"box": values, "label": label, "kind": kind}


class Follower:
    """Follows the boxes that an image's record has, crowd regions aside."""

    def __init__(self, page: PageData) -> None:
        self.page, self.trace = page, page.trace
        self.original, self.classes = page.annotated()
        self.resized = self._resized()
        self._anchor_iou: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return min(len(self.original), MOST_FOLLOWED)

    def notes(self, event: Event) -> list[Note | None]:
        """Return what a stage has for each box; None: nothing."""
        rule = _RULES.get(event.name)
        if rule is None or event.image not in (None, 0):
            return [None] * len(self)
        return [rule(self, event, m) for m in range(len(self))]

    def frame_box(self, event: Event, index: int) -> Tensor:
        """Return a box in the frame of an event's pictures."""
        if event.name in ("input.read", "detections.final"):
            return self.original[index]
        moved = event.get("boxes") if event.name == "input.transform" else None
        return moved[index] if moved is not None and self._same(moved) else self.resized[index]

    def _same(self, boxes: Any) -> bool:
        return len(boxes) == len(self.original)

    def _resized(self) -> Tensor:
        """Return the boxes (M, 4) in pixels of the image as the model saw it."""
        for name in ("rpn.assign", "dense.assign", "roi.assign"):
            for event in self.trace.all(name):
                if event.image in (None, 0) and self._same(whole(event["gt_boxes"])):
                    return whole(event["gt_boxes"])[:, :4]
        moved = [e["boxes"] for e in self.trace.all("input.transform")]
        if moved and moved[-1] is not None and self._same(moved[-1]):
            return whole(moved[-1])
        (_, (width, height)), (_, (w, h)) = self.page.original(), self.page.resized()
        scale = torch.tensor([w / width, h / height])
        return self.original * scale.repeat(2)

    def anchor_iou(self, index: int) -> Tensor:
        """Return the IoU (R,) of every anchor with a box."""
        if self._anchor_iou is None or self._anchor_iou[0] != index:
            levels = [whole(level)[:, :4] for level in self.trace["anchors.grid"]["anchors"]]
            own = Boxes(self.resized[index : index + 1])
            iou = [pairwise_iou(own, Boxes(level))[0].nan_to_num() for level in levels]
            self._anchor_iou = index, torch.cat(iou)
        return self._anchor_iou[1]

    def anchors(self) -> tuple[Tensor, Tensor]:
        """Return all anchors (R, 4) and the level of each (R,)."""
        levels = [whole(level)[:, :4] for level in self.trace["anchors.grid"]["anchors"]]
        level_of = [torch.full((len(a),), i) for i, a in enumerate(levels)]
        return torch.cat(levels), torch.cat(level_of)

    def own_classes(self, index: int) -> list[int]:
        """Return the model's numbers of a box's class."""
        known = self.page.class_map
        if not known:
            return [self.classes[index]]
        return [k for k, of_data in enumerate(known) if of_data == self.classes[index]]


def _size(box: Tensor) -> str:
    return f"{float(box[2] - box[0]):.0f} × {float(box[3] - box[1]):.0f} pixels"


def _read(follower: Follower, event: Event, m: int) -> Note:
    return note(f"{follower.page.class_name(follower.classes[m])}, {_size(follower.original[m])}")


def _transform(follower: Follower, event: Event, m: int) -> Note | None:
    boxes = event.get("boxes")
    if boxes is None or not follower._same(boxes):
        return None
    return note(f"{_size(boxes[m])} after it")


def _batch(follower: Follower, event: Event, m: int) -> Note:
    return note(f"{_size(follower.resized[m])} as the model sees it")


def _features(follower: Follower, event: Event, m: int) -> Note:
    width, height = follower.page.resized()[1]
    parts = []
    for name, value in event["features"].items():
        rows, columns = whole(value).shape[2:]
        box = follower.resized[m]
        across = float(box[2] - box[0]) * columns / max(width, 1)
        down = float(box[3] - box[1]) * rows / max(height, 1)
        parts.append(f"{across:.1f} × {down:.1f} on {name}")
    return note("locations that it covers: " + ", ".join(parts))


def _anchors(follower: Follower, event: Event, m: int) -> Note:
    iou = follower.anchor_iou(m)
    if not len(iou):
        return note("there is no anchor", lost=True)
    anchors, level_of = follower.anchors()
    best = int(iou.argmax())
    level = follower.page.level_name(int(level_of[best]))
    near = int((iou >= NEAR).sum())
    text = f"{near} with IoU ≥ {NEAR}; the best {float(iou[best]):.2f}, {level}"
    drawn = shown(anchors[best], f"best anchor, IoU {float(iou[best]):.2f}", "anchor")
    return note(text, [drawn], lost=float(iou[best]) == 0)


def _assign(follower: Follower, event: Event, m: int) -> Note | None:
    if not follower._same(whole(event["gt_boxes"])):
        return None
    proposals = event.get("proposals")
    rows_of = whole(proposals) if proposals is not None else None
    if rows_of is None:
        rows_of = torch.cat([whole(level) for level in event["anchors"]])
    kind = "anchor" if proposals is None else "proposal"
    labels, matched = whole(event["labels"]).long(), whole(event["matched_idxs"]).long()
    quality = whole(event["quality"])
    own = ((labels == 1) & (matched == m)).nonzero().squeeze(1)
    own = own[quality[own].argsort(descending=True)]
    ignored = int(((labels == -1) & (matched == m)).sum())
    text = f"{len(own)} positive {kind}{'' if len(own) == 1 else 's'}" + (
        f", {ignored} ignored" if ignored else ""
    )
    drawn = [
        shown(rows_of[r][:4], f"positive, quality {float(quality[r]):.2f}", kind)
        for r in own[:_DRAWN].tolist()
    ]
    return note(text, drawn, lost=len(own) == 0)


def _sample(follower: Follower, event: Event, m: int) -> Note | None:
    before = [e for e in follower.trace.all("rpn.assign") if e.image == event.image]
    if not before or not follower._same(whole(before[-1]["gt_boxes"])):
        return None
    matched = whole(before[-1]["matched_idxs"]).long()
    count = int(((whole(event["labels"]) == 1) & (matched == m)).sum())
    return note(f"positive anchors that are sampled: {count}", lost=count == 0)


def _roi_sample(follower: Follower, event: Event, m: int) -> Note | None:
    before = [e for e in follower.trace.all("roi.assign") if e.image == event.image]
    if not before or not follower._same(whole(before[0]["gt_boxes"])):
        return None
    indices, foreground = whole(event["indices"]), whole(event["foreground"])
    own = foreground & (whole(before[0]["matched_idxs"]).long()[indices] == m)
    proposals = whole(before[0]["proposals"])[indices[own]]
    drawn = [shown(box, "sampled, foreground", "proposal") for box in proposals[:_DRAWN]]
    text = f"foreground proposals that are sampled: {int(own.sum())}"
    return note(text, drawn, lost=not bool(own.any()))


def _atss(follower: Follower, event: Event, m: int) -> Note | None:
    if len(whole(event["ious"])) != len(follower.original):
        return None
    ious, threshold = whole(event["ious"])[m], float(whole(event["thresholds"])[m])
    positive = int(whole(event["positive"])[m].sum())
    text = f"threshold {threshold:.2f}: {positive} of {len(ious)} candidates are positive"
    return note(text, lost=positive == 0)


def _head(follower: Follower, event: Event, m: int) -> Note | None:
    levels = [whole(value)[0] for value in event["logits"]]
    if "anchors.grid" not in follower.trace:
        return None
    classes = follower.own_classes(m)
    scores = torch.cat([v if v.dim() == 1 else v[:, classes].amax(dim=1) for v in levels])
    near = follower.anchor_iou(m)
    if len(near) != len(scores) or not len(near):
        return None
    mask = near >= min(NEAR, float(near.max()))
    best = int(scores.where(mask, -torch.inf).argmax())
    rank = int((scores > scores[best]).sum()) + 1
    anchors, level_of = follower.anchors()
    score = float(scores[best].sigmoid())
    what = "objectness" if levels[0].dim() == 1 else "score of its class"
    text = f"best {what} at a near anchor {score:.3f}, rank {rank:,} of {len(scores):,}"
    text += f", {follower.page.level_name(int(level_of[best]))}"
    return note(text, [shown(anchors[best], f"anchor, {what} {score:.3f}", "anchor")])


def _boxes(follower: Follower, event: Event, m: int) -> Note:
    boxes = whole(event["boxes"])
    scores = whole(event["scores"] if "scores" in event.values else event["logits"])
    keep = event.get("keep") if event.name == "detections.nms" else None
    classes = event.get("classes")
    if keep is not None:
        rows = whole(keep)
        boxes, scores = boxes[rows], scores[rows]
        classes = None if classes is None else whole(classes)[rows]
    if len(boxes) == 0:
        return note("there is no box", lost=True)
    own = follower.frame_box(event, m)
    iou = pairwise_iou(Boxes(own[None]), Boxes(boxes))[0].nan_to_num()
    what = "boxes"
    if classes is not None:
        final = event.name == "detections.final"
        names = [follower.classes[m]] if final else follower.own_classes(m)
        right = torch.isin(whole(classes), torch.tensor(names, dtype=torch.long))
        what = "boxes of its class"
        iou = iou.where(right, 0.0)
    near, best = int((iou >= NEAR).sum()), int(iou.argmax())
    if float(iou[best]) == 0:
        return note(f"none of {len(boxes):,} {what} meets it", lost=True)
    rank = int((scores > scores[best]).sum()) + 1
    number = f"IoU {float(iou[best]):.2f}, score {float(scores[best]):.3g}"
    text = f"{near} {what} with IoU ≥ {NEAR}; the best: {number}, rank {rank:,} of {len(boxes):,}"
    kind = "detection" if event.name.startswith("detections") else "candidate"
    return note(text, [shown(boxes[best], number, kind)], lost=near == 0)


def _roi_levels(follower: Follower, event: Event, m: int) -> Note | None:
    rois, levels = whole(event["boxes"]), whole(event["levels"])
    first = rois[:, 0] == 0
    rois, levels = rois[first][:, 1:], levels[first]
    if not len(rois):
        return note("there is no region", lost=True)
    iou = pairwise_iou(Boxes(follower.resized[m : m + 1]), Boxes(rois))[0].nan_to_num()
    best = int(iou.argmax())
    text = f"its best region (IoU {float(iou[best]):.2f}) reads pooler level {int(levels[best])}"
    drawn = shown(rois[best], f"region, IoU {float(iou[best]):.2f}", "proposal")
    return note(text, [drawn], lost=float(iou[best]) == 0)


def _roi_head(follower: Follower, event: Event, m: int) -> Note | None:
    place = next(i for i, other in enumerate(follower.trace.events) if other is event)
    before = [e for e in follower.trace.events[:place] if e.name == "roi.levels"]
    scores = whole(event["scores"]).float()
    if not before or len(whole(before[-1]["boxes"])) != len(scores) or not len(scores):
        return None
    rois = whole(before[-1]["boxes"])
    own = Boxes(follower.resized[m : m + 1])
    iou = pairwise_iou(own, Boxes(rois[:, 1:]))[0].nan_to_num().where(rois[:, 0] == 0, -1.0)
    best = int(iou.argmax())
    shares = scores[best].softmax(dim=0)
    right = float(shares[follower.own_classes(m)].sum()) if follower.own_classes(m) else 0.0
    top = int(shares.argmax())
    name = "background" if top == len(shares) - 1 else follower.page.own_class_name(top)
    text = f"its best region: its class {right:.2f}, highest {name} {float(shares[top]):.2f}"
    return note(text, [shown(rois[best, 1:], text, "proposal")])


_RULES: dict[str, Callable[[Follower, Event, int], Note | None]] = {
    "input.read": _read,
    "input.transform": _transform,
    "input.batch": _batch,
    "backbone.features": _features,
    "anchors.grid": _anchors,
    "assign.atss": _atss,
    "rpn.assign": _assign,
    "dense.assign": _assign,
    "roi.assign": _assign,
    "rpn.sample": _sample,
    "roi.sample": _roi_sample,
    "rpn.head": _head,
    "dense.head": _head,
    "rpn.decode": _boxes,
    "rpn.candidates": _boxes,
    "rpn.proposals": _boxes,
    "dense.candidates": _boxes,
    "roi.levels": _roi_levels,
    "roi.head": _roi_head,
    "detections.nms": _boxes,
    "detections.final": _boxes,
}
