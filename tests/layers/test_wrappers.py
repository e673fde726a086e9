from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lucidet.layers import (
    CNNBlockBase,
    Conv2d,
    DepthwiseSeparableConv2d,
    FrozenBatchNorm2d,
    ShapeSpec,
    cat,
    conv2d_together,
    cross_entropy,
    disable_torch_compiler,
    empty_input_loss_func_wrapper,
    get_norm,
    move_device_like,
    nonzero_tuple,
    shapes_to_tensor,
)


def test_conv_norm_activation():
    norm = nn.GroupNorm(2, 4)
    layer = Conv2d(3, 4, 3, padding=1, bias=False, norm=norm, activation=F.relu)
    assert sorted(layer.state_dict()) == ["norm.bias", "norm.weight", "weight"]
    x = torch.randn(2, 3, 5, 5)
    expected = F.relu(norm(F.conv2d(x, layer.weight, padding=1)))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("norm", ["", "BN", "GN", "FrozenBN", "LN"])
def test_conv_of_an_empty_batch(norm):
    layer = Conv2d(3, 32, 3, stride=2, padding=1, norm=get_norm(norm, 32)).train()
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 32, 4, 4)
    y.sum().backward()
    assert all(b.isfinite().all() for b in layer.buffers())


def test_sync_norm_refuses_an_empty_batch():
    layer = Conv2d(3, 4, 1, norm=nn.SyncBatchNorm(4)).train()
    with pytest.raises(ValueError, match="SyncBatchNorm can't train on an empty batch"):
        layer(torch.zeros(0, 3, 4, 4))


def test_cat():
    x = torch.zeros(2)
    assert cat([x]) is x
    assert cat([x, x], dim=0).shape == (4,)
    with pytest.raises(ValueError, match="list or tuple of tensors, got Tensor"):
        cat(x)


def test_cross_entropy_of_nothing_is_0_with_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = cross_entropy(logits, none)
    assert loss == 0
    loss.backward()
    assert logits.grad is not None
    assert cross_entropy(logits, none, reduction="none").shape == (0,)
    x, y = torch.randn(4, 5), torch.tensor([0, 4, 2, 2])
    for reduction in ("mean", "sum"):
        torch.testing.assert_close(
            cross_entropy(x, y, reduction=reduction), F.cross_entropy(x, y, reduction=reduction)
        )
    wrapped = empty_input_loss_func_wrapper(F.mse_loss)
    assert wrapped(torch.zeros(0), torch.zeros(0)) == 0


def test_small_helpers():
    rows, columns = nonzero_tuple(torch.tensor([[0, 1], [1, 0]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    assert nonzero_tuple(torch.tensor(3))[0].tolist() == [0]
    assert nonzero_tuple(torch.zeros(0))[0].tolist() == []
    assert shapes_to_tensor([3, 4]).tolist() == [3, 4]
    assert shapes_to_tensor([torch.tensor(3), 4]).tolist() == [3, 4]
    assert move_device_like(torch.zeros(1), torch.zeros(2)).device.type == "cpu"
    assert disable_torch_compiler(lambda x: x + 1)(1) == 2


def test_shape_spec():
    assert ShapeSpec(channels=3) == ShapeSpec(3, None, None, None)
    assert ShapeSpec(channels=256, stride=4).stride == 4


def test_freeze():
    class Block(CNNBlockBase):
        def __init__(self) -> None:
            super().__init__(3, 4, stride=2)
            self.conv = Conv2d(3, 4, 3, norm=nn.BatchNorm2d(4))

    block = Block()
    assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)
    assert block.freeze() is block
    assert isinstance(block.conv.norm, FrozenBatchNorm2d)
    assert not any(p.requires_grad for p in block.parameters())


def test_depthwise_separable():
    layer = DepthwiseSeparableConv2d(4, 6, norm1="BN", activation1=F.relu, norm2="BN")
    assert layer(torch.randn(2, 4, 5, 5)).shape == (2, 6, 5, 5)
    assert layer.depthwise.groups == 4
    assert layer.depthwise.bias is None
    assert DepthwiseSeparableConv2d(4, 6).pointwise.bias is not None


CONVS = {
    "two predictors": lambda: [nn.Conv2d(4, 3, 1), nn.Conv2d(4, 12, 1)],
    "three, 3 x 3, no bias": lambda: [nn.Conv2d(4, k, 3, padding=1, bias=False) for k in (1, 2, 5)],
    "other kernels": lambda: [nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=1)],
    "groups": lambda: [nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1)],
    "more than a convolution": lambda: [nn.Conv2d(4, 3, 1), nn.Sequential(nn.Conv2d(4, 3, 1))],
    "one": lambda: [nn.Conv2d(4, 3, 1)],
}


@pytest.mark.parametrize("make", CONVS.values(), ids=list(CONVS))
@pytest.mark.parametrize("images", [2, 0])
def test_convolutions_together_are_those_one_by_one(make, images) -> None:
    convs = nn.ModuleList(make())
    x = torch.randn(images, 4, 6, 7, requires_grad=True)

    def gradients(outputs):
        total = sum((y.square().sum() + y.sum()) for y in outputs)
        return torch.autograd.grad(total, [x, *convs.parameters()])

    together, apart = conv2d_together(x, *convs), [conv(x) for conv in convs]
    for found, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(gradients(together), gradients(apart), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_convolutions_together_still_call_hooks() -> None:
    convs = [nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 1)]
    seen = []
    convs[1].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    conv2d_together(torch.zeros(1, 4, 5, 5), *convs)
    assert seen == [(1, 2, 5, 5)]
