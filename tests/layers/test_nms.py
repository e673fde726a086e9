from __future__ import annotations

import pytest
import torch
from torchvision.ops import boxes as box_ops

from lucidet.layers import (
    batched_nms,
    batched_nms_rotated,
    nms,
    nms_rotated,
    pairwise_iou_rotated,
)


def candidates(n: int, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    low = torch.rand(n, 2) * 60
    boxes = torch.cat([low, low + 5 + torch.rand(n, 2) * 30], dim=1)
    # the order of equal scores is nobody's promise
    scores = torch.randperm(n) / max(n, 1)
    return boxes, scores, torch.randint(0, groups, (n,))


@pytest.mark.parametrize("n", [0, 1, 300, 1500])
@pytest.mark.parametrize("groups", [1, 9])
def test_batched_nms_is_nms_of_each_group(n, groups):
    boxes, scores, idxs = candidates(n, groups)
    keep = batched_nms(boxes, scores, idxs, 0.5)
    expected = box_ops._batched_nms_vanilla(boxes, scores, idxs, 0.5)
    assert keep.tolist() == expected.tolist()
    assert keep.dtype == torch.int64


def test_half_precision_and_degenerate_boxes():
    boxes, scores, idxs = candidates(50, 80)
    assert batched_nms(boxes.half(), scores, idxs, 0.5).tolist() == (
        batched_nms(boxes.half().float(), scores, idxs, 0.5).tolist()
    )
    point = torch.ones(2, 4)
    assert batched_nms(point, torch.tensor([0.1, 0.2]), torch.zeros(2), 0.5).tolist() == [1, 0]
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)
    with pytest.raises(ValueError, match=r"shape \(N, 4\), got \(2, 5\)"):
        batched_nms(torch.zeros(2, 5), torch.zeros(2), torch.zeros(2), 0.5)


def test_rotated_nms_agrees_with_upright_nms():
    boxes, scores, idxs = candidates(60, 3)
    rotated = torch.cat(
        [
            (boxes[:, :2] + boxes[:, 2:]) / 2,
            boxes[:, 2:] - boxes[:, :2],
            torch.randint(-2, 3, (60, 1)) * 180.0,
        ],
        dim=1,
    )
    assert nms_rotated(rotated, scores, 0.4).tolist() == nms(boxes, scores, 0.4).tolist()
    expected = batched_nms(boxes, scores, idxs, 0.4).tolist()
    assert batched_nms_rotated(rotated, scores, idxs, 0.4).tolist() == expected


def test_rotated_nms_of_nothing_and_of_degenerate_boxes():
    none = torch.zeros(0, 5)
    assert nms_rotated(none, torch.zeros(0), 0.5).shape == (0,)
    keep = batched_nms_rotated(none, torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert keep.shape == (0,)
    assert keep.dtype == torch.int64
    flat = torch.tensor([[5.0, 5, 0, 4, 20], [5, 5, 0, 4, 20]])
    assert nms_rotated(flat, torch.tensor([0.1, 0.9]), 0.5).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"shape \(N, 5\)"):
        batched_nms_rotated(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1), 0.5)
    with pytest.raises(ValueError, match=r"shape \(N, 5\), got \(1, 4\)"):
        pairwise_iou_rotated(torch.zeros(1, 4), torch.zeros(1, 5))
