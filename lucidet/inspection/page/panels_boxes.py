"""Pictures of predicted boxes: candidates, what non-maximum suppression did to them, detections."""

from __future__ import annotations

import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, box_layer, figure, number, table, text
from lucidet.pages.charts import histogram
from lucidet.structures import Boxes, pairwise_iou

#: suppressed boxes that are explained, the best first
SUPPRESSED_DRAWN = 200


def boxes(page: PageData, event: Event) -> list[Block]:
    """Boxes with their scores, the best first."""
    rows = whole(event["boxes"])
    scores = event.get("scores")
    scores = whole(scores if scores is not None else event["logits"])
    order = scores.argsort(descending=True)
    levels, classes = event.get("levels"), event.get("classes")
    labels = []
    for r in order[:300].tolist():
        name = f"#{r}: {number(float(scores[r]))}"
        if classes is not None:
            name += f", {page.own_class_name(int(classes[r]))}"
        if levels is not None:
            name += f", {page.level_name(int(levels[r]))}"
        labels.append(name)
    key, size = page.resized(event.image)
    colors = [int(levels[r]) if levels is not None else 1 for r in order[:300].tolist()]
    layers = []
    for start, end, on in ((0, 30, True), (30, 100, False), (100, 300, False)):
        part = order[start:end]
        if len(part):
            name = f"best {end}" if start == 0 else f"{start + 1} to {end}"
            layers.append(
                box_layer(name, rows[part], labels[start:end], color=colors[start:end], on=on)
            )
    outside = _outside(rows, size)
    note = f"{len(rows):,} boxes; {outside:,} reach outside the image" if len(rows) else "no box"
    blocks = [text(note), figure(key, size, layers, "Best scores first")]
    if levels is not None:
        counts = torch.bincount(levels, minlength=len(page.strides())).tolist()
        head = ["level", "boxes"]
        table_rows = [[page.level_name(i), n] for i, n in enumerate(counts)]
        blocks.append(table(head, table_rows, "Boxes of each level"))
    if len(rows):
        blocks.append(histogram(scores, "scores"))
    return blocks


def _outside(rows: Tensor, size: tuple[int, int]) -> int:
    limit = torch.tensor([*size, *size], dtype=rows.dtype) + 0.01
    return int(((rows < -0.01) | (rows > limit)).any(dim=1).sum())


def suppressions(
    candidates: Tensor, scores: Tensor, groups: Tensor, keep: Tensor
) -> list[tuple[int, int, float]]:
    """Return (candidate, the kept box that suppressed it, their IoU), the best ones."""
    gone = torch.ones(len(candidates), dtype=torch.bool)
    gone[keep] = False
    rows = gone.nonzero().squeeze(1)
    rows = rows[scores[rows].argsort(descending=True)][:SUPPRESSED_DRAWN]
    if len(rows) == 0 or len(keep) == 0:
        return []
    iou = pairwise_iou(Boxes(candidates[rows]), Boxes(candidates[keep]))
    rivals = (groups[rows, None] == groups[keep]) & (scores[keep] >= scores[rows, None])
    best, which = iou.where(rivals, -1.0).max(dim=1)
    return [
        (int(r), int(keep[w]) if b > 0 else -1, float(b))
        for r, w, b in zip(rows, which, best, strict=True)
    ]


def _nms(page: PageData, event: Event, found: Event, groups: Tensor, name: str) -> list[Block]:
    """Kept and suppressed candidates of one NMS."""
    rows, scores, keep = whole(found["boxes"]), whole(found["scores"]), whole(event["keep"])
    key, size = page.resized(event.image)
    losers = suppressions(rows, scores, groups, keep)
    threshold = page.trace.context.get("limits", {}).get("nms", {}).get(name)
    kept = [
        f"#{r}: kept, {number(float(scores[r]))}{_class_of(page, found, r)}" for r in keep.tolist()
    ]
    gone = []
    for r, winner, iou in losers:
        why = f"suppressed by #{winner}, IoU {iou:.2f}"
        if winner < 0 or (threshold and iou <= threshold):
            why = "beyond the limit"
        gone.append(f"#{r}: {number(float(scores[r]))}{_class_of(page, found, r)}, {why}")
    index = [r for r, _, _ in losers]
    winners = [w if w >= 0 else r for r, w, _ in losers]
    layers = [
        box_layer("suppressed", rows[index], gone, color=5, groups=winners, on=False, dashed=True),
        box_layer("kept", rows[keep][:100], kept[:100], color=2, groups=keep[:100].tolist()),
        box_layer("kept, 101 on", rows[keep][100:], kept[100:], color=1, on=False)
        if len(keep) > 100
        else {},
    ]
    note = f"{len(rows):,} candidates, {len(keep):,} kept"
    if threshold:
        note += f"; boxes of one {'level' if name == 'rpn' else 'class'} with IoU above {threshold}"
    lost = [winner for _, winner, _ in losers]
    table_rows = [
        [f"#{r}", float(scores[r]), _class_of(page, found, r)[2:], lost.count(r)]
        for r in keep[:50].tolist()
    ]
    head = ["kept", "score", "class", f"suppressed (of the best {SUPPRESSED_DRAWN})"]
    return [
        text(note),
        figure(key, size, layers, "Hover a suppressed box to see which one suppressed it"),
        table(
            head,
            table_rows,
            "A click shows a box and those that it suppressed",
            groups=keep[:50].tolist(),
        ),
    ]


def _class_of(page: PageData, found: Event, row: int) -> str:
    if found.get("classes") is None:
        return ""
    return f", {page.own_class_name(int(found['classes'][row]))}"


def rpn_nms(page: PageData, event: Event) -> list[Block]:
    before = [e for e in page.trace.all("rpn.candidates") if e.image == event.image]
    if not before:
        return []
    return _nms(page, event, before[-1], whole(before[-1]["levels"]), "rpn")


def final_nms(page: PageData, event: Event) -> list[Block]:
    return _nms(page, event, event, whole(event["classes"]), "detections")


def final(page: PageData, event: Event) -> list[Block]:
    """Detections beside the ground truth."""
    rows, scores, classes = (whole(event[name]) for name in ("boxes", "scores", "classes"))
    gt_boxes, gt_classes = page.annotated()
    iou = pairwise_iou(Boxes(rows), Boxes(gt_boxes)) if len(gt_boxes) and len(rows) else None
    key, size = page.original()
    names, table_rows = [], []
    for i, box in enumerate(rows.tolist()):
        name = f"{i}: {page.class_name(int(classes[i]))} {float(scores[i]):.2f}"
        best = ""
        if iou is not None:
            m = int(iou[i].argmax())
            best = f"IoU {float(iou[i, m]):.2f} with box {m}, {page.class_name(gt_classes[m])}"
        names.append(name + (f", {best}" if best else ""))
        table_rows.append(
            [
                str(i),
                page.class_name(int(classes[i])),
                float(scores[i]),
                *[f"{v:.0f}" for v in box],
                best,
            ]
        )
    layers = [
        box_layer("detections", rows, names, color=classes.tolist(), groups=range(len(rows))),
        page.objects_layer(gt_boxes, gt_classes),
    ]
    head = ["#", "class", "score", "x1", "y1", "x2", "y2", "nearest ground-truth box"]
    note = f"{len(rows)} detections, {len(gt_boxes)} ground-truth boxes"
    return [
        figure(key, size, layers, note),
        table(head, table_rows[:100], "Detections", groups=range(min(len(rows), 100))),
    ]
