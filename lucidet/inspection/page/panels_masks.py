"""Pictures of masks and keypoints: targets, what the heads compute, results on the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, box_layer, figure, table, text
from lucidet.pages.images import contact_sheet, heat_image

#: boxes shown with crop, target and prediction
SHOWN = 24
#: pixels of one tile a side, and tiles in a row
SIDE, COLUMNS = 72, 8
#: half the side of the square that marks a keypoint, pixels
_MARK = 2.0
#: colors of pasted masks, RGB
_COLORS = np.array(
    [[230, 60, 60], [60, 120, 230], [60, 180, 90], [230, 160, 40], [150, 80, 200], [40, 180, 190]]
)


def mask_targets(page: PageData, event: Event) -> list[Block]:
    """The crop of each proposal, its target and the predicted probabilities."""
    boxes, targets = whole(event["boxes"]), whole(event["targets"]).float()  # may be soft
    probabilities = whole(event["logits"]).sigmoid()
    names = [page.own_class_name(int(k)) for k in whole(event["classes"])]
    if len(boxes) == 0:
        return [text("no foreground proposal")]
    wrong = ((probabilities > 0.5) != (targets >= 0.5)).float().mean(dim=(1, 2))
    rows = [
        [str(i), names[i], f"{float(targets[i].mean()):.0%}", f"{float(wrong[i]):.0%}"]
        for i in range(len(boxes))
    ]
    head = ["proposal", "class", "covered by the mask", "wrong locations"]
    return [
        *_crops(page, event, boxes, names),
        _tiles(page, list(targets[:SHOWN]), "Targets of the same proposals", "targets"),
        _tiles(page, list(probabilities[:SHOWN]), "Predicted probabilities", "masks"),
        table(head, rows[:100], folded=len(rows) > 20),
    ]


def mask_head(page: PageData, event: Event) -> list[Block]:
    """The crop of each detection and the probabilities inside."""
    boxes, masks = whole(event["boxes"]), whole(event["masks"])
    names = [page.own_class_name(int(k)) for k in whole(event["classes"])]
    if len(boxes) == 0:
        return [text("no detection")]
    tiles = _tiles(page, list(masks[:SHOWN]), "Probabilities of the same detections", "masks")
    return [*_crops(page, event, boxes, names), tiles]


def pasted_masks(page: PageData, event: Event) -> list[Block]:
    """The masks in color over the original image."""
    masks, boxes = whole(event["masks"]), whole(event["boxes"])
    key, size = page.original()
    image = page.array(key).astype(np.float32)
    labels, rows = [], []
    for i, mask in enumerate(masks):
        own = mask.numpy()
        if own.shape != image.shape[:2]:
            return [text("the masks are not of the size of the image")]
        image[own] = 0.5 * image[own] + 0.5 * _COLORS[i % len(_COLORS)]
        name = page.class_name(int(event["classes"][i]))
        labels.append(f"{i}: {name} {float(event['scores'][i]):.2f}, {int(own.sum()):,} pixels")
        rows.append([str(i), name, float(event["scores"][i]), int(own.sum())])
    name = f"masks {len(page.images)}"
    size = page.add_image(name, image.astype(np.uint8))
    layer = box_layer("detections", boxes[: len(masks)], labels, groups=range(len(masks)))
    head = ["#", "class", "score", "pixels"]
    return [
        figure(name, size, [layer], f"Masks of the first {len(masks)} detections"),
        table(head, rows, groups=range(len(rows))),
    ]


def keypoint_targets(page: PageData, event: Event) -> list[Block]:
    """Keypoints on the image, and the heat maps of a proposal with the target's place."""
    boxes, valid = whole(event["boxes"]), whole(event["valid"])
    key, size = page.resized(event.image)
    if len(boxes) == 0:
        return [text("no proposal with a visible keypoint")]
    keypoints = whole(event["keypoints"])
    marks = [
        _marks(f"proposal {i}", keypoints[i], valid[i], i, i == 0)
        for i in range(min(len(boxes), SHOWN))
    ]
    labels = [f"proposal {i}: {int(valid[i].sum())} keypoints" for i in range(len(boxes))]
    layers = [box_layer("proposals", boxes, labels, color=7, on=True), *marks]
    maps = whole(event["logits"])[0].flatten(1).softmax(dim=1).view_as(whole(event["logits"])[0])
    return [
        text(f"{int(valid.sum())} visible keypoints in {len(boxes)} proposals"),
        figure(key, size, layers, "Keypoints of each proposal"),
        _tiles(page, list(maps), "Heat maps of proposal 0, a keypoint each", "heat"),
    ]


