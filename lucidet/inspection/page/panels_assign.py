"""Pictures of the assignment: for every object what has to find it."""

# M objects, R anchors in all

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.ground_truth import level_ious
from lucidet.inspection.page.draw import Block, box_layer, figure, number, table, text
from lucidet.inspection.page.page_data import PageData

#: positives drawn of each object, the best first
POSITIVES_DRAWN = 30


def _level_of_rows(levels: list[Tensor]) -> Tensor:
    return torch.cat([torch.full((len(a),), i) for i, a in enumerate(levels)])


def assign(page: PageData, event: Event) -> list[Block]:
    """Objects, their positives, the IoU per level, what is ignored and what was rescued."""
    gt_boxes = whole(event["gt_boxes"])
    levels = [whole(level) for level in event["anchors"]]
    anchors, level_of = torch.cat(levels), _level_of_rows(levels)
    labels, matched = whole(event["labels"]).long(), whole(event["matched_idxs"]).long()
    quality = whole(event["quality"])
    positive, ignored = labels == 1, labels == -1
    thresholds = page.trace.context.get("limits", {}).get("thresholds", {}).get(event.name, [])
    rescued = positive & (quality < max(thresholds)) if thresholds else torch.zeros_like(positive)
    blocks: list[Block] = [
        text(
            f"{int(positive.sum()):,} positive, {int((labels == 0).sum()):,} background, "
            f"{int(ignored.sum()):,} ignored"
            + (f"; IoU thresholds {thresholds}; {int(rescued.sum())} rescued" if thresholds else "")
        )
    ]
    classes = page.gt_classes(event)
    key, size = page.resized(event.image)
    drawn = _best_of_each(positive, matched, quality, len(gt_boxes))
    names = [
        f"object {int(matched[r])}: quality {number(float(quality[r]))}, "
        f"{page.level_name(int(level_of[r]))}" + (" (rescued)" if rescued[r] else "")
        for r in drawn.tolist()
    ]
    kinds = [
        box_layer(
            "positives",
            anchors[drawn],
            names,
            color=matched[drawn].tolist(),
            groups=matched[drawn].tolist(),
        ),
        _rows_layer(page, "rescued", rescued, anchors, level_of, quality, 3),
        _rows_layer(page, "ignored", ignored, anchors, level_of, quality, 5),
        page.objects_layer(gt_boxes, classes),
    ]
    blocks.append(figure(key, size, kinds, f"At most {POSITIVES_DRAWN} positives of an object"))
    blocks.append(
        _objects_table(page, gt_boxes, classes, levels, level_of, positive, matched, rescued)
    )
    return blocks


def _best_of_each(positive: Tensor, matched: Tensor, quality: Tensor, objects: int) -> Tensor:
    picked = [torch.zeros(0, dtype=torch.long)]
    for m in range(objects):
        rows = (positive & (matched == m)).nonzero().squeeze(1)
        picked.append(rows[quality[rows].argsort(descending=True)][:POSITIVES_DRAWN])
    return torch.cat(picked)


def _rows_layer(
    page: PageData,
    name: str,
    mask: Tensor,
    anchors: Tensor,
    level_of: Tensor,
    quality: Tensor,
    color: int,
) -> Block:
    rows = mask.nonzero().squeeze(1)
    rows = rows[quality[rows].argsort(descending=True)]
    labels = [
        f"{name}: IoU {number(float(quality[r]))}, {page.level_name(int(level_of[r]))}"
        for r in rows[:150].tolist()
    ]
    return box_layer(name, anchors[rows], labels, color=color, on=False, dashed=True, most=150)


