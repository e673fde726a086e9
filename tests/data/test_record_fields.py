"""Records of user code: what each field means, what is counted, what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from lucidet.data.datasets import convert_to_coco_dict
from lucidet.data.record_fields import check_records
from lucidet.structures import BoxMode
from tests.data.conftest import save_image


def records(tmp_path, **changes):
    """Two images with one object each; `changes` are of the first one's annotation."""
    found = []
    for i in range(2):
        save_image(tmp_path / f"{i}.png", 48, 64)
        box = {"bbox": [5, 5, 35, 35], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        found.append(
            {
                "file_name": str(tmp_path / f"{i}.png"),
                "image_id": i,
                "height": 48,
                "width": 64,
                "annotations": [box],
            }
        )
    found[0]["annotations"][0].update(changes)
    return found


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([40, 30, 20, 10], "without area (corners swapped, or a negative size)"),
        ([5, 5, 5, 30], "without area"),
        ([100, 5, 120, 30], "outside the image"),
        ([-9, -9, -1, -1], "outside the image"),
        ([float("inf"), 5, 9, 9], "not finite numbers"),
        (np.full(4, np.nan), "not finite numbers"),
    ],
)
def test_boxes_that_cannot_be_used_are_counted(tmp_path, caplog, box, reason):
    found = check_records(records(tmp_path, bbox=box), "mine")
    assert [len(r["annotations"]) for r in found] == [0, 1]
    assert (
        f"dataset 'mine': 1 boxes {reason} are left out, for example annotation 0 of" in caplog.text
    )


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("bbox", np.array([5, 5, 35, 35]), [5, 5, 35, 35]),
        ("bbox", ["5", "5.5", "35", "35"], [5, 5.5, 35, 35]),
        ("category_id", np.int64(0), 0),
        ("category_id", 0.0, 0),
        ("iscrowd", "0", 0),
        ("iscrowd", np.True_, 1),
        ("bbox_mode", 0, BoxMode.XYXY_ABS),
    ],
)
def test_what_fields_mean(tmp_path, field, value, meant):
    given = records(tmp_path, **{field: value})
    annotation = check_records(given, "mine")[0]["annotations"][0]
    assert annotation[field] == meant
    assert given[0]["annotations"][0][field] is value, "the caller's records stay as they are"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": "0"}, r"0\.png\), image_id 0, annotation 0: 'category_id' .*whole number"),
        ({"category_id": 0.5}, "'category_id' must be a whole number"),
        ({"category_id": None}, "'category_id' must be a whole number"),
        ({"bbox_mode": BoxMode.XYXY_REL}, "'bbox_mode' is XYXY_REL: lucidet takes pixels"),
        ({"bbox_mode": 17}, "'bbox_mode'.*17"),
        ({"bbox": []}, r"image_id 0, annotation 0: 'bbox' must be the numbers .* XYXY_ABS"),
        ({"bbox": [5, 5, 9]}, r"'bbox' must be .* got \[5, 5, 9\]"),
        ({"bbox": None}, "'bbox' must be .* got None"),
        ({"bbox": ["left", 5, 9, 9]}, "'bbox' must be .* got .*left"),
        ({"iscrowd": "some"}, "'iscrowd' must be 0 or 1"),
    ],
)
def test_fields_without_meaning_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"dataset 'mine': record 0 .*{message}"):
        check_records(records(tmp_path, **changes), "mine")


@pytest.mark.parametrize(
    ("annotations", "message"), [([{}], "lacks 'bbox'"), ([3], "must be a dict"), (5, "a list")]
)
def test_broken_annotations_are_named(tmp_path, annotations, message):
    given = records(tmp_path)
    given[1]["annotations"] = annotations
    with pytest.raises(ValueError, match=f"record 1 .*1.png.*{message}"):
        check_records(given, "mine")


def test_annotations_may_be_absent_or_none(tmp_path, name):
    given = records(tmp_path)
    given[0]["annotations"] = None
    DatasetCatalog.register(name, lambda: given)
    MetadataCatalog.get(name).thing_classes = ["x"]
    assert len(get_detection_dataset_dicts(name)) == 1
    assert len(get_detection_dataset_dicts(name, filter_empty=False)) == 2
    del given[0]["annotations"]
    assert len(get_detection_dataset_dicts(name)) == 1


@pytest.mark.parametrize(
    "size", [{}, {"width": None, "height": None}, {"width": -1, "height": "48"}]
)
def test_sizes_are_read_from_the_image(tmp_path, size):
    given = records(tmp_path)
    for key in ("width", "height"):
        del given[0][key]
    given[0].update(size)
    found = check_records(given, "mine")
    assert (found[0]["width"], found[0]["height"]) == (64, 48)


def test_ids(tmp_path, name, caplog):
    given = records(tmp_path)
    given[0]["image_id"] = np.int64(5)
    assert type(check_records(given, "mine")[0]["image_id"]) is int
    del given[0]["image_id"]
    with pytest.raises(ValueError, match=r"record 0 \(.*0.png\) has no image_id"):
        check_records(given, "mine")
    del given[1]["image_id"]
    assert [r["image_id"] for r in check_records(given, "mine")] == [0, 1]
    for record in given:
        record["image_id"] = "same"
    check_records(given, "mine")
    assert "1 values of image_id occur more than once, for example ['same']" in caplog.text
    DatasetCatalog.register(name, lambda: given)
    MetadataCatalog.get(name).thing_classes = ["x"]
    with pytest.raises(ValueError, match=r"image_id 'same' occurs more than once"):
        convert_to_coco_dict(name)


def test_rotated_boxes_pass(tmp_path):
    given = records(tmp_path, bbox=[20, 20, 9, 5, 30.0], bbox_mode=BoxMode.XYWHA_ABS)
    assert len(check_records(given, "mine")[0]["annotations"]) == 1


def test_no_records():
    assert check_records([], "mine") == []


def test_corners_declared_as_sizes_are_suspected(tmp_path, caplog):
    given = records(tmp_path, bbox=[20, 20, 60, 40], bbox_mode=BoxMode.XYWH_ABS)
    given[0]["annotations"] = [dict(given[0]["annotations"][0]) for _ in range(3)]
    assert len(check_records(given, "mine")[0]["annotations"]) == 3
    assert "3 of them would fit as x1, y1, x2, y2" in caplog.text
    caplog.clear()
    for annotation in given[0]["annotations"]:
        annotation.update(bbox=[20, 20, 80, 60], bbox_mode=BoxMode.XYXY_ABS)
    check_records(given, "mine")
    assert "3 boxes reach more than a pixel over" in caplog.text
    assert "would fit" not in caplog.text
