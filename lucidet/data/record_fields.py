"""Records of user code: fields understood or refused by name, boxes that cannot be used counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucidet.data.box_report import EXAMPLES, BoxReport
from lucidet.data.fields import as_area, as_box, as_flag, as_id, as_number, as_size, shown
from lucidet.data.image_io import image_size
from lucidet.structures import BoxMode

__all__ = ["CheckedRecords", "check_records"]

logger = logging.getLogger(__name__)

_MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


class CheckedRecords(list):
    """Records whose fields and boxes have been checked: those of lucidet's own readers."""


def check_records(records: Sequence[dict[str, Any]], dataset: str) -> list[dict[str, Any]]:
    """Return a dataset's records with every field in one form; the given ones stay as they are.

    - ``image_id``: a whole number or text; the record's position where no record has one;
    - ``width``, ``height``: whole numbers, read from the image file where they are absent, null or
      not positive;
    - ``annotations``: a list, empty where it is absent or None;
    - ``bbox``: numbers; ``iscrowd``: 0 or 1; ``category_id``: a whole number.

    Boxes without area, outside their image, or not four finite numbers are left out, counted and
    logged with examples.

    Args:
        records: what a registered function returned.
        dataset: its name, for messages.

    Raises:
        ValueError: a field has no meaning; names dataset, image, annotation and field.
    """
    if isinstance(records, CheckedRecords):
        return records
    report = BoxReport(f"dataset {dataset!r}", form="as written")
    without_id = sum(record.get("image_id") is None for record in records)
    if 0 < without_id < len(records):
        first = next(i for i, record in enumerate(records) if record.get("image_id") is None)
        raise ValueError(
            f"dataset {dataset!r}: record {first} ({records[first].get('file_name')}) has no "
            "image_id, others have one; give each record its own"
        )
    checked = [
        _checked_record(record, position, dataset, report)
        for position, record in enumerate(records)
    ]
    report.log()
    _report_sizes(records, checked, dataset)
    _report_repeated(checked, dataset)
    return CheckedRecords(checked)


def _checked_record(
    record: dict[str, Any], position: int, dataset: str, report: BoxReport
) -> dict[str, Any]:
    key, where = "", f"dataset {dataset!r}: record {position} ({record.get('file_name')})"
    try:
        found = dict(record)
        key = "image_id"
        found[key] = position if record.get(key) is None else as_id(record[key])
        for key in ("height", "width"):
            size = as_size(found.pop(key, None))
            if size is not None:
                found[key] = size
    except ValueError as error:
        raise ValueError(f"{where}: {key!r} {error}") from None
    if not {"height", "width"} <= found.keys() and found.get("file_name"):
        size_of_file = image_size(found["file_name"])
        if size_of_file is not None:
            found["width"], found["height"] = size_of_file
    annotations = record.get("annotations")
    if annotations is None:
        annotations = []
    if not isinstance(annotations, (list, tuple, np.ndarray)):
        raise ValueError(f"{where}: 'annotations' must be a list, got {shown(annotations)}")
    where = f"{where}, image_id {found['image_id']}"
    kept = []
    for number, annotation in enumerate(annotations):
        clean = _checked_annotation(annotation, f"{where}, annotation {number}")
        if _is_usable(clean, annotation, found, number, report):
            kept.append(clean)
    found["annotations"] = kept
    return found


def _checked_annotation(annotation: Any, where: str) -> dict[str, Any]:
    if not isinstance(annotation, dict):
        raise ValueError(f"{where}: must be a dict, got {shown(annotation)}")
    for key in ("bbox", "bbox_mode", "category_id"):
        if key not in annotation:
            raise ValueError(
                f"{where} lacks {key!r}: an annotation needs bbox, bbox_mode and category_id"
            )
    found, key = dict(annotation), ""
    for key in ("segmentation", "keypoints"):  # null says nothing; they are judged where masks are
        if found.get(key, key) is None:
            del found[key]
    try:
        key = "bbox_mode"
        found[key] = BoxMode(found[key])  # raises a ValueError that names the value
        if found[key] in (BoxMode.XYXY_REL, BoxMode.XYWH_REL):
            raise ValueError(
                f"is {found[key].name}: lucidet takes pixels; multiply the box by the image's "
                "width and height, and say XYXY_ABS or XYWH_ABS"
            )
        key = "category_id"
        category = as_number(found[key])
        if (
            isinstance(found[key], str)
            or category is None
            or not abs(category) < 1 << 31
            or category % 1
        ):
            raise ValueError(
                f"must be a whole number, the index of a class, got {shown(found[key])}"
            )
        found[key] = int(category)
        for key, meaning in (("iscrowd", as_flag), ("area", as_area)):
            if key in found:
                value = meaning(found.pop(key))
                if value is not None:
                    found[key] = value
    except ValueError as error:
        raise ValueError(f"{where}: {key!r} {error}") from None
    box = as_box(found["bbox"])
    if box is None or len(box) != (4 if found["bbox_mode"] in _MODES else 5):
        raise ValueError(
            f"{where}: 'bbox' must be the numbers of a box in {found['bbox_mode'].name}, "
            f"got {shown(found['bbox'])}"
        )
    found["bbox"] = box
    return found


def _is_usable(
    annotation: dict[str, Any],
    written: dict[str, Any],
    record: dict[str, Any],
    number: int,
    report: BoxReport,
) -> bool:
    mode = annotation["bbox_mode"]
    if mode not in _MODES:
        return True  # rotated boxes are judged where they are used
    x, y, a, b = annotation["bbox"]
    corners = (x, y, a, b) if mode == BoxMode.XYXY_ABS else (x, y, x + a, y + b)
    text = f"{shown(written['bbox'])} ({mode.name})"
    from_sizes = mode == BoxMode.XYWH_ABS
    return report.usable_corners(corners, record, number, text, from_sizes=from_sizes)


def _report_sizes(
    records: Sequence[dict[str, Any]], checked: Sequence[dict[str, Any]], dataset: str
) -> None:
    read = [
        new["image_id"]
        for old, new in zip(records, checked, strict=True)
        if "width" in new and (old.get("width") != new["width"])
    ]
    if read:
        logger.info(
            "dataset %r: width and height of %d images are read from their files, for example of "
            "image %s",
            dataset,
            len(read),
            read[0],
        )


def _report_repeated(records: Sequence[dict[str, Any]], dataset: str) -> None:
    twice = [i for i, n in Counter(r["image_id"] for r in records).items() if n > 1]
    if twice:
        logger.warning(
            "dataset %r: %d values of image_id occur more than once, for example %s: it can be "
            "trained on, not evaluated",
            dataset,
            len(twice),
            twice[:EXAMPLES],
        )
