"""Pascal VOC: one XML file for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.data.box_report import BoxReport
from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.voc_xml import (
    find_voc_image,
    names_of_split,
    read_voc_xml,
    size_of,
    usable_objects,
)
from lucidet.data.record_fields import CheckedRecords
from lucidet.data.text_files import is_inside
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
    as others are. An image has its XML file's name and any suffix, or the name in ``<filename>``;
    a size that is absent or 0 is read from it. Boxes without area or outside their image are left
    out with a logged warning.

    Raises:
        FileNotFoundError: a file of the layout is missing.
        ValueError: broken XML, an unknown class, a field without meaning.
    """
    root = Path(dirname)
    list_file = root / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.is_file():
        splits = sorted(path.stem for path in list_file.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"Pascal VOC list {list_file} does not exist; splits there: {splits or 'none'}. "
            "The folder must hold Annotations, ImageSets/Main and JPEGImages"
        )
    names = names_of_split(list_file, root / "Annotations")
    class_ids = {name: k for k, name in enumerate(class_names)}
    report = BoxReport(str(root / "Annotations"), form="VOC")
    records = [_load_image(root, name, class_ids, report) for name in names]
    report.log()
    return CheckedRecords(records)


def _load_image(
    root: Path, name: str, class_ids: dict[str, int], report: BoxReport
) -> dict[str, Any]:
    xml_file = root / "Annotations" / f"{name}.xml"
    if not is_inside(root / "Annotations", os.fspath(xml_file)):
        raise ValueError(
            f"the split's list in {root / 'ImageSets' / 'Main'} names {name!r:.200}, which is "
            "outside of Annotations: refused. Remove the line"
        )
    try:
        image = read_voc_xml(xml_file)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"annotation file {xml_file} of image {name} does not exist; add it, or take the "
            "image out of the split's list"
        ) from None
    for found in image.objects:
        if found.name not in class_ids:
            raise ValueError(
                f"annotation file {xml_file}: unknown class {found.name!r}; class_names are "
                f"{list(class_ids)}. Give all names to register_pascal_voc(..., class_names=...)"
            )
    image_file = find_voc_image(root / "JPEGImages", name, image.file_name)
    size = size_of(image, image_file)
    record: dict[str, Any] = {"file_name": str(image_file), "image_id": name}
    if size is not None:
        record.update(height=size[1], width=size[0])
    record["annotations"] = [
        {
            "category_id": class_ids[found.name],
            "bbox": list(found.corners),
            "bbox_mode": BoxMode.XYXY_ABS,
        }
        for found in usable_objects(image, size, name, report)
    ]
    return record


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
    )
