from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from lucidet.data.segmentation import bitmask_to_rle
from lucidet.structures import BitMasks, BoxMode, Instances, Keypoints, PolygonMasks
from lucidet.structures.outlines import mask_to_polygons, outlines
from lucidet.structures.rasterize import polygons_to_bitmask
from lucidet.utils.canvas import VisImage
from lucidet.utils.video_visualizer import VideoVisualizer
from lucidet.utils.visualizer import ColorMode, GenericMask, Visualizer

POLYGON = [10.0, 20.0, 30.0, 20.0, 30.0, 40.0, 10.0, 40.0]
PERSON = {
    "keypoint_names": ["nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"],
    "keypoint_connection_rules": [("left_shoulder", "right_shoulder", (0, 255, 0))],
}


def black(height: int = 60, width: int = 80) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


def square() -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 10:30] = True
    return mask


def test_outlines_cover_exactly_the_pixels():
    random = np.random.default_rng(0)
    for _ in range(100):
        height, width = random.integers(1, 12, 2).tolist()
        mask = random.random((height, width)) > random.random()
        polygons = mask_to_polygons(mask)
        assert np.array_equal(polygons_to_bitmask(polygons, height, width), mask)
    ring = np.ones((5, 7), dtype=bool)
    ring[2, 3] = False
    outer, holes = outlines(ring)
    assert (len(outer), len(holes)) == (1, 1)
    assert outer[0].max(0).tolist() == [7, 5]
    assert sorted(holes[0].tolist()) == [[3, 2], [3, 3], [4, 2], [4, 3]]
    assert len(mask_to_polygons(ring)) == 2
    assert mask_to_polygons(np.zeros((4, 4))) == mask_to_polygons(np.zeros((0, 4))) == []


@pytest.mark.parametrize(
    "given",
    [
        [POLYGON],
        [np.array(POLYGON)],
        square(),
        torch.from_numpy(square()),
        bitmask_to_rle(square()),
        {"size": [60, 80], "counts": [620, *[20, 40] * 19, 20, 3000 + 20]},
    ],
)
def test_generic_mask(given):
    mask = GenericMask(given, 60, 80)
    assert mask.mask.dtype == np.uint8
    assert np.array_equal(mask.mask, square())
    assert mask.area() == 400
    assert mask.bbox().tolist() == [10, 20, 30, 40]
    assert not mask.has_holes
    assert sorted(mask.polygons[0].reshape(-1, 2).tolist()) == [
        [10, 20],
        [10, 40],
        [30, 20],
        [30, 40],
    ]
    assert mask.at(120, 160).sum() == pytest.approx(1600, rel=0.1)


def test_generic_masks_that_are_odd():
    holed = square()
    holed[25:30, 15:20] = False
    mask = GenericMask(holed, 60, 80)
    assert mask.has_holes
    assert len(mask.polygons) == 2
    empty = GenericMask(np.zeros((60, 80)), 60, 80)
    assert (empty.area(), empty.bbox().tolist(), empty.polygons) == (0, [0, 0, 0, 0], [])
    with pytest.raises(ValueError, match=r"array \(60, 80\), got ndarray \(28, 28\)"):
        GenericMask(np.zeros((28, 28)), 60, 80)
    with pytest.raises(ValueError, match=r"\[5, 5\], expected the image's \[60, 80\]"):
        GenericMask({"size": [5, 5], "counts": "0"}, 60, 80)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_binary_mask_colors_its_pixels(scale):
    visualizer = Visualizer(black(), scale=scale)
    visualizer.draw_binary_mask(square(), "r", edge_color="b", alpha=0.5)
    image = visualizer.output.get_image()
    inside = image[round(30 * scale), round(20 * scale)]
    assert abs(int(inside[0]) - 128) <= 1
    assert image[round(20 * scale), round(20 * scale), 2] > 150  # the outline
    outside = image.any(axis=2)
    outside[round(20 * scale) : round(40 * scale), round(10 * scale) : round(30 * scale)] = False
    assert not outside.any()
    few = np.zeros((60, 80), dtype=bool)
    few[0, :5] = True
    assert not Visualizer(black()).draw_binary_mask(few).get_image().any()
    assert Visualizer(black()).draw_binary_mask(few, "r", area_threshold=2).get_image().any()


def test_text_of_masks(monkeypatch):
    written = []
    monkeypatch.setattr(VisImage, "text", lambda self, text, *rest: written.append(text))
    Visualizer(black()).draw_binary_mask(square(), "r", text="cat")
    Visualizer(black()).draw_soft_mask(square() * 0.9, "r", text="dog")
    Visualizer(black()).draw_soft_mask(square() * 0.3, "r", text="unsure")
    assert written == ["cat", "dog"]


def test_a_soft_mask_colors_by_its_shares():
    shares = np.linspace(0, 1, 80)[None].repeat(60, axis=0)
    image = Visualizer(black()).draw_soft_mask(torch.from_numpy(shares), "r", alpha=0.5).get_image()
    assert image[30, 0, 0] == 0
    assert abs(int(image[30, 79, 0]) - 128) <= 1
    assert (np.diff(image[30, :, 0].astype(int)) >= 0).all()
    assert Visualizer(black(), scale=2).draw_soft_mask(shares).get_image().shape == (120, 160, 3)
    with pytest.raises(ValueError, match=r"soft_mask is \(28, 28\), expected"):
        Visualizer(black()).draw_soft_mask(np.zeros((28, 28)))


