"""Say in text what was understood of a dataset: splits, classes, sizes, what was dropped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidet.data.box_report import EXAMPLES
from lucidet.data.detection_utils import annotations_to_xyxy
from lucidet.data.image_io import image_size
from lucidet.data.specification.datasets import Dataset
from lucidet.utils.logger import create_table

# M boxes, K classes

MOST_HEADS = 5000  # images whose size is compared with the annotations'
SMALL, LARGE = 32**2, 96**2  # COCO's limits of area, pixels


@dataclass(frozen=True)
class Counts:
    """What one split holds."""

    images: int
    empty: int
    boxes: int
    crowds: int
    difficult: int
    per_class: list[int]
    sizes: Counter[tuple[int, int]]
    areas: np.ndarray  # (M,) pixels


def count(records: Sequence[dict[str, Any]], num_classes: int) -> Counts:
    """Count the images and boxes of records."""
    per_class = [0] * num_classes
    areas = []
    crowds = difficult = 0
    for record in records:
        boxes = annotations_to_xyxy(record["annotations"])
        areas.append((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
        for entry in record["annotations"]:
            crowds += bool(entry.get("iscrowd"))
            difficult += bool(entry.get("difficult"))
            per_class[entry["category_id"]] += not entry.get("iscrowd")
    joined = np.concatenate(areas) if areas else np.zeros(0)
    return Counts(
        len(records),
        sum(not record["annotations"] for record in records),
        len(joined),
        crowds,
        difficult,
        per_class,
        Counter((r["width"], r["height"]) for r in records),
        joined,
    )


def summary(datasets: Sequence[Dataset], check_images: bool = True) -> str:
    """Return what was understood of the splits of a specification.

    Args:
        datasets: the splits, with one class list.
        check_images: compare each image file's size with its annotations' (reads their heads).
    """
    classes = datasets[0].classes
    records = [dataset.records() for dataset in datasets]
    counts = [count(own, len(classes)) for own in records]
    lines = [
        *_sources(datasets),
        f"{len(classes)} classes: {', '.join(classes)}",
        "",
        _split_table(datasets, counts),
        "",
        create_table(
            ["boxes of class", *(d.split or "all" for d in datasets)],
            [[name, *(c.per_class[k] for c in counts)] for k, name in enumerate(classes)],
        ),
        "",
        *_sizes(counts),
    ]
    findings = _findings(datasets, counts)
    if check_images:
        findings += wrong_sizes([record for own in records for record in own])
    lines += ["", *(findings or ["nothing was dropped or changed"])]
    return "\n".join(lines)


def _sources(datasets: Sequence[Dataset]) -> list[str]:
    found: dict[str, None] = {}
    for dataset in datasets:
        for part in dataset.parts:
            described = part.layout.described if part.layout else "registered dataset"
            found[f"{part.item.source.text}: {described}"] = None
    files = {p.split_file: None for d in datasets for p in d.parts if p.split_file}
    kept = [f"divided into train and val by lucidet, kept in {file}" for file in files]
    return [*found, *kept]


def _split_table(datasets: Sequence[Dataset], counts: Sequence[Counts]) -> str:
    rows = [
        [d.split or "all", c.images, c.empty, c.boxes, c.crowds, c.difficult, d.text]
        for d, c in zip(datasets, counts, strict=True)
    ]
    header = ["split", "images", "without boxes", "boxes", "crowds", "difficult", "specification"]
    return create_table(header, rows)


def _sizes(counts: Sequence[Counts]) -> list[str]:
    sizes: Counter[tuple[int, int]] = sum((c.sizes for c in counts), Counter())
    widths, heights = [w for w, _ in sizes], [h for _, h in sizes]
    if len(sizes) <= EXAMPLES:
        images = ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common())
    else:
        images = (
            f"{min(widths)}..{max(widths)} x {min(heights)}..{max(heights)} pixels, most often "
            + ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common(EXAMPLES))
        )
    areas = np.concatenate([c.areas for c in counts])
    if not len(areas):
        return [f"images: {images}", "boxes: none"]
    sides = np.sqrt(np.percentile(areas, [0, 50, 100]))
    small, large = float((areas < SMALL).mean()), float((areas >= LARGE).mean())
    return [
        f"images: {images}",
        f"boxes: side (root of the area) {sides[0]:.0f} .. {sides[1]:.0f} .. {sides[2]:.0f} pixels "
        f"(smallest, median, largest); {small:.0%} small, {1 - small - large:.0%} medium, "
        f"{large:.0%} large in COCO's terms",
    ]


def _findings(datasets: Sequence[Dataset], counts: Sequence[Counts]) -> list[str]:
    lines: dict[str, None] = {}
    for dataset in datasets:
        for part in dataset.parts:
            lines.update(dict.fromkeys(part.reading.report.lines()))
        lines.update(dict.fromkeys(dataset.report.notes))
    if any(c.difficult for c in counts):
        said = "difficult boxes are trained on, and do not count in an evaluation, as VOC has it"
        lines[said] = None
    classes = datasets[0].classes
    for dataset, own in zip(datasets, counts, strict=True):
        empty = [name for name, number in zip(classes, own.per_class, strict=True) if not number]
        if empty:
            number = f"{len(empty)} class{'es' * (len(empty) > 1)} without a box"
            lines[f"{number} in {dataset.split or 'all'}: {', '.join(empty)}"] = None
    folded = Counter(name.lower() for name in classes)
    alike = [name for name in classes if folded[name.lower()] > 1]
    if alike:
        lines[f"{alike} differ in upper and lower case only; are they the same class?"] = None
    return list(lines)


def wrong_sizes(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence on images whose file has another size than its annotations say."""
    step = max(1, len(records) // MOST_HEADS)
    wrong, broken = [], []
    for record in records[::step]:
        name = os.path.basename(record["file_name"])
        size = image_size(record["file_name"])
        if size is None:
            broken.append(name)
            continue
        width, height = size
        if (width, height) != (record["width"], record["height"]):
            wrong.append(
                f"{name} is {width} x {height}, not {record['width']} x {record['height']}"
            )
    lines = []
    if wrong:
        lines.append(
            f"{len(wrong)} images have another size than their annotations say, and stop a "
            f"training; for example {'; '.join(wrong[:EXAMPLES])}"
        )
    if broken:
        lines.append(
            f"{len(broken)} image files can't be read, and stop a training; for example "
            f"{'; '.join(broken[:EXAMPLES])}"
        )
    if step > 1:
        lines.append(f"image files were checked for every {step}th image only")
    return lines
