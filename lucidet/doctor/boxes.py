"""Boxes that cannot be right, or that a detector will hardly learn."""

# N images, M ground-truth boxes

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lucidet.config import CfgNode
from lucidet.doctor.findings import Finding, finding
from lucidet.doctor.material import Split
from lucidet.doctor.rules import NOTE
from lucidet.engine.recipe.facts import resize_scale

__all__ = ["SMALLEST", "check_boxes", "contradictory_pairs", "doubled_rows", "sizes_of_input"]

#: root of the area after resizing, pixels
SMALLEST = 8.0
#: this share of too small boxes is worth a warning
MANY = 0.05
HUGE = 0.9  # of the image's area
THIN = 2.0  # pixels of the file
AT_BORDER = 0.5  # pixels
#: two boxes of one image are the same from this IoU on
SAME_CLASS, OTHER_CLASS = 0.95, 0.9
#: (shorter, longer) side of images where no config says
USUAL_SIZE = (800, 1333)


def check_boxes(split: Split, cfg: CfgNode | None) -> list[Finding]:
    """Return findings about the sizes and places of a split's boxes."""
    table = split.boxes
    if not len(table.xyxy):
        return []
    sides = table.xyxy[:, 2:] - table.xyxy[:, :2]  # (M, 2)
    image = split.sizes[table.image]  # (M, 2)
    known, single = (image > 0).all(axis=1), ~table.crowd
    findings = []

    def add(code: str, message: str, rows: np.ndarray, severity: str = "") -> None:
        if not rows.any():
            return
        cases = [
            split.case(int(table.image[r]), _size(sides[r]), [r])
            for r in np.flatnonzero(rows).tolist()
        ]
        findings.append(finding(code, f"{split.role}: {{n}} {message}", cases, severity=severity))

    at_border = (table.xyxy[:, :2] <= AT_BORDER).any(axis=1)
    at_border |= (table.xyxy[:, 2:] >= image - AT_BORDER).any(axis=1)
    share = float((at_border & known & single).sum() / max(1, single.sum()))
    add(
        "box-at-border",
        f"boxes at the border of their image ({share:.0%})",
        at_border & known & single,
    )
    add("box-thin", "boxes are under 2 pixels wide or high", (sides.min(axis=1) < THIN) & single)
    area = sides.prod(axis=1)
    huge = known & single & (area >= HUGE * image.prod(axis=1))
    add("box-huge", f"boxes have {HUGE:.0%} of their image's area or more", huge)
    shortest, longest = sizes_of_input(cfg, split.role)
    scale = np.where(known, resize_scale(np.maximum(image, 1), shortest, longest), 1.0)
    tiny = single & (np.sqrt(np.maximum(area, 0)) * scale < SMALLEST)
    few = tiny.sum() < MANY * single.sum()
    add(
        "box-tiny",
        f"boxes are below {SMALLEST:g} pixels after resizing to {shortest} x {longest} "
        f"({tiny.sum() / max(1, single.sum()):.1%})",
        tiny,
        NOTE if few else "",
    )
    findings += _pairs(split)
    return findings


def sizes_of_input(cfg: CfgNode | None, role: str) -> tuple[int, int]:
    """Return the shorter and the bound of the longer side that images are resized to, pixels."""
    if cfg is None:
        return USUAL_SIZE
    if role.startswith("train"):
        return max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
    return cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST


def contradictory_pairs(split: Split) -> list[tuple[int, int]]:
    """Return rows of boxes that are the same, with different classes."""
    category = split.boxes.category
    pairs = _overlapping(split, OTHER_CLASS)
    return [(a, b) for a, b in pairs if category[a] != category[b]]


def doubled_rows(split: Split) -> list[tuple[int, int]]:
    """Return rows of boxes that are the same, with one class; the second is the one too many."""
    category = split.boxes.category
    pairs = _overlapping(split, SAME_CLASS)
    return [(a, b) for a, b in pairs if category[a] == category[b]]


def _pairs(split: Split) -> list[Finding]:
    table, names = split.boxes, split.classes
    findings = []
    for code, pairs, text in (
        ("box-doubled", doubled_rows(split), f"{SAME_CLASS} or more and one class"),
        (
            "box-contradictory",
            contradictory_pairs(split),
            f"{OTHER_CLASS} or more and two classes",
        ),
    ):
        cases = [
            split.case(
                int(table.image[a]),
                f"{names[table.category[b]]}, and {names[table.category[a]]} as annotation "
                f"{split.annotation_ids[a]}",
                [b, a],
            )
            for a, b in pairs
        ]
        if cases:
            message = f"{split.role}: {{n}} pairs of boxes with an IoU of {text}"
            findings.append(finding(code, message, cases))
    return findings


def _overlapping(split: Split, threshold: float) -> Iterator[tuple[int, int]]:
    """Yield rows a < b of boxes of one image with an IoU of at least `threshold`, not crowds."""
    table = split.boxes
    rows = np.flatnonzero(~table.crowd)
    cuts = np.flatnonzero(np.diff(table.image[rows])) + 1
    for own in np.split(rows, cuts):
        if len(own) < 2:
            continue
        iou = pairwise(table.xyxy[own])
        first, second = np.nonzero(np.triu(iou >= threshold, 1))
        yield from zip(own[first].tolist(), own[second].tolist(), strict=True)


def pairwise(boxes: np.ndarray) -> np.ndarray:
    """Return the IoUs (m, m) of boxes (m, 4) with each other."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area[:, None] + area[None] - overlap
    return overlap / np.maximum(union, 1e-9)


def _size(sides: np.ndarray) -> str:
    return f"{sides[0]:.4g} x {sides[1]:.4g} pixels"
