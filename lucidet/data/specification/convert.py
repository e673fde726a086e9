"""Write a dataset as COCO JSON, with its images copied or referred to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.data.datasets.coco import coco_shape
from lucidet.data.detection_utils import annotations_to_xyxy
from lucidet.data.specification.datasets import Dataset
from lucidet.data.specification.reading import SpecificationError

# K classes


def write_coco(datasets: Sequence[Dataset], out: Path, copy: bool) -> tuple[list[Path], Path]:
    """Write ``out/annotations/instances_<split>.json`` for each split.

    Args:
        datasets: the splits, with one class list.
        out: folder, made if needed.
        copy: copy the images to ``out/<split>/``; else names are relative to the images' folder.

    Returns:
        the files, and the folder of the images.

    Raises:
        SpecificationError: a file is there already.
    """
    files = []
    root = out if copy else common_folder([r["file_name"] for d in datasets for r in d.records()])
    for dataset in datasets:
        path = out / "annotations" / f"instances_{dataset.split or 'all'}.json"
        if path.exists():
            raise SpecificationError(f"{path} exists already; choose another --out")
        records = dataset.records()
        folder = out / (dataset.split or "all") if copy else root
        source = common_folder([record["file_name"] for record in records])
        names = [Path(os.path.relpath(r["file_name"], source if copy else root)) for r in records]
        if copy:
            for record, name in zip(records, names, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(record["file_name"], folder / name)
        content = coco_content(dataset, [name.as_posix() for name in names])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        files.append(path)
    return files, root


def common_folder(names: Sequence[str]) -> Path:
    """Return the deepest folder that holds all files.

    >>> common_folder(["/a/b/c.jpg", "/a/b/d/e.jpg"]).as_posix()
    '/a/b'
    """
    return Path(os.path.commonpath([os.path.dirname(name) for name in names]))


def coco_content(dataset: Dataset, names: Sequence[str]) -> dict[str, Any]:
    """Return a dataset in COCO's layout.

    Args:
        dataset: its image ids are kept where all are whole numbers, else they are 1, 2 ...
        names: ``file_name`` of each image.
    """
    records = dataset.records()
    keep = all(isinstance(record["image_id"], int) for record in records)
    ids = dataset.metadata().get("thing_dataset_id_to_contiguous_id", {})
    category_ids = {k: i for i, k in ids.items() if isinstance(i, int)}
    if len(category_ids) < len(dataset.classes):
        category_ids = {k: k + 1 for k in range(len(dataset.classes))}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (record, name) in enumerate(zip(records, names, strict=True), 1):
        image_id = record["image_id"] if keep else number
        images.append(
            {
                "id": image_id,
                "file_name": name,
                "width": int(record["width"]),
                "height": int(record["height"]),
            }
        )
        boxes = annotations_to_xyxy(record["annotations"])
        for entry, (x1, y1, x2, y2) in zip(record["annotations"], boxes.tolist(), strict=True):
            shape = coco_shape(entry, images[-1], dataset.name)
            own = shape.pop("area", round((x2 - x1) * (y2 - y1), 3))
            area = entry.get("area")
            written = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": category_ids[entry["category_id"]],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "area": own if area is None else area,
                "iscrowd": int(entry.get("iscrowd", 0)),
            }
            if entry.get("difficult"):
                written["difficult"] = 1
            written |= shape
            annotations.append(written)
    return {
        "info": {"description": f"{dataset.name}, written by lucidet from {dataset.text}"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": category_ids[k], "name": name} for k, name in enumerate(dataset.classes)
        ],
    }
