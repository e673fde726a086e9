"""Lists of records: load by name, filter, count, check."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Dataset

from lucidet.data.catalog import DatasetCatalog, MetadataCatalog
from lucidet.data.detection_utils import check_metadata_consistency
from lucidet.data.fields import is_crowd
from lucidet.data.keypoint_annotations import count_visible
from lucidet.data.record_fields import check_records
from lucidet.utils.logger import create_table

logger = logging.getLogger(__name__)

# what `get_detection_dataset_dicts` last counted, by the names of the datasets
_COUNTS: dict[tuple[str, ...], dict[str, Any]] = {}

# K classes


def filter_images_with_only_crowd_annotations(
    dataset_dicts: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the records with at least one annotation that is not a crowd region."""
    kept = [
        record for record in dataset_dicts if any(not is_crowd(a) for a in record["annotations"])
    ]
    if len(kept) < len(dataset_dicts):
        logger.info(
            "left out %d of %d images without usable annotations",
            len(dataset_dicts) - len(kept),
            len(dataset_dicts),
        )
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: list[dict[str, Any]], min_keypoints_per_image: int
) -> list[dict[str, Any]]:
    """Return the records with enough labelled keypoints, all objects of the image together.

    Args:
        dataset_dicts: records.
        min_keypoints_per_image: at least this many.
    """
    kept = [
        record
        for record in dataset_dicts
        if sum(map(count_visible, record["annotations"])) >= min_keypoints_per_image
    ]
    if len(kept) < len(dataset_dicts):
        logger.info(
            "left out %d of %d images with less than %d labelled keypoints",
            len(dataset_dicts) - len(kept),
            len(dataset_dicts),
            min_keypoints_per_image,
        )
    return kept


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Any:
    """Load the records of one or more registered data sets, one after the other.

    Args:
        names: registered names.
        filter_empty: leave images without usable objects out.
        min_keypoints: leave images with less labelled keypoints out; 0: keep all.
        proposal_files: of detectron2; must stay None.
        check_consistency: compare ``thing_classes`` of the data sets, and count the objects.

    Returns:
        a list of records as `check_records` leaves them; a torch data set if the registered
        functions return those.

    Raises:
        ValueError: nothing is left, a field of a record has no meaning, or a category id is outside
            0..K-1.
    """
    if proposal_files:
        raise ValueError("lucidet loads no proposals from files: leave proposal_files unset")
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(
            "no data set named: set DATASETS.TRAIN (or DATASETS.TEST), "
            "as in DATASETS.TRAIN \"('coco_2017_train',)\""
        )
    loaded: dict[str, Any] = {name: DatasetCatalog.get(name) for name in names}
    for name, records in loaded.items():
        if not len(records):
            raise ValueError(f"data set {name!r} has no images; check its annotation file")
    if any(isinstance(records, Dataset) for records in loaded.values()):
        return ConcatDataset([loaded[name] for name in names])

    # of test data without annotations, no record has the key
    has_annotations = any("annotations" in r for found in loaded.values() for r in found)
    records = [r for name, found in loaded.items() for r in check_records(found, name)]
    if filter_empty and has_annotations:
        kept = filter_images_with_only_crowd_annotations(records)
        if not kept:
            raise ValueError(
                f"data sets {names}: none of {len(records)} images has an object that is not a "
                "crowd region, so nothing is left to train on. Check the annotation files; to use "
                "images without objects set DATALOADER.FILTER_EMPTY_ANNOTATIONS False"
            )
        records = kept
    if min_keypoints > 0 and has_annotations:
        records = _with_keypoints(records, min_keypoints, names)
    if check_consistency and has_annotations:
        if any(MetadataCatalog.get(name).get("thing_classes") is None for name in names):
            logger.info("class names of %s are not known: objects are not counted", names)
        else:
            check_metadata_consistency("thing_classes", names)
            class_names = MetadataCatalog.get(names[0]).thing_classes
            counts = _box_counts(records, class_names)
            found = {"images": len(records), "boxes_per_class": counts}
            # a dataset that is read for each evaluation is shown once
            is_new = _COUNTS.get(tuple(names)) != found
            _log_histogram(len(records), counts, logging.INFO if is_new else logging.DEBUG)
            _COUNTS[tuple(names)] = found
    return records


def _with_keypoints(
    records: list[dict[str, Any]], min_keypoints: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the images with enough keypoints.

    Raises:
        ValueError: none has; names datasets, image and annotation.
    """
    kept = filter_images_with_few_keypoints(records, min_keypoints)
    if kept:
        return kept
    first = next((r for r in records if r["annotations"]), records[0])
    ids = [a.get("id", "without id") for a in first["annotations"]][:3]
    raise ValueError(
        f"data sets {list(names)}: none of {len(records)} images has {min_keypoints} labelled "
        f"keypoints (MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE), for example image "
        f"{first.get('file_name')} (image_id {first.get('image_id')}), annotations {ids}. Train on "
        "data with 'keypoints' (keypoints_coco_2017_train), or set MODEL.KEYPOINT_ON False"
    )


def counts_of(names: Sequence[str]) -> dict[str, Any]:
    """Return ``{"images": N, "boxes_per_class": {name: count}}`` of datasets, as last loaded.

    Datasets that were not loaded, or whose class names are not known, give an empty dict.
    """
    return _COUNTS.get(tuple(names), {})


def print_instances_class_histogram(
    dataset_dicts: Sequence[dict[str, Any]], class_names: Sequence[str]
) -> None:
    """Log how many objects (without crowd regions) each class has.

    Raises:
        ValueError: a category id is outside 0..K-1.
    """
    counts = _box_counts(dataset_dicts, class_names)
    _log_histogram(len(dataset_dicts), counts, logging.INFO)


def _box_counts(
    dataset_dicts: Sequence[dict[str, Any]], class_names: Sequence[str]
) -> dict[str, int]:
    """Return the number of boxes, without crowd regions, by class name."""
    counts: Counter[int] = Counter()
    for record in dataset_dicts:
        for number, anno in enumerate(record["annotations"]):
            category = anno["category_id"]
            if not 0 <= category < len(class_names):
                raise ValueError(
                    f"image {record.get('file_name')} (image_id {record.get('image_id')}), "
                    f"annotation {number}: category_id {category} is not in "
                    f"0..{len(class_names) - 1}, as there are {len(class_names)} classes. "
                    "Records need contiguous ids from 0; load_coco_json makes them"
                )
            if not is_crowd(anno):
                counts[category] += 1
    return {name: counts[i] for i, name in enumerate(class_names)}


def _log_histogram(images: int, counts: dict[str, int], level: int) -> None:
    cells = [*counts.items(), ("total", sum(counts.values()))]
    columns = min(3, len(cells))
    while len(cells) % columns:
        cells.append(("", ""))  # type: ignore[arg-type]
    rows = [
        [value for cell in cells[i : i + columns] for value in cell]
        for i in range(0, len(cells), columns)
    ]
    table = create_table(["category", "#objects"] * columns, rows)
    logger.log(level, "objects in %d images:\n%s", images, table)
