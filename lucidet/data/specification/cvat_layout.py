"""CVAT for images 1.1: one XML file for all images, with boxes, polygons and other shapes."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data.mask_annotations import MOST_PIXELS
from lucidet.data.segmentation import bitmask_to_rle
from lucidet.data.specification.image_folder import ImageFolder
from lucidet.data.specification.layout import SPLIT_WORDS, WHOLE, Layout
from lucidet.data.specification.reading import (
    Reading,
    Report,
    SpecificationError,
    add_box,
    finished,
    new_record,
)
from lucidet.data.xml_files import read_xml, root_tag

_WITHOUT_BOX = ("polyline", "points", "cuboid", "skeleton", "tag")


def recognize(folder: Path, images: Path | None = None) -> Layout | None:
    """Return the layout of a folder with a CVAT file in it; None if it has none.

    Raises:
        SpecificationError: several CVAT files.
    """
    files = [f for f in sorted(folder.glob("*.xml")) if root_tag(f) == "annotations"]
    if not files:
        return None
    if len(files) > 1:
        parts = ", ".join(f"cvat:{file}" for file in files[:4])
        raise SpecificationError(
            f"{folder} holds {len(files)} CVAT files; name one, or join them: {parts}"
        )
    layout = from_file(files[0], images)
    return layout


def from_file(path: Path, images: Path | None = None) -> Layout:
    """Return the layout of a CVAT file; its subsets are splits, if they are named so.

    Raises:
        SpecificationError: not a CVAT file, or one for videos.
    """
    tree = read_xml(path)
    if tree.tag != "annotations":
        raise SpecificationError(f"{path}: expected <annotations> of CVAT, found <{tree.tag}>")
    if tree.find("track") is not None and tree.find("image") is None:
        raise SpecificationError(
            f"{path} is in CVAT's format for videos; export the task as CVAT for images 1.1"
        )
    folder = images or next((d for d in _image_folders(path) if d.is_dir()), path.parent)
    subsets = {(node.get("subset") or "").strip() for node in tree.findall("image")}
    named = {SPLIT_WORDS[s.lower()]: s for s in subsets if s.lower() in SPLIT_WORDS}
    splits: dict[str, Callable[[], Reading]] = {
        split: partial(read, path, folder, subset) for split, subset in named.items()
    }
    if len(named) < len(subsets) or not splits:
        splits = {WHOLE: partial(read, path, folder)}
    return Layout("cvat", path, "CVAT XML for images", splits, images)


def _image_folders(path: Path) -> list[Path]:
    return [path.parent / name for name in ("images", "data", path.stem)]


def read(path: Path, folder: Path, subset: str | None = None) -> Reading:
    """Read a CVAT file.

    Args:
        path: the file.
        folder: of its images.
        subset: only images of this subset.

    A turned box, a polygon, an ellipse and a mask become the upright box around them.
    """
    tree = read_xml(path)
    report = Report(str(path))
    images = ImageFolder(folder)
    records: list[dict[str, Any]] = []
    for node in tree.findall("image"):
        if subset is None or (node.get("subset") or "").strip() == subset:
            record = _read_image(node, images, report, path)
            if record is not None:
                records.append(record)
    declared = [(n.text or "").strip() for n in tree.findall("./meta//labels/label/name")]
    return finished(records, list(dict.fromkeys(name for name in declared if name)), report)


def _read_image(
    node: ElementTree.Element, images: ImageFolder, report: Report, path: Path
) -> dict[str, Any] | None:
    name = (node.get("name") or "").strip()
    file = images.find(name) if name else None
    if file is None:
        report.drop(images.reason_missing(name), f"{path.name}: {name or '(no name)'}")
        return None
    size = _size(node)
    if size is None:
        size = images.size(file, report)
        if size is None:
            return None
        report.mend("images without a size in the file got their own", name)
    record = new_record(file, images.label(file), size)
    for number, shape in enumerate(node):
        _read_shape(shape, record, report, f"{path.name}, image {name}, shape {number}")
    return record


def _size(node: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(node.get(key) or 0)) for key in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _read_shape(
    shape: ElementTree.Element, record: dict[str, Any], report: Report, where: str
) -> None:
    label = (shape.get("label") or "").strip()
    if shape.tag in _WITHOUT_BOX:
        report.drop(f"<{shape.tag}> shapes have no box and are left out", where)
        return
    try:
        corners = _CORNERS[shape.tag](shape) if shape.tag in _CORNERS else None
    except (TypeError, ValueError):
        report.drop("shapes with missing or broken numbers are left out", where)
        return
    if corners is None or not label:
        report.drop("shapes of unknown kind or without a label are left out", where)
        return
    more = _segmentation(shape, record, report, where)
    if not more and (shape.tag != "box" or float(shape.get("rotation") or 0)):
        report.note("turned boxes and ellipses are read as upright boxes")
    add_box(record, label, corners, report, where, **more)


def _segmentation(
    shape: ElementTree.Element, record: dict[str, Any], report: Report, where: str
) -> dict[str, Any]:
    """Return the ``segmentation`` of a polygon or mask; nothing for other shapes."""
    if shape.tag == "polygon":
        points = _points(shape)
        flat = [value for point in points for value in point]
        return {"segmentation": [flat]} if len(points) >= 3 else {}
    if shape.tag != "mask":
        return {}
    try:
        left, top, width, height = map(int, _numbers(shape, "left", "top", "width", "height"))
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:
        runs = [-1]
    most = max(width * height, record["height"] * record["width"])
    if min(runs) < 0 or sum(runs) != width * height or most > MOST_PIXELS:
        report.mend("masks whose run lengths do not fit their size are read as boxes", where)
        return {}
    # CVAT's runs go along the rows of the mask's own box, COCO's along the columns of the image
    values = np.arange(len(runs)) % 2 == 1
    part = np.repeat(values, runs).reshape(height, width)
    mask = np.zeros((record["height"], record["width"]), dtype=bool)
    y, x = max(top, 0), max(left, 0)
    rows, columns = max(mask.shape[0] - top, 0), max(mask.shape[1] - left, 0)
    inside = part[y - top : rows, x - left : columns]
    mask[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return {"segmentation": bitmask_to_rle(mask)}


def _numbers(shape: ElementTree.Element, *keys: str) -> list[float]:
    return [float(shape.get(key)) for key in keys]  # type: ignore[arg-type]  # None raises


def _turned(cx: float, cy: float, w: float, h: float, degrees: float) -> list[float]:
    """Return the upright box around one of width `w` and height `h` turned about its center.

    >>> [round(v, 6) for v in _turned(10, 10, 8, 2, 90)]
    [9.0, 6.0, 11.0, 14.0]
    """
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_w, half_h = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
    return [cx - half_w, cy - half_h, cx + half_w, cy + half_h]


def _box(shape: ElementTree.Element) -> list[float]:
    x1, y1, x2, y2 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    degrees = float(shape.get("rotation") or 0)
    if not degrees:
        return [x1, y1, x2, y2]
    return _turned((x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1), abs(y2 - y1), degrees)


def _points(shape: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = [point.split(",") for point in (shape.get("points") or "").split(";") if point.strip()]
    return [(float(x), float(y)) for x, y in pairs]


def _polygon(shape: ElementTree.Element) -> list[float]:
    xs, ys = zip(*_points(shape), strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _ellipse(shape: ElementTree.Element) -> list[float]:
    cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry")
    angle = math.radians(float(shape.get("rotation") or 0))
    half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    return [cx - half_w, cy - half_h, cx + half_w, cy + half_h]


def _mask(shape: ElementTree.Element) -> list[float]:
    left, top, width, height = _numbers(shape, "left", "top", "width", "height")
    return [left, top, left + width, top + height]


_CORNERS: dict[str, Callable[[ElementTree.Element], list[float]]] = {
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
}
