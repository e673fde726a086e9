"""Pictures of the assignment: which anchors are matched to each ground-truth box."""

# M ground-truth boxes, R anchors in all

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.ground_truth import level_ious
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, box_layer, figure, number, table, text

#: positives drawn of each ground-truth box, the best first
POSITIVES_DRAWN = 30


def _level_of_rows(levels: list[Tensor]) -> Tensor:
    return torch.cat([torch.full((len(a),), i) for i, a in enumerate(levels)])


def assign(page: PageData, event: Event) -> list[Block]:
    """Ground-truth boxes, their positives, IoU per level, ignored and low-quality matches."""
    gt_boxes = whole(event["gt_boxes"])
    levels = [whole(level) for level in event["anchors"]]
    anchors, level_of = torch.cat(levels), _level_of_rows(levels)
    labels, matched = whole(event["labels"]).long(), whole(event["matched_idxs"]).long()
    quality = whole(event["quality"])
    positive, ignored = labels == 1, labels == -1
    thresholds = page.trace.context.get("limits", {}).get("thresholds", {}).get(event.name, [])
    low_quality = (
        positive & (quality < max(thresholds)) if thresholds else torch.zeros_like(positive)
    )
    blocks: list[Block] = [
        text(
            f"{int(positive.sum()):,} positive, {int((labels == 0).sum()):,} background, "
            f"{int(ignored.sum()):,} ignored"
            + (
                f"; IoU thresholds {thresholds}; {int(low_quality.sum())} low-quality matches"
                if thresholds
                else ""
            )
        )
    ]
    classes = page.gt_classes(event)
    key, size = page.resized(event.image)
    drawn = _best_of_each(positive, matched, quality, len(gt_boxes))
    names = [
        f"ground-truth box {int(matched[r])}: quality {number(float(quality[r]))}, "
        f"{page.level_name(int(level_of[r]))}" + (" (low-quality match)" if low_quality[r] else "")
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
        _rows_layer(page, "low-quality", low_quality, anchors, level_of, quality, 3),
        _rows_layer(page, "ignored", ignored, anchors, level_of, quality, 5),
        page.objects_layer(gt_boxes, classes),
    ]
    blocks.append(
        figure(key, size, kinds, f"At most {POSITIVES_DRAWN} positives of a ground-truth box")
    )
    blocks.append(
        _objects_table(page, gt_boxes, classes, levels, level_of, positive, matched, low_quality)
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
    low_quality: Tensor,
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
                int((own & low_quality).sum()),
            ]
        )
    head = ["box", "class", "size", "best IoU per level", "positives per level", "positives"]
    caption = "One row a ground-truth box; a click follows it"
    return table([*head, "low-quality"], rows, caption, groups=range(len(rows)), follow=True)


def sample(page: PageData, event: Event) -> list[Block]:
    """The sampled anchors on the image."""
    labels = whole(event["labels"]).long()
    counts = text(
        f"{int((labels == 1).sum())} positive and {int((labels == 0).sum())} background anchors "
        "sampled for the losses"
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
    """Per ground-truth box the candidates' IoUs, their mean and standard deviation, positives."""
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
    head = ["box", "candidates", "mean IoU", "std. deviation", "threshold", "best", "reach it"]
    caption = "threshold = mean + standard deviation of the candidates' IoUs"
    return table(
        [*head, "center outside", "positive"], rows, caption, groups=range(len(rows)), follow=True
    )


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
        names = [f"box {m}: candidate, IoU {float(ious[m, q]):.3f}" for m, q in where.tolist()]
        boxes = anchors[candidates[where[:, 0], where[:, 1]]]
        groups = where[:, 0].tolist()
        layers.append(
            box_layer(f"{name} candidates", boxes, names, color=color, groups=groups, on=on)
        )
    following = [e for e in page.trace.all("dense.assign") if e.image == (event.image or 0)]
    if following:
        gt_boxes = whole(following[0]["gt_boxes"])
        layers.append(page.objects_layer(gt_boxes, page.gt_classes(following[0])))
    return figure(key, size, layers, "Candidates of the ground-truth boxes")
