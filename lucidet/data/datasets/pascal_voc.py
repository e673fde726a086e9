"""Pascal VOC: one XML file for each image."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.structures import BoxMode

__all__ = ["CLASS_NAMES", "load_voc_instances", "register_pascal_voc"]

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def load_voc_instances(
    dirname: str | os.PathLike[str], split: str, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Load a folder in Pascal VOC's layout.

    Args:
        dirname: holds ``Annotations``, ``ImageSets/Main`` and ``JPEGImages``.
        split: name of the list ``ImageSets/Main/<split>.txt``.
        class_names: of classes 0..K-1.

    Returns:
        a record for each image of the list: ``file_name``, ``image_id`` (its name), ``height``,
        ``width``, ``annotations`` with ``bbox`` XYXY in pixels.

    VOC counts pixels from 1 and includes both ends, so a box (xmin, ymin, xmax, ymax) covers the
    continuous (xmin - 1, ymin - 1, xmax, ymax). Objects marked "difficult" are training objects
    as others are.

    Raises:
        FileNotFoundError: a file of the layout is missing.
        ValueError: broken XML, no image size, an unknown class, a box without area.
    """
    root = Path(dirname)
    list_file = root / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.is_file():
        splits = sorted(path.stem for path in list_file.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"Pascal VOC list {list_file} does not exist; splits there: {splits or 'none'}. "
            "The folder must hold Annotations, ImageSets/Main and JPEGImages"
        )
    # "2007_000027" or, in the lists of single classes, "2007_000027  1"
    names = [line.split()[0] for line in list_file.read_text().splitlines() if line.strip()]
    class_ids = {name: k for k, name in enumerate(class_names)}
    return [_load_image(root, name, class_ids) for name in names]


def _load_image(root: Path, name: str, class_ids: dict[str, int]) -> dict[str, Any]:
    xml_file = root / "Annotations" / f"{name}.xml"
    try:
        tree = ElementTree.parse(xml_file).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"annotation file {xml_file} of image {name} does not exist; add it, or take the "
            "image out of the split's list"
        ) from None
    except ElementTree.ParseError as error:
        raise ValueError(f"annotation file {xml_file} is not valid XML: {error}") from error
    objects = [_load_object(node, xml_file, class_ids) for node in tree.findall("object")]
    return {
        "file_name": str(root / "JPEGImages" / f"{name}.jpg"),
        "image_id": name,
        "height": int(_number(tree, "size/height", xml_file)),
        "width": int(_number(tree, "size/width", xml_file)),
        "annotations": objects,
    }


def _load_object(
    node: ElementTree.Element, xml_file: Path, class_ids: dict[str, int]
) -> dict[str, Any]:
    name = (node.findtext("name") or "").strip()
    if name not in class_ids:
        raise ValueError(
            f"annotation file {xml_file}: unknown class {name!r}; class_names are "
            f"{list(class_ids)}. Give all names to register_pascal_voc(..., class_names=...)"
        )
    x1, y1, x2, y2 = (
        _number(node, f"bndbox/{key}", xml_file) for key in ("xmin", "ymin", "xmax", "ymax")
    )
    if x2 < x1 or y2 < y1:
        raise ValueError(
            f"annotation file {xml_file}: {name} has xmin, ymin, xmax, ymax = "
            f"{x1:g}, {y1:g}, {x2:g}, {y2:g}; max must not be below min"
        )
    return {
        "category_id": class_ids[name],
        "bbox": [x1 - 1.0, y1 - 1.0, x2, y2],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def _number(node: ElementTree.Element, path: str, xml_file: Path) -> float:
    text = node.findtext(path)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(
            f"annotation file {xml_file}: <{path}> must be a number, got {text!r}"
        ) from None


def register_pascal_voc(
    name: str,
    dirname: str | os.PathLike[str],
    split: str,
    year: int,
    class_names: Sequence[str] = CLASS_NAMES,
) -> None:
    """Register a folder in Pascal VOC's layout under `name`.

    Args:
        name: as in ``DATASETS.TRAIN``.
        dirname, split, class_names: see :func:`load_voc_instances`.
        year: 2007 or 2012: which definition of AP its evaluator uses.
    """
    DatasetCatalog.register(name, lambda: load_voc_instances(dirname, split, class_names))
    MetadataCatalog.get(name).set(
        thing_classes=list(class_names),
        dirname=os.fspath(dirname),
        year=year,
        split=split,
        evaluator_type="pascal_voc",
    )
