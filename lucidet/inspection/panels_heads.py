"""Pictures of head outputs, proposals, regions of interest and detections."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.inspection.draw import (
    Block,
    box_layer,
    contact_sheet,
    figure,
    heat_image,
    heat_layer,
    histogram,
    number,
    table,
    text,
)
from lucidet.inspection.page import PageData, whole
from lucidet.inspection.trace import Event
from lucidet.structures import Boxes, pairwise_iou

#: suppressed boxes that are explained, the best first
SUPPRESSED_DRAWN = 200
#: regions shown as crops
CROPS = 40


def dense_head(page: PageData, event: Event) -> list[Block]:
    """Highest score of each cell as a map per level, and histograms."""
    key, size = page.resized()
    layers, blocks = [], []
    for i, value in enumerate(event["logits"]):
        logits = whole(value)[0]
        best = logits if logits.dim() == 1 else logits.amax(dim=1)
        grid = _as_grid(page, i, best.sigmoid())
        if grid is not None:
            layers.append(heat_layer(f"{page.level_name(i)}: score", *grid, on=i == 0))
        blocks.append(histogram(logits, f"{page.level_name(i)}: logits"))
        blocks.append(histogram(whole(event["deltas"][i])[0], f"{page.level_name(i)}: deltas"))
    for i, value in enumerate(event.get("centerness") or []):
        grid = _as_grid(page, i, whole(value)[0].sigmoid())
        if grid is not None:
            layers.append(heat_layer(f"{page.level_name(i)}: centerness", *grid))
    return [figure(key, size, layers, "Highest sigmoid of each cell's logits"), *blocks]


def _as_grid(
    page: PageData, level: int, values: Tensor
) -> tuple[Tensor, tuple[float, float]] | None:
    """Return values of a level's anchors (HWA,) as a map of cells (H, W), and its extent."""
    if "anchors.grid" not in page.trace:
        return None
    grid = page.trace["anchors.grid"]
    per_cell = max(len(grid["cell_anchors"][level]), 1)
    anchors = whole(grid["anchors"][level])[::per_cell]
    columns = int((anchors[:, 1] == anchors[0, 1]).sum()) if len(anchors) else 0
    if columns == 0 or len(values) % (columns * per_cell):
        return None
    cells = values.view(-1, columns, per_cell).amax(dim=2)
    stride = float(grid["strides"][level])
    return cells, (cells.shape[1] * stride, cells.shape[0] * stride)


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
            name += f", {page.class_name(int(classes[r]))}"
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
    """Return (candidate, the kept box that beat it, their IoU) for the best that went."""
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
            why = "beyond the number that may stay"
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
    head = ["kept", "score", "class", f"suppressed (of the best {SUPPRESSED_DRAWN} that went)"]
    return [
        text(note),
        figure(key, size, layers, "Hover a suppressed box to see which one beat it"),
        table(head, table_rows, "A click shows a box and its victims", groups=keep[:50].tolist()),
    ]


def _class_of(page: PageData, found: Event, row: int) -> str:
    if found.get("classes") is None:
        return ""
    return f", {page.class_name(int(found['classes'][row]))}"


def rpn_nms(page: PageData, event: Event) -> list[Block]:
    before = [e for e in page.trace.all("rpn.candidates") if e.image == event.image]
    if not before:
        return []
    return _nms(page, event, before[-1], whole(before[-1]["levels"]), "rpn")


def final_nms(page: PageData, event: Event) -> list[Block]:
    return _nms(page, event, event, whole(event["classes"]), "detections")


def roi_assign(page: PageData, event: Event) -> list[Block]:
    """Proposals that match an object, and the best of the others."""
    proposals, labels = whole(event["proposals"]), whole(event["labels"]).long()
    matched, quality = whole(event["matched_idxs"]).long(), whole(event["quality"])
    key, size = page.resized(event.image)
    layers = []
    for name, label, color in (("foreground", 1, 2), ("background", 0, 0), ("ignored", -1, 5)):
        rows = (labels == label).nonzero().squeeze(1)
        rows = rows[quality[rows].argsort(descending=True)][:150]
        names = [
            f"proposal {r}: {name}, IoU {float(quality[r]):.2f}"
            + (f" with object {int(matched[r])}" if label == 1 else "")
            for r in rows.tolist()
        ]
        groups = [int(matched[r]) if label == 1 else -1 for r in rows.tolist()]
        layer = box_layer(name, proposals[rows], names, color=color, groups=groups, on=label == 1)
        layers.append(layer)
    gt_boxes = whole(event["gt_boxes"])
    layers.append(page.objects_layer(gt_boxes, page.gt_classes(event)))
    counts = [[str(m), int(((labels == 1) & (matched == m)).sum())] for m in range(len(gt_boxes))]
    blocks = [
        text(f"{int((labels == 1).sum())} of {len(labels)} proposals have an object"),
        figure(key, size, layers),
        table(["object", "proposals"], counts, groups=range(len(counts))),
    ]
    return [*blocks, histogram(quality, "IoU with the nearest object")] if len(quality) else blocks


