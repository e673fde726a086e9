from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from lucidet.structures import (
    Boxes,
    BoxMode,
    matched_boxlist_iou,
    matched_pairwise_iou,
    pairwise_intersection,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance,
)


def random_boxes(n: int, size: float = 100.0) -> torch.Tensor:
    corners = torch.rand(n, 2) * size
    return torch.cat([corners, corners + torch.rand(n, 2) * size], dim=1)


@pytest.mark.parametrize(
    ("box", "source", "target", "expected"),
    [
        ([5, 6, 10, 20], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS, [5, 6, 15, 26]),
        ((5, 6, 15, 26), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS, (5, 6, 10, 20)),
        ([1.1, 2, 3, 4], BoxMode.XYWH_ABS, BoxMode.XYWH_ABS, [1.1, 2, 3, 4]),
        ([5, 6, 10, 20], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS, [10, 16, 10, 20, 0]),
        ([10, 16, 10, 20, 90], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS, [0, 11, 20, 21]),
        (
            [0, 0, 2, 2, 45],
            BoxMode.XYWHA_ABS,
            BoxMode.XYXY_ABS,
            [-math.sqrt(2)] * 2 + [math.sqrt(2)] * 2,
        ),
        ([3, 3, 0, 0], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS, [3, 3, 3, 3]),
    ],
)
def test_convert_one_box_keeps_its_type(box, source, target, expected):
    result = BoxMode.convert(box, source, target)
    assert type(result) is type(box)
    assert list(result) == pytest.approx(list(expected))


@pytest.mark.parametrize("make", [torch.tensor, lambda rows: np.array(rows)])
@pytest.mark.parametrize("rows", [[[5.0, 6, 10, 20], [0, 0, 0, 0]], np.zeros((0, 4)).tolist()])
def test_convert_round_trip(make, rows):
    boxes = make(rows).reshape(-1, 4)
    there = BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    back = BoxMode.convert(there, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert type(back) is type(boxes)
    assert back.dtype == boxes.dtype
    assert (back == boxes).all()
    assert there is not boxes


def test_convert_refuses():
    with pytest.raises(NotImplementedError, match=r"XYXY_REL.*multiplied by the image's width"):
        BoxMode.convert([0, 0, 1, 1], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
    with pytest.raises(ValueError, match="XYWH_ABS box has 4 numbers, got 5"):
        BoxMode.convert([0, 0, 1, 1, 1], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    with pytest.raises(ValueError, match="array or tensor"):
        BoxMode.convert([[0, 0, 1, 1]], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)


def test_making_boxes():
    assert Boxes([]).tensor.shape == (0, 4)
    assert Boxes(torch.zeros(0)).tensor.shape == (0, 4)
    assert Boxes(np.zeros((2, 4), dtype=np.int64)).tensor.dtype == torch.float32
    with pytest.raises(ValueError, match=r"shape \(N, 4\), got \(4,\)"):
        Boxes([1, 2, 3, 4])


def test_methods():
    boxes = Boxes([[0, 0, 10, 20], [5, 5, 5, 9], [-3, 2, 50, 8]])
    assert boxes.area().tolist() == [200, 0, 318]
    assert boxes.nonempty().tolist() == [True, False, True]
    assert boxes.nonempty(threshold=9).tolist() == [True, False, False]
    assert boxes.get_centers().tolist() == [[5, 10], [5, 7], [23.5, 5]]
    assert boxes.inside_box((21, 40)).tolist() == [True, True, False]
    assert boxes.inside_box((20, 50), boundary_threshold=4).tolist() == [True, True, True]
    copy = boxes.clone()
    copy.clip((6, 12))
    assert copy.tensor.tolist() == [[0, 0, 10, 6], [5, 5, 5, 6], [0, 2, 12, 6]]
    assert boxes.tensor[2, 0] == -3
    copy.scale(2, 0.5)
    assert copy.tensor[2].tolist() == [0, 1, 24, 3]
    assert [row.tolist() for row in boxes] == boxes.tensor.tolist()
    assert str(boxes).startswith("Boxes(tensor(")
    assert boxes.to("cpu").device == torch.device("cpu")


def test_indexing():
    boxes = Boxes(random_boxes(4))
    assert boxes[1].tensor.shape == (1, 4)
    assert len(boxes[1:3]) == 2
    assert len(boxes[torch.tensor([True, False, False, True])]) == 2
    assert len(boxes[torch.zeros(4, dtype=torch.bool)]) == 0
    assert boxes[torch.tensor([2, 2])].tensor.equal(boxes.tensor[[2, 2]])
    with pytest.raises(ValueError, match="gives shape"):
        boxes[torch.tensor(1)]


def test_cat():
    a, b = Boxes(random_boxes(2)), Boxes([])
    assert len(Boxes.cat([])) == 0
    assert Boxes.cat([a, b, a]).tensor.equal(torch.cat([a.tensor, a.tensor]))
    assert Boxes.cat([a]).tensor.data_ptr() != a.tensor.data_ptr()
    with pytest.raises(ValueError, match="takes Boxes, got Tensor"):
        Boxes.cat([a.tensor])


def test_clip_refuses_infinity_and_keeps_the_gradient():
    with pytest.raises(ValueError, match=r"box 1 of 2 is .*diverged"):
        Boxes([[0, 0, 1, 1], [0, 0, math.nan, 1]]).clip((4, 4))
    tensor = torch.tensor([[1.0, 1, 2, 9]], requires_grad=True)
    boxes = Boxes(tensor)
    boxes.clip((4, 4))
    boxes.area().sum().backward()
    assert tensor.grad is not None


@pytest.mark.parametrize(("n", "m"), [(5, 7), (0, 3), (3, 0), (0, 0)])
def test_pairwise_against_torchvision(n, m):
    a, b = random_boxes(n), random_boxes(m)
    torch.testing.assert_close(pairwise_iou(Boxes(a), Boxes(b)), box_iou(a, b))
    inter = pairwise_intersection(Boxes(a), Boxes(b))
    assert inter.shape == (n, m)
    torch.testing.assert_close(pairwise_ioa(Boxes(a), Boxes(b)), inter / Boxes(b).area())


def test_degenerate_boxes_have_iou_0_and_a_finite_gradient():
    a = torch.tensor([[1.0, 1, 1, 1], [0, 0, 4, 0]], requires_grad=True)
    iou = pairwise_iou(Boxes(a), Boxes([[1, 1, 1, 1], [0, 0, 4, 4]]))
    assert iou.tolist() == [[0, 0], [0, 0]]
    assert pairwise_ioa(Boxes([[0, 0, 4, 4]]), Boxes(a)).tolist() == [[0, 0]]
    iou.sum().backward()
    assert a.grad.isfinite().all()


def test_matched_iou_is_the_diagonal():
    a, b = Boxes(random_boxes(6)), Boxes(random_boxes(6))
    for function in (matched_pairwise_iou, matched_boxlist_iou):
        torch.testing.assert_close(function(a, b), pairwise_iou(a, b).diagonal())
    assert matched_pairwise_iou(Boxes([]), Boxes([])).shape == (0,)
    with pytest.raises(ValueError, match="got 6 and 1 boxes; pairwise_iou compares all"):
        matched_pairwise_iou(a, b[0])


def test_point_box_distance():
    distance = pairwise_point_box_distance(torch.tensor([[3.0, 4.0]]), Boxes([[1, 1, 9, 5]]))
    assert distance.tolist() == [[[2, 3, 6, 1]]]
    assert pairwise_point_box_distance(torch.zeros(0, 2), Boxes([])).shape == (0, 0, 4)
