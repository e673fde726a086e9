from __future__ import annotations

import pytest
import torch
import torchvision.ops as tv
from torch.nn import functional as F

from lucidet.layers import (
    ciou_loss,
    diou_loss,
    giou_loss,
    sigmoid_focal_loss,
    sigmoid_focal_loss_jit,
    sigmoid_focal_loss_star,
    smooth_l1_loss,
)

BOX_LOSSES = [
    (giou_loss, tv.generalized_box_iou_loss),
    (diou_loss, tv.distance_box_iou_loss),
    (ciou_loss, tv.complete_box_iou_loss),
]


def random_boxes(n: int) -> torch.Tensor:
    low = torch.rand(n, 2) * 50
    return torch.cat([low, low + 1 + torch.rand(n, 2) * 50], dim=1)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(("ours", "oracle"), BOX_LOSSES)
def test_box_losses_and_gradients_against_torchvision(ours, oracle, reduction):
    a, b = random_boxes(30), random_boxes(30)
    mine, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    loss, expected = ours(mine, b, reduction), oracle(theirs, b, reduction)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("ours", "_oracle"), BOX_LOSSES)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 1, 1, 1], [1.0, 1, 1, 1]),  # one point
        ([1.0, 1, 1, 5], [0.0, 0, 4, 4]),  # no width
        ([1.0, 1, 5, 1], [0.0, 0, 4, 4]),  # no height
        ([0.0, 0, 4, 4], [2.0, 2, 2, 2]),  # an object without area
        ([0.0, 0, 1, 1], [1e4, 1e4, 1e4 + 1, 1e4 + 1]),
        ([0.0, 0, 4, 4], [0.0, 0, 4, 4]),
    ],
)
def test_box_losses_are_finite_on_degenerate_boxes(ours, _oracle, a, b):
    a = torch.tensor([a], requires_grad=True)
    loss = ours(a, torch.tensor([b]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize(("ours", "_oracle"), BOX_LOSSES)
def test_box_losses_of_nothing(ours, _oracle):
    none = torch.zeros(0, 4, requires_grad=True)
    assert ours(none, torch.zeros(0, 4)).shape == (0,)
    for reduction in ("sum", "mean"):
        loss = ours(none, torch.zeros(0, 4), reduction=reduction)
        assert loss == 0
        loss.backward()


def test_half_precision_is_widened():
    loss = giou_loss(torch.zeros(1, 4).bfloat16(), torch.zeros(1, 4).bfloat16())
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 1e-9, 0.11, 1.0])
def test_smooth_l1(beta):
    x, y = torch.randn(40, requires_grad=True), torch.randn(40)
    expected = F.l1_loss(x, y) if beta < 1e-5 else F.smooth_l1_loss(x, y, beta=beta)
    torch.testing.assert_close(smooth_l1_loss(x, y, beta, "mean"), expected)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_smooth_l1_at_zero_and_of_nothing(beta):
    x = torch.zeros(3, requires_grad=True)
    smooth_l1_loss(x, torch.zeros(3), beta, "sum").backward()
    assert x.grad.tolist() == [0, 0, 0]
    empty = torch.zeros(0, requires_grad=True)
    assert smooth_l1_loss(empty, torch.zeros(0), beta, "mean") == 0


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(("alpha", "gamma"), [(-1, 2), (0.25, 2), (0.25, 0), (0.0, 1.5)])
def test_focal_loss_against_torchvision(alpha, gamma, reduction):
    x = torch.randn(5, 4) * 3
    y = (torch.rand(5, 4) > 0.7).float()
    expected = tv.sigmoid_focal_loss(x, y, alpha, gamma, reduction)
    torch.testing.assert_close(sigmoid_focal_loss(x, y, alpha, gamma, reduction), expected)
    torch.testing.assert_close(sigmoid_focal_loss_jit(x, y, alpha, gamma, reduction), expected)


@pytest.mark.parametrize("function", [sigmoid_focal_loss, sigmoid_focal_loss_star])
def test_focal_losses_are_finite_at_extreme_logits_and_of_nothing(function):
    x = torch.tensor([-1e4, -100.0, 0, 100, 1e4], requires_grad=True)
    for y in (torch.zeros(5), torch.ones(5)):
        loss = function(x, y, alpha=0.25, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
        assert loss.isfinite()
        assert grad.isfinite().all()
    assert function(torch.zeros(0, 3), torch.zeros(0, 3), reduction="mean") == 0


def test_focal_star_with_gamma_1_is_cross_entropy():
    x, y = torch.randn(9), (torch.rand(9) > 0.5).float()
    expected = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    torch.testing.assert_close(sigmoid_focal_loss_star(x, y), expected)


def test_errors_teach():
    with pytest.raises(ValueError, match="none, mean, sum, got 'avg'"):
        giou_loss(torch.zeros(1, 4), torch.zeros(1, 4), "avg")
    with pytest.raises(ValueError, match="beta must be >= 0, got -1"):
        smooth_l1_loss(torch.zeros(1), torch.zeros(1), -1)
    with pytest.raises(ValueError, match="gamma must be > 0"):
        sigmoid_focal_loss_star(torch.zeros(1), torch.zeros(1), gamma=0)


@pytest.mark.parametrize("loss", [giou_loss, diou_loss, ciou_loss])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3, 4), (0, 4)])
def test_iou_losses_of_boxes_of_any_shape(loss, shape):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, *shape, generator=generator)
    boxes = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:] + 0.1], dim=-1)
    got = loss(boxes[0], boxes[1])
    assert got.shape == shape[:-1]
    expected = [loss(a[None], b[None]) for a, b in zip(*boxes.reshape(2, -1, 4), strict=True)]
    torch.testing.assert_close(got.flatten(), torch.cat([torch.zeros(0), *expected]))
    assert loss(boxes[0], boxes[1], reduction="sum").shape == ()