def _objects_table(
    page: PageData,
    gt_boxes: Tensor,
    classes: list[int] | None,
    levels: list[Tensor],
    level_of: Tensor,
    positive: Tensor,
    matched: Tensor,
    rescued: Tensor,
) -> Block:
    best = level_ious(gt_boxes, levels)
    rows: list[list[Any]] = []
    for m, box in enumerate(gt_boxes.tolist()):
        own = positive & (matched == m)
        per_level = [int((own & (level_of == i)).sum()) for i in range(len(levels))]
        rows.append(
            [
                str(m),
                page.class_name(classes[m]) if classes else "",
                f"{box[2] - box[0]:.0f} x {box[3] - box[1]:.0f}",
                " ".join(f"{v:.2f}" for v in best[m].tolist()),
                " ".join(str(n) for n in per_level),
                int(own.sum()),
                int((own & rescued).sum()),
            ]
        )
    head = ["object", "class", "size", "best IoU per level", "positives per level", "positives"]
    caption = "One row an object; a click shows its boxes alone"
    return table([*head, "rescued"], rows, caption, groups=range(len(rows)))


def sample(page: PageData, event: Event) -> list[Block]:
    """The drawn anchors on the image."""
    labels = whole(event["labels"]).long()
    counts = text(
        f"{int((labels == 1).sum())} positive and {int((labels == 0).sum())} background anchors "
        "drawn for the losses"
    )
    if "anchors.grid" not in page.trace:
        return [counts]
    levels = [whole(level) for level in page.trace["anchors.grid"]["anchors"]]
    anchors, level_of = torch.cat(levels), _level_of_rows(levels)
    key, size = page.resized(event.image)
    layers = []
    for name, label, color in (("positive", 1, 2), ("background", 0, 0)):
        rows = (labels == label).nonzero().squeeze(1)
        names = [f"{name}, {page.level_name(int(level_of[r]))}" for r in rows[:300].tolist()]
        layers.append(box_layer(name, anchors[rows], names, color=color, on=label == 1))
    return [counts, figure(key, size, layers)]


def atss(page: PageData, event: Event) -> list[Block]:
    """Per object the candidates' IoUs, their mean and deviation, and who passes."""
    blocks = [_thresholds_table(event)]
    if "anchors.grid" in page.trace:
        blocks.insert(0, _candidates_figure(page, event))
    return blocks


def _thresholds_table(event: Event) -> Block:
    ious, positive = whole(event["ious"]), whole(event["positive"])
    thresholds = whole(event["thresholds"])
    rows = []
    for m in range(len(ious)):
        passing = ious[m] >= thresholds[m]
        deviation = float(ious[m].std()) if ious.shape[1] > 1 else 0.0
        rows.append(
            [
                str(m),
                len(ious[m]),
                float(ious[m].mean()),
                deviation,
                float(thresholds[m]),
                float(ious[m].max()),
                int(passing.sum()),
                int((passing & ~positive[m]).sum()),
                int(positive[m].sum()),
            ]
        )
    head = ["object", "candidates", "mean IoU", "deviation", "threshold", "best", "reach it"]
    caption = "threshold = mean + deviation of the candidates' IoUs"
    return table([*head, "centre outside", "positive"], rows, caption, groups=range(len(rows)))


def _candidates_figure(page: PageData, event: Event) -> Block:
    candidates, ious = whole(event["candidates"]), whole(event["ious"])
    positive = whole(event["positive"])
    anchors = torch.cat([whole(level) for level in page.trace["anchors.grid"]["anchors"]])
    key, size = page.resized(event.image)
    layers = []
    for name, mask, color, on in (("positive", positive, 2, True), ("other", ~positive, 0, False)):
        where = mask.nonzero()
        if not on:  # the best of the others
            where = where[ious[mask].argsort(descending=True)]
        names = [f"object {m}: candidate, IoU {float(ious[m, q]):.3f}" for m, q in where.tolist()]
        boxes = anchors[candidates[where[:, 0], where[:, 1]]]
        groups = where[:, 0].tolist()
        layers.append(
            box_layer(f"{name} candidates", boxes, names, color=color, groups=groups, on=on)
        )
    following = [e for e in page.trace.all("dense.assign") if e.image == (event.image or 0)]
    if following:
        objects = whole(following[0]["gt_boxes"])
        layers.append(page.objects_layer(objects, page.gt_classes(following[0])))
    return figure(key, size, layers, "Candidates of the objects")
