"""What is found before training where masks or keypoints are asked for."""

from __future__ import annotations

import logging

import pytest

from lucidet.config import get_cfg
from lucidet.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from lucidet.data.build import filter_images_with_few_keypoints
from lucidet.data.check_masks import check_keypoints, check_masks
from lucidet.data.datasets import register_coco_instances

POLYGON = [[1, 1, 9, 1, 9, 9]]


@pytest.fixture
def loader(write_coco, name, tmp_path):
    """Return a function that builds a loader for the tiny COCO file, changed by a function."""

    def build(change=None, **settings):
        path = write_coco(change)
        register_coco_instances(name, {}, path, tmp_path)
        cfg = get_cfg()
        cfg.DATASETS.TRAIN = (name,)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.SOLVER.IMS_PER_BATCH = 1
        cfg.MODEL.MASK_ON = settings.get("mask", False)
        cfg.MODEL.KEYPOINT_ON = settings.get("keypoint", False)
        cfg.INPUT.MASK_FORMAT = settings.get("mask_format", "polygon")
        return build_detection_train_loader(cfg)

    return build


def with_polygons(content):
    for annotation in content["annotations"]:
        annotation["segmentation"] = POLYGON


def test_masks_are_loaded(loader):
    batch = next(iter(loader(with_polygons, mask=True)))
    assert len(batch[0]["instances"].gt_masks) == len(batch[0]["instances"])


def test_annotations_without_masks_are_named_before_training(loader):
    with pytest.raises(
        ValueError,
        match=r"annotation 1 of image .*a.jpg \(image_id 7\) has no segm.*2 of 3 .*MASK_ON",
    ):
        loader(mask=True)


@pytest.mark.parametrize(
    ("segmentation", "mask_format", "message"),
    [
        ([], "polygon", "annotation 1 .* has no segmentation"),
        ({"size": [40, 60], "counts": "0"}, "polygon", r"annotation 1 .*\(image_id 7\) is an RLE"),
        ({"size": [60, 40], "counts": "0"}, "bitmask", r"\[60, 40\], expected .*\[40, 60\]"),
        (POLYGON, "rle", r"INPUT.MASK_FORMAT must be one of"),
    ],
)
def test_masks_that_can_not_be_used(loader, segmentation, mask_format, message):
    def change(content):
        with_polygons(content)
        content["annotations"][0]["segmentation"] = segmentation

    with pytest.raises(ValueError, match=message):
        loader(change, mask=True, mask_format=mask_format)


def test_polygons_without_three_corners_are_counted(caplog):
    short = {"id": 3, "segmentation": [[1, 1, 2, 2]]}
    crowd = {"id": 4, "iscrowd": 1, "segmentation": None}
    record = {"image_id": 1, "annotations": [{"segmentation": POLYGON}, short, crowd]}
    with caplog.at_level(logging.WARNING):
        (checked,) = check_masks([record], ["cells"], "polygon")
    assert [a.get("id") for a in checked["annotations"]] == [None, 4]
    assert len(record["annotations"]) == 3
    assert "1 objects are left out, as their polygons have less than 3 corners" in caplog.text
    assert "annotation 3" in caplog.text
    assert check_masks([], ["cells"], "polygon") == []


def test_keypoints_are_judged_before_training(loader, name):
    names = ["a", "b"]
    MetadataCatalog.get(name).set(keypoint_names=names, keypoint_flip_map=[])

    def change(content):
        content["annotations"][0]["keypoints"] = [12, 12, 2, 0, 0, 0]

    (batch,) = next(iter(loader(change, keypoint=True)))
    assert batch["image_id"] == 7  # the only image with a labelled keypoint
    assert batch["instances"].gt_keypoints.tensor.shape == (1, 2, 3)
    DatasetCatalog.remove(name)
    with pytest.raises(ValueError, match=r"none of 2 images has 1 labelled .*image_id 7.*\[1, 2\]"):
        loader(keypoint=True)


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        (None, "no annotation has keypoints, annotation 7 of image None .* neither"),
        ([1, 2], "annotation 7 .*2 numbers"),
        ([1, 2, 2], "annotation 7 .*expected 2 keypoints .* got 1"),
        ([[1, 2, "x"]], "annotation 7 .*must be numbers"),
    ],
)
def test_keypoints_that_can_not_be_used(keypoints, message):
    record = {"image_id": 1, "annotations": [{"id": 7, "keypoints": keypoints}]}
    with pytest.raises(ValueError, match=message):
        check_keypoints([record], ["people"], 2)


def test_images_with_few_keypoints_are_left_out():
    records = [
        {"annotations": []},
        {"annotations": [{}, {"keypoints": [1, 1, 2, 1, 1, 1, 0, 0, 0]}]},
        {"annotations": [{"keypoints": [1, 1, 2]}]},
    ]
    assert filter_images_with_few_keypoints(records, 2) == records[1:2]
    assert filter_images_with_few_keypoints(records, 0) == records
    check_keypoints(records, ["people"], None)


def test_person_keypoints_of_real_images(datasets_dir, monkeypatch):
    monkeypatch.setenv("LUCIDET_DATASETS", str(datasets_dir))
    every = get_detection_dataset_dicts("keypoints_coco_2017_val")
    some = get_detection_dataset_dicts("keypoints_coco_2017_val", min_keypoints=10)
    assert 0 < len(some) < len(every)
    points = [a["keypoints"] for r in some for a in r["annotations"]]
    assert all(len(p) == 51 for p in points)
    assert {v % 1 for p in points for v in p[::3]} == {0.5}
