"""COCO annotation files: to records, and records back to COCO's layout.

Category ids of a file may be any numbers; records have contiguous ones, 0..K-1, in the order of the
file's ids. The metadata keeps the way back (``thing_dataset_id_to_contiguous_id``).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet._absent import absent
from lucidet.data.box_report import BoxReport
from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.coco_json import drop_unusable, fill_sizes, image_path, read_coco
from lucidet.data.fields import as_box, id_order
from lucidet.data.image_io import image_size
from lucidet.data.keypoint_annotations import as_keypoints
from lucidet.data.match_classes import match_classes
from lucidet.data.record_fields import CheckedRecords, check_records
from lucidet.data.segmentation import has_segmentation, json_segmentation, segmentation_area
from lucidet.structures import BoxMode

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]

logger = logging.getLogger(__name__)

load_sem_seg = absent("load_sem_seg")

# what a record's annotation takes over beside box and category; area decides COCO's size classes,
# num_keypoints whether keypoints are evaluated
_KEPT_KEYS = ("id", "area", "segmentation", "keypoints", "num_keypoints")

# COCO's keypoints are whole numbers, the pixel that holds the point; here its middle is meant
_HALF_PIXEL = 0.5


def load_coco_json(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Load a file in COCO's instances format.

    Args:
        json_file: the annotation file. ``info``, ``area``, ``iscrowd``, ``segmentation`` and the
            annotations' ids may be absent; images may have no objects.
        image_root: folder that ``file_name`` of the images is relative to.
        dataset_name: its metadata gets ``thing_classes`` and
            ``thing_dataset_id_to_contiguous_id``, and category ids become contiguous. None keeps
            the file's ids.
        extra_annotation_keys: further keys to take over, as ``["occluded"]``.

    Returns:
        one record for each image, ordered by image id: ``file_name``, ``height``, ``width`` (if
        the file has them), ``image_id``, ``annotations`` with ``bbox`` (XYWH pixels),
        ``bbox_mode``, ``category_id``, ``iscrowd``, and if the file has them ``id``, ``area``,
        ``segmentation`` (polygons or RLE as they are in the file; decoded when they are used),
        ``num_keypoints`` and ``keypoints`` (x, y, visibility; COCO's whole pixels become pixel
        centers, + 0.5).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is broken; names file, id and repair. Or the metadata of
            `dataset_name` already has other classes than the file.

    Boxes without area or wholly outside their image are left out with a logged warning. Where the
    metadata already has ``thing_classes``, the file's categories are matched to them by name.
    """
    content = read_coco(json_file)
    keys = extra_annotation_keys or ()
    return records_of_content(content, str(json_file), image_root, dataset_name, keys)


