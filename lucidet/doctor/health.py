"""The health check of hotcoco, as findings."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterable
from typing import Any

import hotcoco

from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.material import Split
from lucidet.doctor.rules import NOTE

__all__ = ["check_health"]

#: hotcoco's code -> code here and message
_CODES = {
    "duplicate_image_id": ("duplicate-image-id", "{n} image ids are given more than once"),
    "duplicate_ann_id": ("duplicate-annotation-id", "{n} annotation ids are given more than once"),
    "duplicate_category_id": ("duplicate-category-id", "{n} category ids are given more than once"),
    "orphan_image_id": ("unknown-image-id", "{n} annotations are of images that are not listed"),
    "orphan_category_id": (
        "unknown-category-id",
        "{n} annotations are of categories that are not listed",
    ),
    "zero_dimensions": ("image-size-zero", "{n} images have a width or height of 0"),
    "missing_geometry": ("annotation-malformed", "{n} annotations have neither box nor mask"),
    "degenerate_bbox": ("box-degenerate", "{n} boxes have no area"),
    "extreme_aspect_ratio": ("box-thin", "{n} boxes are longer than 20 times their width"),
}
#: of images, not of annotations
_OF_IMAGES = ("duplicate_image_id", "zero_dimensions")
#: without a place in an image
_OF_CATEGORIES = ("duplicate_category_id",)
IMBALANCE = 100
RARE = 10


def check_health(split: Split, known: Collection[str] = ()) -> list[Finding]:
    """Return what hotcoco's ``healthcheck`` says of a split's annotations.

    Codes that are `known`, as reading the split found them already, are not looked at.

    The file is checked as it is where hotcoco reads it (ids must be whole numbers); else, and for
    other formats, what lucidet has read.
    """
    content: Any = str(split.json_file) if split.json_file else None
    own_ids = True
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            found = hotcoco.COCO(content).healthcheck() if content else None
        except (ValueError, TypeError, OSError):
            found = None
        # without ids all annotations have the id 0 there; the reader accepts that
        accepted = not split.repaired and found and _has(found, "duplicate_ann_id")
        if found is None or accepted:
            found, own_ids = hotcoco.COCO(_as_coco(split)).healthcheck(), False
    findings = [
        _finding(entry, split, own_ids)
        for entry in [*found["errors"], *found["warnings"]]
        if entry["code"] in _CODES and _CODES[entry["code"]][0] not in known
    ]
    return [*findings, *_class_findings(split)]


def _has(found: dict[str, Any], code: str) -> bool:
    return any(entry["code"] == code for entry in found["errors"])


def _as_coco(split: Split) -> dict[str, Any]:
    """Return a split in COCO's layout; ids are positions + 1."""
    table = split.boxes
    sizes = table.xyxy[:, 2:] - table.xyxy[:, :2]
    rows = zip(
        table.image.tolist(),
        table.category.tolist(),
        table.xyxy[:, :2].tolist(),
        sizes.tolist(),
        table.crowd.tolist(),
        strict=True,
    )
    return {
        "images": [
            {"id": i + 1, "file_name": str(r["file_name"]), "width": int(w), "height": int(h)}
            for i, (r, (w, h)) in enumerate(zip(split.records, split.sizes, strict=True))
        ],
        "annotations": [
            {
                "id": number + 1,
                "image_id": image + 1,
                "category_id": category + 1,
                "bbox": [*corner, *size],
                "area": size[0] * size[1],
                "iscrowd": int(crowd),
            }
            for number, (image, category, corner, size, crowd) in enumerate(rows)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(split.classes)],
    }


def _finding(entry: dict[str, Any], split: Split, own_ids: bool) -> Finding:
    code, message = _CODES[entry["code"]]
    ids = entry["affected_ids"]
    file = str(split.json_file or split.name)
    if entry["code"] in _OF_CATEGORIES:
        cases = [Case(file, split.role, text=f"category {i}") for i in ids]
    elif entry["code"] in _OF_IMAGES:
        place = _positions([r.get("image_id") for r in split.records], own_ids)
        cases = [
            split.case(place[i]) if i in place else Case(file, split.role, image_id=i) for i in ids
        ]
    else:
        table = split.boxes
        row_of = _positions(split.annotation_ids if own_ids else table.image, own_ids)
        cases = [
            split.case(int(table.image[row_of[i]]), rows=[row_of[i]])
            if i in row_of
            else Case(file, split.role, annotation_id=i)
            for i in ids
        ]
    return finding(code, f"{split.role}: {message}", cases)


def _positions(ids: Iterable[Any], own_ids: bool) -> dict[Any, int]:
    """Return id -> position; without ids of the file it is position + 1."""
    return {(i if own_ids else position + 1): position for position, i in enumerate(ids)}


def _class_findings(split: Split) -> list[Finding]:
    """Return findings about the frequency of the classes."""
    counts, file = split.per_class, str(split.json_file or split.name)
    if not counts.sum():
        return []

    def cases(chosen: list[int]) -> list[Case]:
        return [
            Case(file, split.role, text=f"{split.classes[k]}: {counts[k]} boxes") for k in chosen
        ]

    train = split.role.startswith("train")
    ranks = counts.argsort(kind="stable").tolist()
    empty = [k for k in ranks if counts[k] == 0]
    rare = [k for k in ranks if 0 < counts[k] < RARE]
    findings = []
    if empty:
        text = f"{split.role}: {{n}} of {len(counts)} classes have no box"
        findings.append(finding("class-empty", text, cases(empty), severity="" if train else NOTE))
    if rare and train:
        text = f"{split.role}: {{n}} of {len(counts)} classes have less than {RARE} boxes"
        findings.append(finding("class-rare", text, cases(rare)))
    present = [k for k in ranks if counts[k]]
    ratio = counts[present[-1]] / counts[present[0]]
    if ratio >= IMBALANCE and train:
        most, least = split.classes[present[-1]], split.classes[present[0]]
        text = f"{split.role}: {most!r} has {ratio:.0f} times as many boxes as {least!r}"
        findings.append(finding("class-imbalance", text, cases([present[0], present[-1]]), count=1))
    return findings
