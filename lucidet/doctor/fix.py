"""A copy of the data without what can be repaired; the original is only read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lucidet.data.image_io import image_orientation, image_size, read_image
from lucidet.data.specification.convert import write_coco
from lucidet.data.specification.datasets import Dataset, Part
from lucidet.data.specification.parse import Item
from lucidet.data.specification.reading import Reading, SpecificationError
from lucidet.data.specification.reading import Report as ReadingReport
from lucidet.doctor.boxes import doubled_rows
from lucidet.doctor.findings import Report
from lucidet.doctor.material import Material, Split
from lucidet.structures import BoxMode

__all__ = ["write_fixed"]

#: aspect ratios of an image and of its annotations' size that are the same one
SAME_RATIO = 0.01
_UNUSABLE = ("image-missing", "image-unreadable")


def write_fixed(material: Material, report: Report, out: Path) -> list[str]:
    """Write the splits as COCO files with their images, repaired; return what was done.

    Left out: images that cannot be read, repeated ones, those of the training split that another
    split has too, boxes without area or that occur twice. Changed: boxes are clipped to their
    image, and scaled where the file has another resolution than the annotations; images that EXIF
    turns are saved upright; every split numbers the classes as the training split does.

    Raises:
        SpecificationError: `out` is there and not empty, or no data could be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SpecificationError(f"--fix {out} is there already; name a new folder")
    if not material.splits:
        raise SpecificationError("--fix: the data could not be read, so there is nothing to copy")
    done: Counter[str] = Counter()
    leaving = _images_to_leave_out(material, report)
    base = material.train or material.splits[0]
    datasets, roles = [], set()
    for split in material.splits:
        records = list(_records(split, leaving.get(split.role, set()), done))
        if records and split.role not in roles:
            roles.add(split.role)
            datasets.append(_dataset(split, records, base))
    if not datasets:
        raise SpecificationError("--fix: no image is left")
    files, _ = write_coco(datasets, out, copy=True)
    done["images saved upright"] = sum(_turn(path) for path in _images(out))
    lines = [f"  {number:,} {what}" for what, number in done.items() if number]
    written = ", ".join(str(file) for file in files)
    return [f"{out}: a repaired copy ({written}); use it as --data {out}", *lines]


def _images_to_leave_out(material: Material, report: Report) -> dict[str, set[str]]:
    """Return role -> files."""
    leaving: dict[str, set[str]] = {split.role: set() for split in material.splits}
    train = material.train
    for one in report.findings:
        for case in one.cases:
            if one.code in _UNUSABLE or one.code == "duplicate-exact":
                leaving.setdefault(case.split, set()).add(case.file)
            elif one.code == "leak-file" and train is not None:
                leaving[train.role].add(case.file)
            elif one.code in ("leak-exact", "leak-near"):
                for role in leaving.keys() - {case.split}:
                    leaving[role].add(case.other)
    return leaving


def _records(split: Split, leaving: set[str], done: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the repaired records; boxes become XYXY."""
    twice = {second for _, second in doubled_rows(split)}
    row = 0
    for position, record in enumerate(split.records):
        entries = record.get("annotations", ())
        rows, row = range(row, row + len(entries)), row + len(entries)
        size = None if record["file_name"] in leaving else image_size(record["file_name"])
        factor = _factor(split.sizes[position], size)
        if size is None or factor is None:
            done["images left out"] += 1
            continue
        width, height = size
        done["images with a corrected size"] += factor != 1.0
        kept = []
        for number, entry in zip(rows, entries, strict=True):
            box = split.boxes.xyxy[number] * factor
            clipped = box.clip(0, [width, height, width, height])
            if number in twice or (clipped[2:] <= clipped[:2]).any():
                done["boxes left out"] += 1
                continue
            done["boxes clipped"] += bool(np.abs(clipped - box).max() > 0.01)
            changed = {"bbox": clipped.tolist(), "bbox_mode": BoxMode.XYXY_ABS}
            entry = {**entry, **changed}
            if factor != 1.0 or (clipped != box).any():
                entry.pop("area", None)
            kept.append(entry)
        yield {**record, "width": width, "height": height, "annotations": kept}


def _factor(said: np.ndarray, size: tuple[int, int] | None) -> float | None:
    """Return what boxes are scaled by to fit the file; None where no scale does."""
    if size is None:
        return None
    if min(said) <= 0 or tuple(said.astype(int)) == size:
        return 1.0
    across, down = size[0] / said[0], size[1] / said[1]
    return float((across + down) / 2) if abs(across / down - 1) <= SAME_RATIO else None


def _dataset(split: Split, records: list[dict[str, Any]], base: Split) -> Dataset:
    order = {name: k for k, name in enumerate(split.classes)}
    ids = {i: order[name] for name, i in base.category_ids.items() if name in order}
    complete = len(ids) == len(split.classes) and all(isinstance(i, int) for i in ids)
    reading = Reading(
        list(split.classes), records, True, ReadingReport(), dict(ids) if complete else None
    )
    part = Part(Item(None, name=split.name), reading)
    return Dataset(split.name, split.role, list(split.classes), [part])


def _images(out: Path) -> Iterator[Path]:
    for folder in sorted(out.iterdir()):
        if folder.is_dir() and folder.name != "annotations":
            yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _turn(path: Path) -> bool:
    """Save a copied image upright, without its EXIF; return whether it was turned."""
    if image_orientation(path) == 1:
        return False
    image = Image.fromarray(np.ascontiguousarray(read_image(path, format="RGB")))
    if path.suffix.lower() in (".jpg", ".jpeg"):
        image.save(path, quality=95, subsampling=0)
    else:
        image.save(path)
    return True
