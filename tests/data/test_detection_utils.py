from __future__ import annotations

import numpy as np
import pytest
import torch

from lucidet.config import get_cfg
from lucidet.data import MetadataCatalog
from lucidet.data import detection_utils as utils
from lucidet.data import transforms as T
from lucidet.structures import Boxes, BoxMode, Instances, PolygonMasks


def anno(bbox, mode=BoxMode.XYXY_ABS, category=0):
    return {"bbox": bbox, "bbox_mode": mode, "category_id": category}


@pytest.mark.parametrize(
    ("annos", "expected"),
    [
        ([], np.zeros((0, 4))),
        ([anno([1, 2, 3, 4])], [[1, 2, 3, 4]]),
        ([anno([1, 2, 3, 4], BoxMode.XYWH_ABS)], [[1, 2, 4, 6]]),
        (
            [anno([1, 2, 3, 4], BoxMode.XYWH_ABS), anno([1, 2, 3, 4])],
            [[1, 2, 4, 6], [1, 2, 3, 4]],
        ),
        ([anno([1, 2, 0, 0], BoxMode.XYWH_ABS)], [[1, 2, 1, 2]]),
    ],
)
def test_annotations_to_xyxy(annos, expected):
    np.testing.assert_array_equal(utils.annotations_to_xyxy(annos), expected)


def test_transform_instance_annotations_moves_and_clips():
    obj = anno([10, 5, 30, 10], BoxMode.XYWH_ABS)
    moved = utils.transform_instance_annotations(obj, [T.HFlipTransform(36)], (12, 36))
    assert moved is obj
    np.testing.assert_allclose(moved["bbox"], [0, 5, 26, 12])
    assert moved["bbox_mode"] == BoxMode.XYXY_ABS


def test_annotations_to_instances():
    made = utils.annotations_to_instances([anno([1, 2, 3, 4], category=5)], (10, 20))
    assert made.image_size == (10, 20)
    assert made.gt_boxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert made.gt_classes.tolist() == [5]
    assert made.gt_boxes.tensor.dtype == torch.float32
    none = utils.annotations_to_instances([], (10, 20))
    assert len(none) == 0
    assert none.gt_boxes.tensor.shape == (0, 4)
    assert none.gt_classes.dtype == torch.int64


def test_annotations_to_rotated_instances():
    rotated = pytest.importorskip("lucidet.structures.rotated_boxes")
    made = utils.annotations_to_instances_rotated(
        [anno([5, 5, 4, 2, 30], BoxMode.XYWHA_ABS, 2)], (10, 20)
    )
    assert isinstance(made.gt_boxes, rotated.RotatedBoxes)
    assert made.gt_classes.tolist() == [2]
    assert len(utils.annotations_to_instances_rotated([], (10, 20))) == 0


def test_filter_empty_instances():
    boxes = torch.tensor([[0.0, 0, 5, 5], [1, 1, 1, 5], [2, 2, 3, 2]])
    instances = Instances((10, 10), gt_boxes=Boxes(boxes), gt_classes=torch.tensor([4, 5, 6]))
    kept, mask = utils.filter_empty_instances(instances, return_mask=True)
    assert kept.gt_classes.tolist() == [4]
    assert mask.tolist() == [True, False, False]
    assert len(utils.filter_empty_instances(instances[:0])) == 0
    assert len(utils.filter_empty_instances(Instances((10, 10), scores=torch.ones(2)))) == 2
    instances.gt_masks = PolygonMasks([[], [[0, 0, 5, 0, 5, 5]], [[0, 0, 5, 0, 5, 5]]])
    assert utils.filter_empty_instances(instances, by_box=False).gt_classes.tolist() == [5, 6]
    assert utils.filter_empty_instances(instances, by_mask=False).gt_classes.tolist() == [4]
    assert len(utils.filter_empty_instances(instances)) == 0
    with pytest.raises(ValueError, match=r"one of by_box and by_mask"):
        utils.filter_empty_instances(instances, by_box=False, by_mask=False)


def test_crop_around_an_object():
    for seed in range(40):
        np.random.seed(seed)
        crop = utils.gen_crop_transform_with_instance((15, 20), (40, 60), anno([30, 5, 50, 9]))
        assert (crop.w, crop.h) == (20, 15)
        assert 0 <= crop.x0 <= 40 <= crop.x0 + 20 <= 60
        assert 0 <= crop.y0 <= 7 <= crop.y0 + 15 <= 40
    whole = utils.gen_crop_transform_with_instance((99, 99), (40, 60), anno([0, 0, 0, 0]))
    assert (whole.x0, whole.y0, whole.w, whole.h) == (0, 0, 60, 40)
    with pytest.raises(ValueError, match=r"outside the image of 60 x 40"):
        utils.gen_crop_transform_with_instance((9, 9), (40, 60), anno([70, 0, 80, 5]))


def test_check_image_size():
    image = np.zeros((4, 6, 3), np.uint8)
    record = {"file_name": "x.jpg", "image_id": 3}
    utils.check_image_size(record, image)
    assert (record["width"], record["height"]) == (6, 4)
    utils.check_image_size(record, image)
    wrong = {"file_name": "x.jpg", "image_id": 3, "width": 7, "height": 4}
    with pytest.raises(
        utils.SizeMismatchError, match=r"x.jpg .image_id 3. is 6 x 4.*say 7 x 4.*correct"
    ):
        utils.check_image_size(wrong, image)
    turned = {"file_name": "x.jpg", "width": 4, "height": 6}
    with pytest.raises(ValueError, match=r"transpose.*EXIF"):
        utils.check_image_size(turned, image)


def test_metadata_consistency(name):
    other = f"{name}_2"
    MetadataCatalog.get(name).thing_classes = ["a"]
    MetadataCatalog.get(other).thing_classes = ["a", "b"]
    try:
        utils.check_metadata_consistency("thing_classes", [name, name])
        with pytest.raises(ValueError, match=f"{name}' and '{other}' can't be used together"):
            utils.check_metadata_consistency("thing_classes", [name, other])
        with pytest.raises(AttributeError, match=r"has no 'colour'"):
            utils.check_metadata_consistency("colour", [name])
        with pytest.raises(ValueError, match=r"set DATASETS.TRAIN"):
            utils.check_metadata_consistency("thing_classes", [])
    finally:
        MetadataCatalog.remove(other)


def test_build_augmentation():
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (640, 800)
    cfg.INPUT.RANDOM_FLIP = "vertical"
    resize, flip = utils.build_augmentation(cfg, True)
    assert (resize.short_edge_length, resize.max_size) == ((640, 800), 1333)
    assert (resize.sample_style, resize.fast) == ("choice", True)
    assert flip.vertical
    (resize,) = utils.build_augmentation(cfg, False)
    assert (resize.short_edge_length, resize.fast) == ((800, 800), False)
    cfg.INPUT.RANDOM_FLIP = "none"
    assert len(utils.build_transform_gen(cfg, True)) == 1
    cfg.INPUT.RANDOM_FLIP = "sideways"
    with pytest.raises(ValueError, match=r"INPUT.RANDOM_FLIP.*got 'sideways'"):
        utils.build_augmentation(cfg, True)
