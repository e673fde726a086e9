"""Records of which masks or keypoints are asked for: judged before training, not in its middle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lucidet.data.box_report import EXAMPLES
from lucidet.data.fields import is_crowd, shown
from lucidet.data.keypoint_annotations import as_keypoints
from lucidet.data.mask_annotations import check_mask_format
from lucidet.data.segmentation import SHORTEST, has_segmentation

__all__ = ["check_keypoints", "check_masks", "check_test_annotations"]

logger = logging.getLogger(__name__)


def check_masks(
    records: Sequence[dict[str, Any]], names: Sequence[str], mask_format: str
) -> list[dict[str, Any]]:
    """Return the records without the objects whose polygons are too short to be a mask.

    Every other object has a mask afterwards. Run lengths are not decoded here, only their size is
    looked at; the mapper decodes those of one image at a time. Crowd regions are not judged.

    Args:
        records: as `check_records` leaves them.
        names: of the datasets, for messages.
        mask_format: INPUT.MASK_FORMAT.

    Raises:
        ValueError: annotations without a segmentation, run lengths of another size than their
            image's, or other than polygons where INPUT.MASK_FORMAT asks for those; names dataset,
            image and annotation.
    """
    check_mask_format(mask_format)
    checked, missing, short, total = [], [], [], 0
    for record in records:
        kept = []
        for number, annotation in enumerate(record.get("annotations", ())):
            total += 1
            segmentation = annotation.get("segmentation")
            if is_crowd(annotation) or _is_plain(segmentation):
                kept.append(annotation)
                continue
            where = _where(record, annotation, number)
            if not has_segmentation(annotation):
                missing.append(where)
            elif isinstance(segmentation, (list, tuple)):
                # what is no polygon at all is left to the mapper, which says what it is
                if any(not _is_short(part) for part in segmentation):
                    kept.append(annotation)
                else:
                    short.append(f"{where}: {shown(segmentation)}")
            else:
                _check_pixels(segmentation, record, where, names, mask_format)
                kept.append(annotation)
        same = len(kept) == len(record.get("annotations", ()))
        checked.append(record if same else {**record, "annotations": kept})
    if missing:
        raise ValueError(
            f"data sets {list(names)}: {missing[0]} has no segmentation, as {len(missing)} of "
            f"{total} annotations, and MODEL.MASK_ON True trains masks. Add 'segmentation' "
            "(polygons or RLE) to each, or set MODEL.MASK_ON False"
        )
    if short:
        logger.warning(
            "data sets %s: %d objects are left out, as their polygons have less than 3 corners, "
            "for example %s",
            list(names),
            len(short),
            "; ".join(short[:EXAMPLES]),
        )
    return checked


def check_test_annotations(
    records: Sequence[dict[str, Any]], name: str, masks: bool, keypoints: bool
) -> None:
    """Look at the masks and keypoints that an evaluation will compare.

    Args:
        records: of a test dataset; without annotations there is nothing to look at.
        name: of the dataset.
        masks, keypoints: what is evaluated.

    Raises:
        ValueError: an annotation lacks them; names dataset, image and annotation.
    """
    for asked, field, key in (
        (masks, "segmentation", "MODEL.MASK_ON"),
        (keypoints, "keypoints", "MODEL.KEYPOINT_ON"),
    ):
        every = [
            (record, annotation, number)
            for record in (records if asked else ())
            for number, annotation in enumerate(record.get("annotations") or ())
        ]
        missing = [one for one in every if not _has(one[1], field)]
        if missing:
            raise ValueError(
                f"DATASETS.TEST: data set {name!r}: {_where(*missing[0])} has no {field}, as "
                f"{len(missing)} of {len(every)} annotations, and {key} True evaluates them. Add "
                f'{field!r} to each, or train without evaluation: DATASETS.TEST "()"'
            )


def _has(annotation: dict[str, Any], field: str) -> bool:
    if field == "segmentation":
        return has_segmentation(annotation)
    value = annotation.get(field)
    return value is not None and len(value) > 0


def _is_plain(segmentation: Any) -> bool:
    """Return whether a segmentation is as COCO's are: a list of lists of at least 3 corners."""
    return (
        type(segmentation) is list
        and len(segmentation) > 0
        and all(type(p) is list and len(p) >= SHORTEST and not len(p) % 2 for p in segmentation)
    )


def _is_short(part: Any) -> bool:
    return hasattr(part, "__len__") and (len(part) < SHORTEST or len(part) % 2 == 1)


def _check_pixels(
    segmentation: Any, record: dict[str, Any], where: str, names: Sequence[str], mask_format: str
) -> None:
    """Raise an error where an RLE or pixels can't be used."""
    if mask_format == "polygon":
        kind = "an RLE" if isinstance(segmentation, dict) else "no list of polygons"
        raise ValueError(
            f"data sets {list(names)}: the segmentation of {where} is {kind}, INPUT.MASK_FORMAT "
            "'polygon' takes polygons; set INPUT.MASK_FORMAT 'bitmask', which takes both"
        )
    size: Any = segmentation.get("size") if isinstance(segmentation, dict) else None
    size = size.tolist() if hasattr(size, "tolist") else size
    expected = [record.get("height"), record.get("width")]
    if size is not None and None not in expected and size != expected:
        raise ValueError(
            f"data sets {list(names)}: the RLE's size (height, width) of {where} is {shown(size)}, "
            f"expected the image's {expected}"
        )


def check_keypoints(
    records: Sequence[dict[str, Any]], names: Sequence[str], count: int | None
) -> None:
    """Look at the keypoints of all objects.

    Args:
        records: as `check_records` leaves them.
        names: of the datasets, for messages.
        count: K, the length of ``keypoint_names`` in the datasets' metadata; None: not known.

    Raises:
        ValueError: no object has keypoints, or one has others than K times x, y, visibility; names
            dataset, image and annotation.
    """
    first, found = "", False
    for record in records:
        for number, annotation in enumerate(record.get("annotations", ())):
            if is_crowd(annotation):
                continue
            where = _where(record, annotation, number)
            first = first or where
            if annotation.get("keypoints") is None:
                continue
            found = True
            try:
                points = len(as_keypoints(annotation["keypoints"]))
                if count is not None and points != count:
                    raise ValueError(f"expected {count} keypoints (keypoint_names), got {points}")
            except ValueError as error:
                raise ValueError(f"data sets {list(names)}: {where}: {error}") from None
    if first and not found:
        raise ValueError(
            f"data sets {list(names)}: no annotation has keypoints, {first} neither, and "
            "MODEL.KEYPOINT_ON True trains them. Train on data with 'keypoints' "
            "(keypoints_coco_2017_train), or set MODEL.KEYPOINT_ON False"
        )


def _where(record: dict[str, Any], annotation: dict[str, Any], number: int) -> str:
    return (
        f"annotation {annotation.get('id', f'number {number}')} of image "
        f"{record.get('file_name')} (image_id {record.get('image_id')})"
    )