def keypoint_head(page: PageData, event: Event) -> list[Block]:
    """Keypoints on the resized image, and the heat maps of the first detection."""
    key, size = page.resized(event.image)
    blocks = _found_keypoints(page, event, key, size)
    logits = whole(event["logits"])
    if len(logits):
        maps = logits[0].flatten(1).softmax(dim=1).view_as(logits[0])
        blocks.append(_tiles(page, list(maps), "Heat maps of detection 0", "heat"))
    return blocks


def final_keypoints(page: PageData, event: Event) -> list[Block]:
    """Keypoints on the original image."""
    return _found_keypoints(page, event, *page.original())


def _found_keypoints(page: PageData, event: Event, key: str, size: tuple[int, int]) -> list[Block]:
    boxes, keypoints = whole(event["boxes"]), whole(event["keypoints"])
    if len(boxes) == 0:
        return [text("no detection")]
    layers = [
        _marks(f"detection {i}", own, torch.ones(len(own), dtype=torch.bool), i, i == 0)
        for i, own in enumerate(keypoints[:SHOWN])
    ]
    labels = [f"detection {i}" for i in range(len(boxes))]
    return [figure(key, size, [box_layer("boxes", boxes, labels, color=7), *layers])]


def _marks(name: str, keypoints: Tensor, shown: Tensor, color: int, on: bool) -> Block:
    """Return a layer of small squares at the keypoints (J, 3)."""
    rows = shown.nonzero().squeeze(1).tolist()
    places = keypoints[rows, :2]
    squares = torch.cat([places - _MARK, places + _MARK], dim=1)
    labels = [f"{name}: keypoint {j}, {float(keypoints[j, 2]):.2f}" for j in rows]
    return box_layer(name, squares, labels, color=color, on=on)


def _crops(page: PageData, event: Event, boxes: Tensor, names: Sequence[str]) -> list[Block]:
    """Return the pixels below the first boxes, side by side."""
    key, _ = page.resized(event.image)
    sheet, places = contact_sheet(page.array(key), boxes[:SHOWN], side=SIDE, columns=COLUMNS)
    name = f"mask crops {len(page.images)}"
    size = page.add_image(name, sheet)
    labels = [f"{i}: {own}" for i, own in enumerate(names[:SHOWN])]
    layers = [box_layer("boxes", places, labels, color=0)]
    return [figure(name, size, layers, f"Pixels below the first {len(places)} boxes")]


def _tiles(page: PageData, maps: Sequence[Tensor], caption: str, key: str) -> Block:
    """Return maps (s, s) side by side, as large as the crops."""
    rows = max(1, math.ceil(len(maps) / COLUMNS))
    canvas = np.full((rows * SIDE, COLUMNS * SIDE, 3), 128, np.uint8)
    inner = SIDE - 4
    for i, values in enumerate(maps):
        tile = heat_image(values)
        places = np.arange(inner) * len(tile) // inner
        y, x = i // COLUMNS * SIDE + 2, i % COLUMNS * SIDE + 2
        canvas[y : y + inner, x : x + inner] = tile[places][:, places]
    name = f"{key} {len(page.images)}"
    return figure(name, page.add_image(name, canvas), [], caption)
