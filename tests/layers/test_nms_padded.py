"""NMS of a batch equals NMS of each image, index by index."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lucidet.layers import batched_nms, nms_padded


def _boxes(num_images: int, num_boxes: int, num_groups: int, ties: bool) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(num_boxes + num_groups)
    low = 200 * torch.rand(num_images, num_boxes, 2, generator=generator)
    boxes = torch.cat([low, low + 80 * torch.rand(low.shape, generator=generator)], dim=2)
    scores = torch.rand(num_images, num_boxes, generator=generator)
    if ties:
        scores = (scores * 5).round() / 5
    groups = torch.randint(num_groups, scores.shape, generator=generator)
    valid = torch.rand(scores.shape, generator=generator) < 0.8
    return boxes, scores, groups, valid


@pytest.mark.parametrize(
    ("num_images", "num_boxes", "num_groups"),
    [(1, 0, 1), (2, 1, 1), (3, 50, 1), (2, 300, 5), (2, 400, 81), (1, 1500, 3)],
)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equals_one_image_after_the_other(
    num_images: int, num_boxes: int, num_groups: int, ties: bool, dtype: torch.dtype
) -> None:
    boxes, scores, groups, valid = _boxes(num_images, num_boxes, num_groups, ties)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    limit = 40
    keep, count = nms_padded(boxes, scores, groups, valid, 0.5, limit)
    assert keep.shape == (num_images, min(limit, num_boxes))
    for image in range(num_images):
        rows = valid[image].nonzero().squeeze(1)
        alone = batched_nms(boxes[image, rows], scores[image, rows], groups[image, rows], 0.5)
        wanted = rows[alone][:limit].tolist()
        assert keep[image, : count[image]].tolist() == wanted
        assert keep[image, count[image] :].eq(0).all()


def test_nothing_valid() -> None:
    boxes, scores, groups, valid = _boxes(2, 10, 2, False)
    keep, count = nms_padded(boxes, scores, groups, torch.zeros_like(valid), 0.5, 5)
    assert count.tolist() == [0, 0]
    assert keep.tolist() == [[0] * 5] * 2