def records_of_content(
    content: dict[str, Any],
    file: str,
    image_root: str | os.PathLike[str],
    dataset_name: str | None,
    extra_annotation_keys: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the records of a COCO file's checked content, as :func:`load_coco_json` does."""
    id_map = None
    if dataset_name is not None:
        id_map = _register_categories(content, dataset_name, file)
    report = BoxReport(file)
    records = coco_records(content, image_root, id_map, report, extra_annotation_keys)
    report.log()
    logger.info("loaded %d images in COCO format from %s", len(records), file)
    return CheckedRecords(records)


def coco_records(
    content: dict[str, Any],
    image_root: str | os.PathLike[str],
    id_map: dict[Any, int] | None,
    report: BoxReport,
    extra_annotation_keys: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the records of a COCO file's checked content; see :func:`load_coco_json`.

    Args:
        content: of `read_coco`.
        image_root: folder that ``file_name`` of the images is relative to.
        id_map: category id -> class; None keeps the file's ids.
        report: notes boxes that are left out or clipped.
        extra_annotation_keys: further keys to take over.
    """
    content = drop_unusable(fill_sizes(content, image_root, report.file), report)
    annotations_of = defaultdict(list)
    for annotation in content["annotations"]:
        _refuse_ignored(annotation, report.file)
        annotations_of[annotation["image_id"]].append(annotation)
    kept_keys = (*_KEPT_KEYS, *extra_annotation_keys)
    records = []
    for image in sorted(content["images"], key=lambda entry: id_order(entry["id"])):
        record: dict[str, Any] = {
            "file_name": image_path(image, image_root, report.file),
            "image_id": image["id"],
        }
        record.update((key, image[key]) for key in ("height", "width") if key in image)
        record["annotations"] = [
            _to_object(annotation, id_map, kept_keys) for annotation in annotations_of[image["id"]]
        ]
        records.append(record)
    return records


def _register_categories(content: dict[str, Any], dataset_name: str, file: str) -> dict[Any, int]:
    """Set the dataset's classes, or match the file's categories to those it has by name."""
    ordered = sorted(content["categories"], key=lambda category: id_order(category["id"]))
    used_ids = {annotation["category_id"] for annotation in content["annotations"]}
    meta = MetadataCatalog.get(dataset_name)
    names = [category["name"] for category in ordered]
    used = {category["name"] for category in ordered if category["id"] in used_ids}
    classes = match_classes(names, meta.get("thing_classes"), file, dataset_name, used)
    index = {name: k for k, name in enumerate(classes)}
    id_map = {c["id"]: index[c["name"]] for c in ordered if c["name"] in index}
    meta.thing_classes = classes
    known = meta.get("thing_dataset_id_to_contiguous_id")
    # ids that the file does not have may be known beside them
    if known is None or any(known.get(i) != k for i, k in id_map.items()):
        meta.thing_dataset_id_to_contiguous_id = id_map
    if classes == names and ordered and [c["id"] for c in ordered] != [*range(1, len(names) + 1)]:
        logger.info(
            "%s: category ids are not 1..%d; they are mapped to 0..%d in their order",
            dataset_name,
            len(ordered),
            len(ordered) - 1,
        )
    return id_map


def _refuse_ignored(annotation: dict[str, Any], file: str) -> None:
    if annotation.get("ignore", 0):
        raise ValueError(
            f"annotation file {file}: annotation {annotation.get('id')} has 'ignore' set, "
            "which COCO's format has no place for; mark regions to be ignored with 'iscrowd': 1"
        )


def _to_object(
    annotation: dict[str, Any], id_map: dict[Any, int] | None, kept_keys: Sequence[str]
) -> dict[str, Any]:
    category = annotation["category_id"]
    found = {key: annotation[key] for key in kept_keys if annotation.get(key) is not None}
    if "keypoints" in found:
        found["keypoints"] = shift_keypoints(found["keypoints"], _HALF_PIXEL)
    return {
        **found,
        "iscrowd": annotation.get("iscrowd", 0),
        "bbox": list(annotation["bbox"]),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category if id_map is None else id_map[category],
    }


def shift_keypoints(keypoints: Any, by: float) -> Any:
    """Return keypoints with `by` added to each x and y; what is no list of numbers as it is.

    >>> shift_keypoints([3, 4, 2, 0, 0, 0], 0.5)
    [3.5, 4.5, 2, 0.5, 0.5, 0]
    """
    numbers = as_box(keypoints)
    if numbers is None:
        return keypoints
    return [v if i % 3 == 2 else v + by for i, v in enumerate(numbers)]


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """Return a registered data set in COCO's layout, for evaluators that read that.

    Args:
        dataset_name: registered, with ``thing_classes``; where the metadata has
            ``thing_dataset_id_to_contiguous_id``, categories get their former ids back, else
            they keep 0..K-1.

    Returns:
        ``info``, ``images``, ``annotations`` (ids from 1; with ``segmentation`` and ``keypoints``
        where the records have them), ``categories``. ``area`` is the record's own, else the mask's,
        else the box's.
    """
    records = check_records(DatasetCatalog.get(dataset_name), dataset_name)
    meta = MetadataCatalog.get(dataset_name)
    contiguous = meta.get("thing_dataset_id_to_contiguous_id")
    to_file_id = {k: i for i, k in contiguous.items()} if contiguous else {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    seen: set[Any] = set()
    for record in records:
        if record["image_id"] in seen:
            raise ValueError(
                f"data set {dataset_name!r}: image_id {record['image_id']!r} occurs more than once "
                f"(last for {record['file_name']}); give each record its own to evaluate on it"
            )
        seen.add(record["image_id"])
        images.append(_coco_image(record, dataset_name))
        for obj in record["annotations"]:
            category = obj["category_id"]
            box, area = _coco_box(obj)
            shape = coco_shape(obj, images[-1], dataset_name)
            area = shape.pop("area", area)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record["image_id"],
                    "bbox": box,
                    "area": area,
                    # VOC's difficult boxes are ignored in an evaluation, as crowd regions are
                    "iscrowd": int(bool(obj.get("iscrowd", 0) or obj.get("difficult", 0))),
                    "category_id": to_file_id.get(category, category),
                    **shape,
                }
            )
    categories = [
        {"id": to_file_id.get(k, k), "name": name} for k, name in enumerate(meta.thing_classes)
    ]
    return {
        "info": {"description": f"{dataset_name}, converted by lucidet"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _coco_image(record: dict[str, Any], dataset_name: str) -> dict[str, Any]:
    if not {"width", "height"} <= record.keys():
        size = image_size(record["file_name"])
        if size is None:
            raise ValueError(
                f"data set {dataset_name!r}: image {record['image_id']} has no width and height, "
                f"and {record['file_name']} can't be read to find them"
            )
        record = {**record, "width": size[0], "height": size[1]}
    return {
        "id": record["image_id"],
        "width": record["width"],
        "height": record["height"],
        "file_name": str(record["file_name"]),
    }


def coco_shape(obj: dict[str, Any], image: dict[str, Any], dataset_name: str) -> dict[str, Any]:
    """Return segmentation, its area, and keypoints of an annotation, as far as it has them."""
    found: dict[str, Any] = {}
    try:
        if has_segmentation(obj):
            height, width = image["height"], image["width"]
            segmentation = obj["segmentation"]
            found["segmentation"] = json_segmentation(segmentation, height, width)
            if obj.get("area") is None:
                found["area"] = segmentation_area(segmentation, height, width)
        if obj.get("keypoints") is not None:
            points = as_keypoints(obj["keypoints"])
            count = int((points[:, 2] > 0).sum())
            found["keypoints"] = shift_keypoints(points.ravel().tolist(), -_HALF_PIXEL)
            found["num_keypoints"] = obj.get("num_keypoints", count)
    except ValueError as error:
        raise ValueError(
            f"data set {dataset_name!r}: image {image['id']}, annotation "
            f"{obj.get('id', 'without id')}: {error}"
        ) from None
    return found


def _coco_box(obj: dict[str, Any]) -> tuple[list[float], float]:
    """Return COCO's bbox (XYWH, or 5 numbers for a rotated box) and area of an annotation."""
    box = [float(v) for v in obj["bbox"]]
    if len(box) == 4:
        box = BoxMode.convert(box, obj["bbox_mode"], BoxMode.XYWH_ABS)
    area = obj.get("area")
    if area is None:
        area = box[2] * box[3]
    # thousandths of a pixel keep the file small
    return [round(float(v), 3) for v in box], float(area)


def convert_to_coco_json(
    dataset_name: str, output_file: str | os.PathLike[str], allow_cached: bool = True
) -> None:
    """Write a registered data set as a COCO annotation file.

    Args:
        dataset_name: registered.
        output_file: written in one step, so no other process sees half of it.
        allow_cached: leave an existing file as it is where it holds what would be written; a file
            that differs is written again in any case.
    """
    path = Path(output_file)
    text = json.dumps(convert_to_coco_dict(dataset_name))
    if path.exists() and allow_cached:
        if path.read_bytes() == text.encode():
            return
        logger.info("data set %s has changed: %s is written again", dataset_name, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
    logger.info("wrote %s in COCO format to %s", dataset_name, path)


def register_coco_instances(
    name: str,
    metadata: dict[str, Any],
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
) -> None:
    """Register a data set in COCO's instances format under `name`.

    Args:
        name: as in ``DATASETS.TRAIN``.
        metadata: further metadata, may be empty.
        json_file: the annotation file; read when the data set is used.
        image_root: folder of the images.

    >>> register_coco_instances("my_cells", {}, "cells/annotations.json", "cells/images")
    >>> MetadataCatalog.get("my_cells").evaluator_type
    'coco'
    >>> DatasetCatalog.remove("my_cells"); MetadataCatalog.remove("my_cells")
    """
    for what, value in (("name", name), ("json_file", json_file), ("image_root", image_root)):
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError(
                f"register_coco_instances(name, metadata, json_file, image_root): {what} must be "
                f"text, got {type(value).__name__}"
            )
    if not isinstance(metadata, dict):
        raise ValueError(
            "register_coco_instances(name, metadata, json_file, image_root): metadata must be a "
            f"dict, may be {{}}, got {type(metadata).__name__}"
        )
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=os.fspath(json_file),
        image_root=os.fspath(image_root),
        evaluator_type="coco",
        **metadata,
    )
