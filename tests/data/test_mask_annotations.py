"""Masks and keypoints on their way from a record to Instances."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from lucidet.data import detection_utils as utils
from lucidet.data import transforms as T
from lucidet.data.mask_annotations import transform_segmentation
from lucidet.data.segmentation import bitmask_to_rle, segmentation_to_bitmask
from lucidet.structures import BitMasks, BoxMode, Instances, PolygonMasks
from tests.data.conftest import save_image

H, W = 40, 60
# a triangle, a shape of two parts, and one that crosses itself
POLYGONS = [
    [[10.0, 5.0, 50.0, 12.0, 20.0, 35.0]],
    [[2.0, 2.0, 12.0, 2.0, 12.0, 30.0, 2.0, 30.0], [40.0, 20.0, 58.0, 25.0, 44.0, 38.0]],
    [[5.0, 5.0, 55.0, 35.0, 55.0, 5.0, 5.0, 35.0]],
]
TRANSFORMS = [
    T.NoOpTransform(),
    T.HFlipTransform(W),
    T.VFlipTransform(H),
    T.CropTransform(8, 4, 30, 25, W, H),
    T.PadTransform(3, 4, 5, 6, W, H),
    T.ResizeTransform(H, W, 80, 120),
    T.ScaleTransform(H, W, 80, 120),
    T.RotationTransform(H, W, 30),
    T.RotationTransform(H, W, 25, expand=False),
    T.ExtentTransform((10, 5, 50, 35), (60, 80)),
    T.TransformList([T.HFlipTransform(W), T.CropTransform(5, 5, 40, 30), T.NoOpTransform()]),
]


class Shear(T.Transform):
    """A transform of user code, which says what it does to images and points only."""

    def apply_image(self, img):
        return T.AffineTransform(np.array([[1, 0.2, 0], [0, 1, 0]]), (H, W), (H, W)).apply_image(
            img
        )

    def apply_segmentation(self, segmentation):
        matrix = np.array([[1, 0.2, 0], [0, 1, 0]])
        return T.AffineTransform(matrix, (H, W), (H, W)).apply_segmentation(segmentation)

    def apply_coords(self, coords):
        return coords @ np.array([[1, 0], [0.2, 1]])


@pytest.mark.parametrize("transform", [*TRANSFORMS, Shear()], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("polygons", POLYGONS)
def test_polygons_and_pixels_follow_the_image_alike(transform, polygons):
    size = transform.apply_image(np.zeros((H, W), np.uint8)).shape
    moved = transform_segmentation(polygons, transform, size)
    mask = bitmask_to_rle(segmentation_to_bitmask(polygons, H, W))
    pixels = transform_segmentation(mask, transform, size, (H, W))
    filled = segmentation_to_bitmask(moved, *size)
    assert pixels.shape == size
    # resampling moves the border by up to a pixel
    assert (filled != pixels.astype(bool)).mean() < 0.04
    assert abs(int(filled.sum()) - int(pixels.sum())) < 0.06 * max(pixels.sum(), 1)


def test_a_crop_cuts_polygons():
    crop = T.CropTransform(10, 0, 20, 40)
    ell = [np.array([[0.0, 0], [40, 0], [40, 5], [5, 5], [5, 30], [0, 30]])]
    (part,) = crop.apply_polygons(ell)
    assert part.min(0).tolist() == [0, 0]
    assert part.max(0).tolist() == [20, 5]  # not 30 high, as the cut box would be
    comb = [np.array([[0.0, 0], [40, 0], [40, 9], [0, 9], [0, 6], [35, 6], [35, 3], [0, 3]])]
    assert len(crop.apply_polygons(comb)) == 2
    assert crop.apply_polygons([ell[0] + 100]) == []
    inside = [np.array([[11.0, 1], [12, 1], [12, 2]])]
    assert np.array_equal(crop.apply_polygons(inside)[0], inside[0] - [10, 0])


@pytest.fixture
def record(tmp_path):
    save_image(tmp_path / "x.png", H, W)

    def anno(number, polygons, **more):
        xy = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons])
        box = [*xy.min(0).tolist(), *xy.max(0).tolist()]
        return {
            "id": number,
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "segmentation": polygons,
            "keypoints": [box[0] + 1, box[1] + 1, 2, box[2] - 1, box[3] - 1, 1, 0, 0, 0],
            **more,
        }

    objects = [anno(10 + k, polygons) for k, polygons in enumerate(POLYGONS[:2])]
    crowd = anno(99, POLYGONS[2], iscrowd=1, segmentation={"size": [1, 1], "counts": [1]})
    return {
        "file_name": str(tmp_path / "x.png"),
        "image_id": 5,
        "height": H,
        "width": W,
        "annotations": [*objects, crowd],
    }


def mapper(*augmentations, **options):
    options = {"use_instance_mask": True, **options}
    return DatasetMapper(True, augmentations=augmentations, image_format="BGR", **options)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_the_mapper_gives_masks(record, mask_format):
    steps = [T.ResizeTransform(H, W, 80, 120), T.HFlipTransform(120)]
    found = mapper(*steps, instance_mask_format=mask_format)(record)["instances"]
    assert type(found.gt_masks) is (PolygonMasks if mask_format == "polygon" else BitMasks)
    assert len(found) == len(found.gt_masks) == 2
    boxes = found.gt_masks.get_bounding_boxes().tensor
    assert (boxes - found.gt_boxes.tensor).abs().max() <= 2
    assert "gt_keypoints" not in found.get_fields()
    empty = mapper(instance_mask_format=mask_format)({**record, "annotations": []})["instances"]
    assert len(empty.gt_masks) == 0


def test_run_lengths_are_decoded_for_the_mapper(record):
    for annotation in record["annotations"][:2]:
        mask = segmentation_to_bitmask(annotation["segmentation"], H, W)
        annotation["segmentation"] = bitmask_to_rle(mask)
    found = mapper(T.VFlipTransform(H), instance_mask_format="bitmask")(record)["instances"]
    expected = [segmentation_to_bitmask(p, H, W)[::-1] for p in POLYGONS[:2]]
    assert np.array_equal(found.gt_masks.tensor.numpy(), np.stack(expected))
    with pytest.raises(ValueError, match=r"x.png \(image_id 5\): annotation 10: .* 'bitmask'"):
        mapper()(record)


def test_boxes_are_recomputed_and_objects_without_mask_dropped(record, caplog):
    # of the first object only a tip is inside, of the second one part, and its box is cut
    crop = T.CropTransform(0, 0, 11, H)
    cut = mapper(crop)
    with caplog.at_level(logging.INFO):
        found = cut(record)["instances"]
        tight = mapper(crop, recompute_boxes=True)(record)["instances"]
        # the window holds a corner of the first object's box, and nothing of the object
        gone = mapper(T.CropTransform(0, 25, 16, 15))
        assert len(gone(record)["instances"]) == 1
    assert found.gt_boxes.tensor[1].tolist() == [2, 2, 11, 38]
    assert tight.gt_boxes.tensor[1].tolist() == [2, 2, 11, 30]
    assert (len(cut.emptied), len(gone.emptied)) == (0, 1)
    assert "mask is empty after augmentation are dropped: 1 so far" in caplog.text
    assert "image_id 5" in caplog.text


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "annotation 10: has no segmentation"),
        ([], "annotation 10: has no segmentation"),
        (
            {"size": [W, H], "counts": [H * W]},
            r"annotation 10: .*\[60, 40\], expected the image's \[40, 60\]",
        ),
        ({"size": [H, W], "counts": "garbage"}, "annotation 10: .*can't be read"),
        ([["x", "y"]], "annotation 10: polygon 0 must be"),
        (np.ones((5, 5)), "annotation 10: the mask is 5 x 5 .*expected the image's 40 x 60"),
    ],
)
def test_masks_that_can_not_be_used_are_named(record, segmentation, message):
    record["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(ValueError, match=rf"image .*x.png \(image_id 5\), {message}"):
        mapper(instance_mask_format="bitmask")(record)
    assert (
        len(mapper(use_instance_mask=False)(record)["instances"]) == 2
    )  # boxes only: not looked at


def test_keypoints_follow_and_change_sides(record):
    swap = np.array([1, 0, 2])
    options = {"use_instance_mask": False, "use_keypoint": True, "keypoint_hflip_indices": swap}
    plain = mapper(**options)(record)["instances"].gt_keypoints.tensor
    assert plain[0].tolist() == [[11, 6, 2], [49, 34, 1], [0, 0, 0]]
    flipped = mapper(T.HFlipTransform(W), **options)(record)["instances"].gt_keypoints.tensor
    assert flipped[0].tolist() == [[11, 34, 1], [49, 6, 2], [0, 0, 0]]
    twice = mapper(T.HFlipTransform(W), T.HFlipTransform(W), **options)(record)["instances"]
    assert twice.gt_keypoints.tensor.equal(plain)
    turned = mapper(T.RotationTransform(H, W, 180), **options)(record)["instances"]
    assert turned.gt_keypoints.tensor[0, 0].tolist() == [49, 34, 2]
    cropped = mapper(T.CropTransform(0, 0, 30, 40), **options)(record)["instances"]
    assert cropped.gt_keypoints.tensor[0].tolist() == [[11, 6, 2], [0, 0, 0], [0, 0, 0]]
    for change, message in (
        ([1, 2, 2, 3], "4 numbers"),
        ([1, 2, 2], "has 1 keypoints, the dataset's metadata .* 3"),
        ("nose", "must be numbers"),
    ):
        record["annotations"][1]["keypoints"] = change
        with pytest.raises(ValueError, match=rf"image_id 5\), annotation 11: .*{message}"):
            mapper(**options)(record)
    record["annotations"][1]["keypoints"] = None  # nothing is labelled
    assert mapper(**options)(record)["instances"].gt_keypoints.tensor[1].sum() == 0
    none = mapper(**options)({**record, "annotations": []})["instances"]
    assert none.gt_keypoints.tensor.shape == (0, 3, 3)


def test_mirrored_by_a_transform_of_user_code():
    class Mirror(T.Transform):
        def apply_coords(self, coords):
            return coords * [-1, 1] + [W, 0]

    swap = np.array([1, 0])
    points = [10, 5, 2, 20, 5, 1]
    moved = utils.transform_keypoint_annotations(points, [Mirror()], (H, W), swap)
    assert moved.tolist() == [[40, 5, 1], [50, 5, 2]]


def test_flip_indices_come_from_the_metadata():
    name = "points_for_test"
    names = ["nose", "left_eye", "right_eye"]
    meta = MetadataCatalog.get(name)
    meta.set(keypoint_names=names, keypoint_flip_map=[("left_eye", "right_eye")])
    try:
        assert utils.create_keypoint_hflip_indices(name).tolist() == [0, 2, 1]
        assert utils.create_keypoint_hflip_indices([name]).dtype == np.int64
        MetadataCatalog.remove(name)
        with pytest.raises(AttributeError, match="keypoint_names"):
            utils.create_keypoint_hflip_indices([name])
        MetadataCatalog.get(name).set(keypoint_names=names, keypoint_flip_map=[("a", "b")])
        with pytest.raises(ValueError, match=r"\['a', 'b'\], which keypoint_names lacks"):
            utils.create_keypoint_hflip_indices([name])
    finally:
        MetadataCatalog.remove(name)


def test_functions_for_mappers_of_user_code(record):
    """The classic mapper of detectron2's tutorials."""
    image = np.zeros((H, W, 3), np.uint8)
    image, transforms = T.apply_augmentations([T.HFlipTransform(W)], image)
    annos = [
        utils.transform_instance_annotations(dict(a), transforms, (H, W))
        for a in record["annotations"]
        if not a.get("iscrowd", 0)
    ]
    found = utils.annotations_to_instances(annos, (H, W))
    assert isinstance(found.gt_masks, PolygonMasks)
    assert found.gt_keypoints.tensor.shape == (2, 3, 3)
    bits = utils.annotations_to_instances(annos, (H, W), mask_format="bitmask").gt_masks
    assert torch.equal(bits.tensor, BitMasks.from_polygon_masks(found.gt_masks, H, W).tensor)
    assert len(utils.filter_empty_instances(found)) == 2
    rle = {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "segmentation": {"size": [9, 9]}}
    with pytest.raises(ValueError, match="has 'size' and 'counts'"):
        utils.transform_instance_annotations(rle, transforms, (9, 9))
    rle["segmentation"] = {"size": [10**6, 10**6], "counts": "0"}
    with pytest.raises(ValueError, match="more than 268435456 pixels"):
        utils.transform_instance_annotations(rle, transforms, (9, 9))
    with pytest.raises(ValueError, match=r"after the transforms, its image 9 x 9"):
        transform_segmentation(np.ones((8, 8)), T.NoOpTransform(), (9, 9))
    assert isinstance(utils.annotations_to_instances([], (H, W)), Instances)


def test_masks_of_real_images_follow_the_mapper(datasets_dir, monkeypatch):
    monkeypatch.setenv("LUCIDET_DATASETS", str(datasets_dir))
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.CROP.ENABLED = True
    with_masks = DatasetMapper(cfg, True)
    assert with_masks.recompute_boxes
    for record in DatasetCatalog.get("coco_2017_val")[:5]:
        np.random.seed(0)
        found = with_masks(record)["instances"]
        bits = BitMasks.from_polygon_masks(found.gt_masks, *found.image_size)
        assert bits.nonempty().float().mean() > 0.9
        boxes = bits.get_bounding_boxes().tensor[bits.nonempty()]
        # a tip that is narrower than a pixel has none
        assert (boxes - found.gt_boxes.tensor[bits.nonempty()]).abs().median() <= 0.5
