"""Pictures of regions of interest: assignment, sampling, levels and pooled features."""

from __future__ import annotations

import math

import numpy as np

from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, box_layer, figure, table, text
from lucidet.pages.charts import histogram
from lucidet.pages.images import contact_sheet, heat_image

#: regions shown as crops
CROPS = 40


def roi_assign(page: PageData, event: Event) -> list[Block]:
    """Proposals matched to a ground-truth box, and the best of the others."""
    proposals, labels = whole(event["proposals"]), whole(event["labels"]).long()
    matched, quality = whole(event["matched_idxs"]).long(), whole(event["quality"])
    key, size = page.resized(event.image)
    layers = []
    for name, label, color in (("foreground", 1, 2), ("background", 0, 0), ("ignored", -1, 5)):
        rows = (labels == label).nonzero().squeeze(1)
        rows = rows[quality[rows].argsort(descending=True)][:150]
        names = [
            f"proposal {r}: {name}, IoU {float(quality[r]):.2f}"
            + (f" with box {int(matched[r])}" if label == 1 else "")
            for r in rows.tolist()
        ]
        groups = [int(matched[r]) if label == 1 else -1 for r in rows.tolist()]
        layer = box_layer(name, proposals[rows], names, color=color, groups=groups, on=label == 1)
        layers.append(layer)
    gt_boxes = whole(event["gt_boxes"])
    layers.append(page.objects_layer(gt_boxes, page.gt_classes(event)))
    counts = [[str(m), int(((labels == 1) & (matched == m)).sum())] for m in range(len(gt_boxes))]
    blocks = [
        text(
            f"{int((labels == 1).sum())} of {len(labels)} proposals are matched to a "
            "ground-truth box"
        ),
        figure(key, size, layers),
        table(["box", "proposals"], counts, groups=range(len(counts)), follow=True),
    ]
    return (
        [*blocks, histogram(quality, "IoU with the nearest ground-truth box")]
        if len(quality)
        else blocks
    )


def roi_sample(page: PageData, event: Event) -> list[Block]:
    """The sampled proposals, by class."""
    indices, classes = whole(event["indices"]), whole(event["classes"])
    foreground = whole(event["foreground"])
    before = [e for e in page.trace.all("roi.assign") if e.image == event.image]
    names = [page.own_class_name(int(c)) for c in classes]
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
    """Regions colored by the level they take their features from."""
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
