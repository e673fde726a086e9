from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lucidet.structures import BoxMode
from lucidet.utils.canvas import VisImage, brightened
from lucidet.utils.visualizer import ColorMode, Visualizer

RED = (255, 0, 0)


def black(height: int = 60, width: int = 80) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


class Predictions:
    """The part of Instances that drawing needs."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def has(self, name):
        return name in self.__dict__


def test_box_pixels_are_where_the_box_is():
    visualizer = Visualizer(black())
    image = visualizer.draw_box((10, 20, 30, 40), alpha=1.0, edge_color="r").get_image()
    assert image.shape == (60, 80, 3)
    assert image.dtype == np.uint8
    drawn = (image == RED).all(axis=2)
    ys, xs = np.nonzero(drawn)
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (10, 20, 29, 39)  # half-open, no "+1"
    assert drawn[20, 10:30].all()
    assert drawn[20:40, 29].all()
    assert not drawn[25:35, 15:25].any()
    assert visualizer.get_output() is visualizer.output


def test_scale_moves_boxes_with_the_picture():
    visualizer = Visualizer(black(), scale=2.0)
    image = visualizer.draw_box((10, 20, 30, 40), alpha=1.0, edge_color="r").get_image()
    assert image.shape == (120, 160, 3)
    ys, xs = np.nonzero(image[..., 0])
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (20, 40, 59, 79)


def test_alpha_blends():
    image = Visualizer(black()).draw_box((10, 20, 30, 40), alpha=0.5, edge_color="r").get_image()
    assert abs(int(image[20, 15, 0]) - 128) <= 1


@pytest.mark.parametrize(
    "box",
    [(10, 10, 10, 30), (10, 10, 10, 10), (30, 30, 10, 10), (-50, -50, 500, 500), (0, 0, 1e9, 1e9)],
)
def test_odd_boxes_are_drawn(box):
    started = time.process_time()
    Visualizer(black()).overlay_instances(boxes=[box], labels=["odd"])
    assert time.process_time() - started < 1.0


def test_nothing_to_draw():
    for boxes in (None, [], torch.zeros(0, 4), np.zeros((0, 5))):
        image = Visualizer(black()).overlay_instances(boxes=boxes, labels=[]).get_image()
        assert not image.any()


def test_box_that_is_not_finite_is_left_out_with_a_warning(caplog):
    boxes = torch.tensor([[float("nan"), 0, 5, 5], [10, 20, 30, 40]])
    image = Visualizer(black()).overlay_instances(boxes=boxes).get_image()
    assert image[20, 15].any()
    assert "1 boxes are not finite" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": [[0, 0, 1]]}, r"shape \(R, 4\) or, rotated, \(R, 5\), got \(1, 3\)"),
        ({"boxes": [[0, 0, 1, 1]], "labels": ["a", "b"]}, "1 boxes, but 2 labels"),
        ({"boxes": [[0, 0, 1, 1]], "assigned_colors": []}, "1 boxes, but 0 assigned_colors"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Visualizer(black()).overlay_instances(**arguments)


def test_picture_of_another_shape():
    with pytest.raises(ValueError, match=r"\(H, W, 3\), got shape \(3, 60, 80\).*permute"):
        Visualizer(np.zeros((3, 60, 80)))
    with pytest.raises(ValueError, match="scale must be positive"):
        VisImage(black(), scale=0)


def test_predictions_show_class_and_score(monkeypatch):
    written = []
    monkeypatch.setattr(VisImage, "text", lambda self, text, *rest: written.append(text))
    predictions = Predictions(
        pred_boxes=torch.tensor([[5.0, 5, 20, 20], [5, 5, 60, 50], [0, 0, 9, 9]]),
        scores=torch.tensor([0.984, 0.5, 0.05]),
        pred_classes=torch.tensor([1, 0, 7]),
    )
    metadata = SimpleNamespace(thing_classes=["person", "bus"])
    output = Visualizer(black(), metadata).draw_instance_predictions(predictions)
    assert written == ["person 50%", "bus 98%", "7 5%"]  # the largest first
    assert output.get_image().any()


def test_predictions_without_anything():
    assert not Visualizer(black()).draw_instance_predictions(Predictions()).get_image().any()


def test_color_modes():
    predictions = Predictions(
        pred_boxes=torch.tensor([[10.0, 20, 30, 40]]), pred_classes=torch.tensor([0])
    )
    metadata = {"thing_colors": [(0, 0, 255)]}
    image = Visualizer(
        black(), metadata, instance_mode=ColorMode.SEGMENTATION
    ).draw_instance_predictions(Predictions(**vars(predictions)))
    edge = image.get_image()[39, 29]
    assert edge[2] > 150
    assert edge[:2].max() == 0

    coloured = np.full((60, 80, 3), (90, 30, 0), dtype=np.uint8)
    image = (
        Visualizer(coloured, instance_mode=ColorMode.IMAGE_BW)
        .draw_instance_predictions(predictions)
        .get_image()
    )
    assert (image[0, 79] == 40).all()  # grey outside
    assert (image[35, 20] == (90, 30, 0)).all()  # as it was inside


def test_labels_stay_in_the_picture_and_apart():
    visualizer = Visualizer(black(200, 300))
    boxes = [(-20, -20, 30, 30), (280, 180, 320, 220), (100, 100, 150, 150), (100, 100, 151, 151)]
    visualizer.overlay_instances(boxes=boxes, labels=["person 99%"] * 4)
    plates = visualizer._plates
    assert len(plates) == 4
    for x1, y1, x2, y2 in plates:
        assert x1 >= 0
        assert y1 >= 0
        assert x2 <= 300
        assert y2 <= 200
    for i, a in enumerate(plates):
        for b in plates[:i]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_text_can_be_read_whatever_its_colour():
    for color in ((0, 0, 255), (0, 0, 0), (255, 255, 255)):
        r, g, b = brightened(color)
        assert 0.299 * r + 0.587 * g + 0.114 * b >= 174
    white = np.full((60, 80, 3), 255, dtype=np.uint8)
    image = Visualizer(white).draw_text("ab", (40, 10), color="b").get_image()
    assert image.min() < 80  # the dark plate
    with pytest.raises(ValueError, match="horizontal_alignment"):
        Visualizer(white).draw_text("ab", (0, 0), horizontal_alignment="middle")


def test_shapes():
    visualizer = Visualizer(black())
    visualizer.draw_line([0, 79], [5, 5], "r", linewidth=1)
    visualizer.draw_circle((40, 30), (0, 1, 0), radius=2)
    visualizer.draw_polygon([(60, 40), (70, 40), (65, 50)], "b", alpha=1.0)
    visualizer.draw_text("turned", (20, 45), rotation=90)
    image = visualizer.get_output().get_image()
    assert (image[5, :] == RED).all()
    assert (image[30, 40] == (0, 255, 0)).all()
    assert (image[43, 65] == (0, 0, 255)).all()
    assert image[35:55, 10:30].any()


def test_dashed_line_has_gaps():
    image = Visualizer(black()).draw_line([0, 79], [5, 5], "r", "--", linewidth=1).get_image()
    drawn = image[5, :, 0] > 0
    assert 0.3 < drawn.mean() < 0.8


def test_rotated_box():
    visualizer = Visualizer(black())
    # width 40, height 10, turned by a quarter: 10 wide and 40 high around (40, 30)
    visualizer.overlay_rotated_instances(
        torch.tensor([[40.0, 30, 40, 10, 90]]), assigned_colors=["r"]
    )
    ys, xs = np.nonzero(visualizer.output.get_image()[..., 0])
    assert abs(xs.min() - 35) <= 1
    assert abs(xs.max() - 45) <= 1
    assert abs(ys.min() - 10) <= 1
    assert abs(ys.max() - 50) <= 1


def test_dataset_dict(monkeypatch):
    written = []
    monkeypatch.setattr(VisImage, "text", lambda self, text, *rest: written.append(text))
    record = {
        "annotations": [
            {"bbox": [10, 20, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
            {"bbox": [1, 2, 5, 6], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 1},
        ]
    }
    visualizer = Visualizer(black(), {"thing_classes": ["cat", "dog"]})
    image = visualizer.draw_dataset_dict(record).get_image()
    assert written == ["cat", "dog|crowd"]
    assert image[39, 29].any()
    assert not image[41:, :].any()
    assert not Visualizer(black()).draw_dataset_dict({"file_name": "x"}).get_image().any()


def test_save_and_speed(tmp_path):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 700, (100, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 400, (100, 2))], axis=1)
    visualizer = Visualizer(black(800, 1333))
    started = time.process_time()
    visualizer.overlay_instances(boxes=boxes, labels=["person 99%"] * 100)
    visualizer.output.save(tmp_path / "out.jpg")
    assert time.process_time() - started < 1.0
    assert Image.open(tmp_path / "out.jpg").size == (1333, 800)
