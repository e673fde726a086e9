"""The same five pictures in every layout: what labeling tools write.

Image n (0..4) is 60 x 40 pixels (n even) or 40 x 60; it has a "cat" at 5, 5, 25, 20 and, if n is
odd, a "dog" at 10, 20, 30, 35 (continuous pixels, x1, y1, x2, y2). Image 4 has no box.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ["cat", "dog"]
CAT, DOG = (5.0, 5.0, 25.0, 20.0), (10.0, 20.0, 30.0, 35.0)
COUNT = 5


def size_of(n: int) -> tuple[int, int]:
    """Return (width, height) of image `n`."""
    return (60, 40) if n % 2 == 0 else (40, 60)


def boxes_of(n: int) -> list[tuple[str, tuple[float, ...]]]:
    """Return the objects of image `n`: class and corners."""
    if n == 4:
        return []
    return [("cat", CAT), ("dog", DOG)] if n % 2 else [("cat", CAT)]


def picture(path: Path, n: int = 0, **options: Any) -> Path:
    """Write image `n`, random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size_of(n)
    pixels = np.random.default_rng(n).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def pictures(folder: Path, numbers: Iterable[int] = range(COUNT), suffix: str = ".jpg") -> None:
    """Write images ``img_0.jpg`` ..."""
    for n in numbers:
        picture(folder / f"img_{n}{suffix}", n)


def coco(
    path: Path,
    numbers: Iterable[int] = range(COUNT),
    classes: Sequence[str] = CLASSES,
    prefix: str = "",
    first_id: int = 1,
) -> Path:
    """Write a COCO file of images `numbers`; names begin with `prefix`."""
    images, annotations = [], []
    ids = {name: k + first_id for k, name in enumerate(classes)}
    for n in numbers:
        width, height = size_of(n)
        images.append(
            {"id": n + 10, "file_name": f"{prefix}img_{n}.jpg", "width": width, "height": height}
        )
        for name, (x1, y1, x2, y2) in boxes_of(n):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": n + 10,
                    "category_id": ids[name],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


def voc_xml(n: int, filename: str, extra: str = "", size: bool = True) -> str:
    """Return the XML of image `n`; VOC counts pixels from 1."""
    width, height = size_of(n)
    objects = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>0</difficult><bndbox><xmin>{x1 + 1:g}</xmin><ymin>{y1 + 1:g}</ymin>"
        f"<xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in boxes_of(n)
    )
    sizes = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return (
        f"<annotation><folder>x</folder><filename>{filename}</filename>"
        f"{sizes if size else ''}<segmented>0</segmented>{objects}{extra}</annotation>"
    )


def voc(folder: Path, numbers: Iterable[int] = range(COUNT), suffix: str = ".jpg") -> None:
    """Write one XML file for each image into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (folder / f"img_{n}.xml").write_text(voc_xml(n, f"img_{n}{suffix}"))


def yolo_labels(folder: Path, numbers: Iterable[int] = range(COUNT)) -> None:
    """Write one text file for each image with objects into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        width, height = size_of(n)
        lines = [
            f"{CLASSES.index(name)} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
            f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}"
            for name, (x1, y1, x2, y2) in boxes_of(n)
        ]
        if lines:
            (folder / f"img_{n}.txt").write_text("\n".join(lines) + "\n")
