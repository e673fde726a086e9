from __future__ import annotations

import math

import pytest
import torch

from lucidet.structures import (
    Boxes,
    BoxMode,
    RotatedBoxes,
    pairwise_iou,
    pairwise_iou_rotated,
)


def random_rotated(n: int) -> torch.Tensor:
    return torch.cat(
        [torch.rand(n, 2) * 20, 1 + torch.rand(n, 2) * 20, torch.rand(n, 1) * 720 - 360], dim=1
    )


def counted_iou(a: torch.Tensor, b: torch.Tensor) -> float:
    """Count cells of a fine grid in both boxes: slow, and shares no code with the library."""
    axis = torch.linspace(-25, 45, 701, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)

    def inside(box: torch.Tensor) -> torch.Tensor:
        x, y, w, h, degrees = box.double().tolist()
        turned = (points - points.new_tensor([x, y])).unbind(1)
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return ((c * turned[0] - s * turned[1]).abs() <= w / 2) & (
            (s * turned[0] + c * turned[1]).abs() <= h / 2
        )

    one, two = inside(a), inside(b)
    return float((one & two).sum() / (one | two).sum())


def test_iou_against_counting():
    a, b = random_rotated(4), random_rotated(3)
    iou = pairwise_iou_rotated(RotatedBoxes(a), RotatedBoxes(b))
    for i in range(4):
        for j in range(3):
            assert float(iou[i, j]) == pytest.approx(counted_iou(a[i], b[j]), abs=1e-2)


def test_upright_boxes_agree_with_boxes():
    a, b = random_rotated(20), random_rotated(30)
    for boxes in (a, b):
        boxes[:, 4] = torch.randint(-4, 5, (len(boxes),)) * 90.0
    upright = [Boxes(BoxMode.convert(x, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)) for x in (a, b)]
    torch.testing.assert_close(
        pairwise_iou_rotated(RotatedBoxes(a), RotatedBoxes(b)),
        pairwise_iou(*upright),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2, 45], [0, 0, 2, 2, 45], 1.0),
        ([0, 0, 2, 2, 0], [0, 0, 2, 2, 45], 0.70710678),  # a regular octagon
        ([0, 0, 4, 2, 30], [0, 0, 2, 1, 30], 0.25),
        ([0, 0, 2, 2, 0], [2, 0, 2, 2, 0], 0.0),  # share a side
        ([0, 0, 2, 0, 10], [0, 0, 2, 2, 0], 0.0),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], 0.0),
        ([1e4, 1e4, 600, 10, 33], [1e4, 1e4, 600, 10, 213], 1.0),
        ([160, 153, 230, 23, -37], [190, 127, 80, 21, -46], None),
    ],
)
def test_iou_of_special_pairs(a, b, expected):
    iou = pairwise_iou_rotated(RotatedBoxes([a, b]), RotatedBoxes([a, b]))
    assert float(iou[0, 1]) == pytest.approx(float(iou[1, 0]), abs=1e-6)
    if expected is not None:
        assert float(iou[0, 1]) == pytest.approx(expected, abs=1e-5)


def test_identical_boxes_have_iou_1():
    boxes = RotatedBoxes(random_rotated(50))
    torch.testing.assert_close(pairwise_iou_rotated(boxes, boxes).diagonal(), torch.ones(50))


def test_no_boxes():
    none, some = RotatedBoxes([]), RotatedBoxes(random_rotated(2))
    assert pairwise_iou_rotated(none, some).shape == (0, 2)
    assert pairwise_iou_rotated(some, none).shape == (2, 0)
    assert RotatedBoxes.cat([]).tensor.shape == (0, 5)
    assert len(RotatedBoxes.cat([none, some])) == 2
    none.clip((10, 10))
    assert none.area().shape == (0,)


def test_methods():
    boxes = RotatedBoxes([[5, 5, 20, 4, 0.5], [5, 5, 20, 4, 60], [90, 5, 2, 0, 190]])
    assert boxes.area().tolist() == [80, 80, 0]
    assert boxes.nonempty().tolist() == [True, True, False]
    assert boxes.inside_box((10, 50)).tolist() == [True, True, False]
    assert boxes.inside_box((10, 50), boundary_threshold=41).tolist() == [True, True, True]
    assert boxes.get_centers().tolist() == [[5, 5], [5, 5], [90, 5]]
    clipped = boxes.clone()
    clipped.clip((50, 50))
    assert clipped.tensor[0].tolist() == [7.5, 5, 15, 4, 0.5]
    assert clipped.tensor[1].tolist() == [5, 5, 20, 4, 60]
    assert clipped.tensor[2, 4] == -170
    assert boxes[1].tensor.shape == (1, 5)
    assert len(boxes[boxes.nonempty()]) == 2
    assert isinstance(boxes.to("cpu"), RotatedBoxes)
    assert str(boxes).startswith("RotatedBoxes(")
    assert len(list(boxes)) == 3


def test_scale_moves_the_corners_of_the_sides():
    boxes = RotatedBoxes([[4, 6, 10, 4, 0], [4, 6, 10, 4, 90], [4, 6, 10, 4, 30]])
    boxes.scale(2, 3)
    torch.testing.assert_close(boxes.tensor[0], torch.tensor([8.0, 18, 20, 12, 0]))
    torch.testing.assert_close(boxes.tensor[1], torch.tensor([8.0, 18, 30, 8, 90]))
    uniform = RotatedBoxes([[4, 6, 10, 4, 30]])
    uniform.scale(2, 2)
    torch.testing.assert_close(uniform.tensor[0], torch.tensor([8.0, 12, 20, 8, 30]))


def test_errors_teach():
    with pytest.raises(ValueError, match=r"shape \(N, 5\), got \(1, 4\)"):
        RotatedBoxes([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="takes RotatedBoxes, got Boxes"):
        RotatedBoxes.cat([Boxes([])])
