"""AP by what is in an image: how many ground-truth boxes, and how much they overlap."""

# N images, G ground-truth boxes

from __future__ import annotations

from typing import Any

import numpy as np

from lucidet.analysis.judged import Judged
from lucidet.evaluation.coco_ap import CocoTruth

__all__ = ["ap_of_groups", "ap_of_sizes", "by_count", "by_overlap"]

#: highest IoU of two ground-truth boxes of an image -> name
_OVERLAPS = ((0.1, "apart (IoU below 0.1)"), (0.5, "touching (0.1 to 0.5)"))
_HEAVY = "overlapping (0.5 or more)"


def ap_of_sizes(judged: Judged) -> list[dict[str, Any]]:
    """Return AP, AP50 and the number of boxes for small, medium and large objects."""
    area = judged.truth.area[~judged.truth.crowd]
    parts = {
        "small": ("below 32² pixels", area < 32**2),
        "medium": ("32² to 96²", (area >= 32**2) & (area < 96**2)),
        "large": ("96² and more", area >= 96**2),
    }
    return [
        {
            "name": f"{size}: {text}",
            "boxes": int(own.sum()),
            "AP": judged.curves.ap(size),
            "AP50": judged.curves.ap(size, iou=0.5),
        }
        for size, (text, own) in parts.items()
    ]


def by_count(truth: CocoTruth) -> dict[str, list[int]]:
    """Return images by their number of ground-truth boxes: up to four groups of similar size."""
    real = truth.image[~truth.crowd]
    counts = np.bincount(real, minlength=len(truth.image_ids))
    occupied = counts[counts > 0]
    if not len(occupied):
        return {}
    edges = np.unique(np.quantile(occupied, [0.25, 0.5, 0.75, 1.0], method="higher"))
    groups: dict[str, list[int]] = {}
    low = 1
    for high in edges.astype(int).tolist():
        name = f"{low} to {high} boxes" if high > low else f"{high} box{'es' * (high > 1)}"
        groups[name] = np.flatnonzero((counts >= low) & (counts <= high)).tolist()
        low = high + 1
    return {name: images for name, images in groups.items() if images}


def by_overlap(truth: CocoTruth) -> dict[str, list[int]]:
    """Return images with two or more ground-truth boxes by the highest IoU of any two."""
    from hotcoco import mask

    real = np.flatnonzero(~truth.crowd)
    real = real[np.argsort(truth.image[real], kind="stable")]
    images, starts = np.unique(truth.image[real], return_index=True)
    groups: dict[str, list[int]] = {name: [] for name in (*(n for _, n in _OVERLAPS), _HEAVY)}
    for image, own in zip(images.tolist(), np.split(real, starts[1:]), strict=False):
        if len(own) < 2:
            continue
        boxes = truth.boxes[own].tolist()
        iou = mask.iou(boxes, boxes, [False] * len(own))
        np.fill_diagonal(iou, 0.0)
        highest = iou.max()
        name = next((name for limit, name in _OVERLAPS if highest < limit), _HEAVY)
        groups[name].append(image)
    return {name: images for name, images in groups.items() if images}


def ap_of_groups(
    judged: Judged, groupings: dict[str, dict[str, list[int]]]
) -> dict[str, list[dict[str, Any]]]:
    """Return AP, AP50, images and boxes of groups of images, as hotcoco accumulates them.

    Args:
        judged: the results.
        groupings: name -> group -> positions of images.
    """
    flat = {(kind, name): own for kind, groups in groupings.items() for name, own in groups.items()}
    keys = {key: str(number) for number, key in enumerate(flat)}
    found = _slices(judged.curves.judge, {keys[key]: own for key, own in flat.items()})
    boxes = np.bincount(judged.truth.image[~judged.truth.crowd], minlength=len(judged.files))
    result: dict[str, list[dict[str, Any]]] = {kind: [] for kind in groupings}
    for (kind, name), images in flat.items():
        numbers = found[keys[kind, name]]
        result[kind].append(
            {
                "name": name,
                "images": len(images),
                "boxes": int(boxes[images].sum()),
                "AP": _percent(numbers["AP"]),
                "AP50": _percent(numbers["AP50"]),
            }
        )
    return result


def _slices(judge: Any, groups: dict[str, list[int]]) -> dict[str, dict[str, float]]:
    """Return hotcoco's numbers of objects of all sizes; without the sizes it takes a quarter."""
    params = judge.params
    kept = params.area_rng, params.area_rng_lbl
    params.area_rng, params.area_rng_lbl = kept[0][:1], kept[1][:1]
    try:
        found: dict[str, dict[str, float]] = judge.slice_by(groups) if groups else {}
    finally:
        params.area_rng, params.area_rng_lbl = kept
    return found


def _percent(value: float) -> float:
    return 100.0 * value if value >= 0 else float("nan")
