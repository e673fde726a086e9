from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align as oracle

from lucidet.layers import ROIAlign, fast_roi_align, fast_roi_align_levels, roi_align

HEIGHT, WIDTH = 11, 14


def rois(kind: str) -> torch.Tensor:
    """(R, 5) boxes in pixels of a map with stride 4, over two images."""
    image = torch.randint(0, 2, (12, 1)).float()
    low = torch.rand(12, 2) * torch.tensor([30.0, 20.0])
    side = {"small": 6.0, "mixed": 60.0, "empty": 0.0, "outside": 200.0, "swapped": -20.0}[kind]
    boxes = torch.cat([image, low, low + torch.rand(12, 2) * side], dim=1)
    if kind == "outside":
        boxes[:, 1:] -= 60
    return boxes


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["small", "mixed", "empty", "outside", "swapped"])
def test_values_and_gradient_against_torchvision(kind, sampling_ratio, aligned):
    boxes, size = rois(kind), (3, 2)
    mine = torch.randn(2, 5, HEIGHT, WIDTH, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    pooled = fast_roi_align(mine, boxes, size, 0.25, sampling_ratio, aligned)
    expected = oracle(theirs, boxes, size, 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(expected)
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_a_few_large_boxes_among_small_ones():
    """Takes the way that leaves zeros out, in several pieces."""
    image = torch.randn(1, 3, 64, 64)
    boxes = torch.rand(40, 5) * 3
    boxes[:, 0] = 0
    boxes[:, 3:] += boxes[:, 1:3]
    boxes[7] = torch.tensor([0.0, 0, 0, 64, 64])
    for ratio in (0, 2):
        torch.testing.assert_close(
            fast_roi_align(image, boxes, (2, 2), 1.0, ratio, True),
            oracle(image, boxes, (2, 2), 1.0, ratio, True),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_levels_in_one_call(memory):
    features = [torch.randn(2, 4, 16, 20), torch.randn(2, 4, 8, 10), torch.randn(2, 4, 4, 5)]
    features = [f.contiguous(memory_format=memory) for f in features]
    scales = [0.25, 0.125, 0.0625]
    boxes, levels = rois("mixed"), torch.randint(0, 3, (12,))
    pooled = fast_roi_align_levels(features, boxes, levels, (2, 2), scales, 2, True)
    for i, (box, level) in enumerate(zip(boxes, levels.tolist(), strict=True)):
        expected = oracle(features[level], box[None], (2, 2), scales[level], 2, True)
        torch.testing.assert_close(pooled[i : i + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ["auto", "torchvision", "embedding_bag"])
def test_no_boxes_still_have_a_gradient_path(impl):
    features = torch.randn(1, 3, 8, 8, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, 5), 7, 0.25, 0, True, impl=impl)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert features.grad is not None


def test_infinity_and_nan_stay_where_they_are():
    features = torch.zeros(1, 1, 8, 8)
    features[0, 0, 0, 0] = float("inf")
    boxes = torch.tensor([[0.0, 4, 4, 8, 8], [0, 1, 1, 2, 2], [0, 0, 0, 8, 8]])
    assert fast_roi_align(features, boxes, (2, 2), 1.0, 2, True)[0].isfinite().all()
    boxes = torch.tensor([[0.0, float("nan"), 4, 8, 8], [0, 4, 4, 8, 8]])
    for ratio in (0, 2):
        pooled = fast_roi_align(torch.ones(1, 1, 8, 8), boxes, (2, 2), 1.0, ratio, True)
        assert pooled[1].tolist() == [[[1, 1], [1, 1]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype):
    features = torch.randn(1, 3, 40, 40)
    boxes = torch.tensor([[0.0, 3.3, 7.7, 1001.7, 1200.2]])
    layer = ROIAlign((7, 7), 1 / 32, 2)
    pooled = layer(features.to(dtype), boxes)
    assert pooled.dtype == dtype
    # coordinates were not rounded to the features' type
    expected = layer(features.to(dtype).float(), boxes)
    torch.testing.assert_close(pooled.float(), expected, rtol=1e-2, atol=1e-2)


def test_boxes_as_a_list_over_images():
    features = torch.randn(2, 3, 8, 8)
    boxes = [torch.tensor([[0.0, 0, 20, 20]]), torch.zeros(0, 4)]
    torch.testing.assert_close(
        roi_align(features, boxes, 3, 0.25, 2), oracle(features, boxes, 3, 0.25, 2)
    )


def test_module_says_its_settings_and_errors_teach():
    assert "sampling_ratio=2, aligned=True" in str(ROIAlign(7, 0.25, 2))
    with pytest.raises(ValueError, match="auto, torchvision, embedding_bag, got 'cuda'"):
        ROIAlign(7, 0.25, 2, impl="cuda")(torch.zeros(1, 1, 2, 2), torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"\(R, 5\) rows .* got shape \(1, 4\)"):
        roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(1, 4), 7)