def test_keypoints_are_drawn_and_connected():
    points = np.array([[40, 5, 0.9], [20, 20, 0.9], [60, 20, 0.9], [30, 50, 0.9], [50, 50, 0.01]])
    image = Visualizer(black(), PERSON).draw_and_connect_keypoints(points).get_image()
    assert image[20, 30].tolist() == [0, 255, 0]  # between the shoulders
    assert image[12, 40].tolist() == [255, 0, 0]  # from the nose to their middle
    assert image[5, 40].tolist() == [255, 0, 0]
    assert image[50, 30].any()
    assert not image[50, 50].any()  # too unsure, and so there is no line to the hips
    assert not image[35, 40].any()
    points[4, 2] = 1
    assert Visualizer(black(), PERSON).draw_and_connect_keypoints(points).get_image()[35, 40].any()
    plain = Visualizer(black()).draw_and_connect_keypoints(torch.from_numpy(points)).get_image()
    assert plain[20, 20].any()
    assert not plain[20, 30].any()
    points[0] = [float("nan"), 5, 1]
    Visualizer(black(), PERSON).draw_and_connect_keypoints(points)
    assert not Visualizer(black(), PERSON).draw_and_connect_keypoints([]).get_image().any()


@pytest.mark.parametrize(
    "masks",
    [
        PolygonMasks([[POLYGON], []]),
        BitMasks(torch.from_numpy(np.stack([square(), square() & False]))),
        np.stack([square(), square() & False]),
        [[POLYGON], None],
        [bitmask_to_rle(square()), []],
        [GenericMask(square(), 60, 80), None],
    ],
)
def test_instances_with_masks_of_any_kind(masks):
    image = Visualizer(black()).overlay_instances(masks=masks, labels=["", ""]).get_image()
    assert image[30, 20].any()
    assert not image[50].any()
    boxes = [[10, 20, 30, 40], [50, 5, 70, 15]]
    both = Visualizer(black()).overlay_instances(boxes=boxes, masks=masks).get_image()
    assert both[30, 20].any()
    assert both[5, 60].any()
    with pytest.raises(ValueError, match="1 boxes, but 2 masks"):
        Visualizer(black()).overlay_instances(boxes=boxes[:1], masks=masks)


def test_instances_with_keypoints():
    points = Keypoints([[[20, 20, 2], [40, 40, 0]], [[60, 50, 1], [5, 5, 2]]])
    image = Visualizer(black()).overlay_instances(keypoints=points, labels=["a", "b"]).get_image()
    assert image[20, 20].tolist() == [255, 0, 0]
    assert image[50, 60].tolist() == [255, 0, 0]
    Visualizer(black()).overlay_instances(keypoints=[None, np.zeros((0, 3))])
    with pytest.raises(ValueError, match="1 boxes, but 2 keypoints"):
        Visualizer(black()).overlay_instances(boxes=[[0, 0, 9, 9]], keypoints=points)


def predictions() -> Instances:
    found = Instances((60, 80))
    found.pred_boxes = torch.tensor([[10.0, 20, 30, 40]])
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    found.pred_masks = torch.from_numpy(square())[None]
    found.pred_masks[0, 20:30, 10:20] = False
    found.pred_keypoints = torch.tensor([[[25.0, 35.0, 0.9]]])
    return found


@pytest.mark.parametrize("make", [Visualizer, VideoVisualizer])
def test_everything_outside_the_masks_is_gray(make):
    colored = np.full((60, 80, 3), (90, 30, 0), dtype=np.uint8)
    found = predictions()
    if make is VideoVisualizer:
        picture = VideoVisualizer({}, ColorMode.IMAGE_BW)
        image = picture.draw_instance_predictions(colored, found).get_image()
    else:
        picture = Visualizer(colored, {}, instance_mode=ColorMode.IMAGE_BW)
        image = picture.draw_instance_predictions(found).get_image()
    assert (image[0, 79] == 40).all()
    assert (image[28, 18] == 40).all()  # in the box, not in the mask
    assert len(set(image[38, 15].tolist())) > 1  # in the mask
    assert image[35, 25].tolist() == [255, 0, 0]  # the keypoint
    gray = Visualizer(colored)._create_grayscale_image(square())
    assert gray[0, 0].tolist() == [40, 40, 40]
    assert gray[30, 20].tolist() == [90, 30, 0]


def test_dataset_dict_with_masks_and_keypoints():
    common = {"bbox": [10, 20, 30, 40], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    record = {
        "annotations": [
            {**common, "segmentation": [POLYGON], "keypoints": [20, 30, 2]},
            {**common, "segmentation": bitmask_to_rle(square()), "iscrowd": 1},
            common,
        ]
    }
    image = Visualizer(black(), {"thing_classes": ["cat"]}).draw_dataset_dict(record).get_image()
    assert image[30, 20].tolist() == [255, 0, 0]
    assert image[36, 26].any()
    assert not image[50:].any()


def test_no_instances_and_many():
    none = predictions()[:0]
    assert not Visualizer(black()).draw_instance_predictions(none).get_image().any()
    found = Instances((800, 1333))
    found.pred_masks = torch.zeros(100, 800, 1333, dtype=torch.bool)
    for k in range(100):
        found.pred_masks[k, 5 * k : 5 * k + 200, 8 * k : 8 * k + 300] = True
    started = time.process_time()
    Visualizer(black(800, 1333)).draw_instance_predictions(found)
    assert time.process_time() - started < 3.0