def roi_sample(page: PageData, event: Event) -> list[Block]:
    """The sampled proposals, by class."""
    indices, classes = whole(event["indices"]), whole(event["classes"])
    foreground = whole(event["foreground"])
    before = [e for e in page.trace.all("roi.assign") if e.image == event.image]
    names = [page.class_name(int(c)) for c in classes]
    counts: dict[str, int] = {}
    for name, has in zip(names, foreground.tolist(), strict=True):
        name = name if has else "background"
        counts[name] = counts.get(name, 0) + 1
    rows = [[name, n] for name, n in sorted(counts.items(), key=lambda item: -item[1])]
    blocks = [text(f"{len(indices)} sampled, {int(foreground.sum())} foreground")]
    if before:
        boxes_ = whole(before[0]["proposals"])[indices]
        key, size = page.resized(event.image)
        layers = []
        for name, mask, color in (("foreground", foreground, 2), ("background", ~foreground, 0)):
            own = mask.nonzero().squeeze(1).tolist()
            labels = [
                f"proposal {int(indices[i])}: {names[i] if mask is foreground else name}"
                for i in own
            ]
            layers.append(box_layer(name, boxes_[own], labels, color=color, on=mask is foreground))
        blocks.append(figure(key, size, layers))
    return [*blocks, table(["class", "proposals"], rows)]


def roi_levels(page: PageData, event: Event) -> list[Block]:
    """Regions coloured by the level they take their features from."""
    rois, levels = whole(event["boxes"]), whole(event["levels"])
    own = rois[:, 0] == 0
    rois, levels = rois[own][:, 1:], levels[own]
    key, size = page.resized()
    layers, rows = [], []
    for level in range(int(levels.max()) + 1 if len(levels) else 0):
        index = (levels == level).nonzero().squeeze(1)
        part = rois[index]
        root = (part[:, 2:] - part[:, :2]).clamp(min=0).prod(dim=1).sqrt()
        span = f"{float(root.min()):.0f} to {float(root.max()):.0f}" if len(root) else ""
        rows.append([f"pooler level {level}", len(index), span])
        names = [
            f"region {i}: level {level}, root of area {s:.0f}"
            for i, s in zip(index.tolist(), root.tolist(), strict=True)
        ]
        layers.append(box_layer(f"level {level}", part, names, color=level, most=60))
    head = ["level", "regions", "root of the area, pixels"]
    return [figure(key, size, layers, "At most 60 regions of a level"), table(head, rows)]


def roi_pool(page: PageData, event: Event) -> list[Block]:
    """The crops that the regions cover, and the features that came out."""
    pooled = whole(event["features"])
    if len(pooled) == 0:
        return [text("no region")]
    blocks: list[Block] = []
    before = page.trace.all("roi.levels")
    count = min(CROPS, len(pooled))
    columns = 8
    if before:
        rois, levels = whole(before[-1]["boxes"])[:count], whole(before[-1]["levels"])
        rois, first = rois[:, 1:], rois[:, 0] == 0
        rois = rois[first]
        count = len(rois)
        key, _ = page.resized()
        sheet, places = contact_sheet(page.array(key), rois, columns=columns)
        name = f"crops {len(page.images)}"
        size = page.add_image(name, sheet)
        labels = [f"region {i}: level {int(levels[i])}" for i in range(count)]
        layers = [box_layer("regions", places, labels, color=0)]
        caption = f"Pixels below the first {count} of {len(levels)} regions, foreground first"
        blocks.append(figure(name, size, layers, caption))
    strength = pooled[:count].float().nan_to_num().abs().mean(dim=1)  # (count, S, S)
    tiles = [np.kron(heat_image(tile), np.ones((4, 4, 1), np.uint8)) for tile in strength]
    height, width = tiles[0].shape[:2] if tiles else (1, 1)
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((max(rows, 1) * (height + 4), columns * (width + 4), 3), 128, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (height + 4), i % columns * (width + 4)
        canvas[y : y + height, x : x + width] = tile
    name = f"pooled {len(page.images)}"
    size = page.add_image(name, canvas)
    blocks.append(figure(name, size, [], "Mean absolute features of the same regions"))
    return blocks


def roi_head(page: PageData, event: Event) -> list[Block]:
    """Scores and deltas as histograms, and the classes that win."""
    scores = whole(event["scores"]).float()
    blocks: list[Block] = []
    if len(scores):
        winners = scores.argmax(dim=1)
        background = scores.shape[1] - 1
        counts = torch.bincount(winners, minlength=scores.shape[1])
        order = counts.argsort(descending=True)[:10].tolist()
        rows: list[list[Any]] = [
            ["background" if c == background else page.class_name(c), int(counts[c])]
            for c in order
            if counts[c]
        ]
        blocks.append(table(["highest logit", "regions"], rows, "Classes that win"))
        blocks += [histogram(scores, "logits"), histogram(whole(event["deltas"]), "deltas")]
    return blocks


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
            best = f"IoU {float(iou[i, m]):.2f} with object {m}, {page.class_name(gt_classes[m])}"
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
    head = ["#", "class", "score", "x1", "y1", "x2", "y2", "nearest object"]
    note = f"{len(rows)} detections, {len(gt_boxes)} objects"
    return [
        figure(key, size, layers, note),
        table(head, table_rows[:100], "Detections", groups=range(min(len(rows), 100))),
    ]
