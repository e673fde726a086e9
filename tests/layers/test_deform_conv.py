from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lucidet.layers import (
    DeformConv,
    ModulatedDeformConv,
    deform_conv,
    modulated_deform_conv,
)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "deformable"),
    [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 4)],
)
def test_without_offsets_it_is_a_convolution(stride, padding, dilation, groups, deformable):
    x = torch.randn(2, 4, 9, 8)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    plain = DeformConv(4, 6, 3, deformable_groups=deformable, **settings)
    expected = F.conv2d(x, plain.weight, **settings)
    offset = x.new_zeros(2, 18 * deformable, *expected.shape[-2:])
    torch.testing.assert_close(plain(x, offset), expected, rtol=1e-4, atol=1e-5)
    weighed = ModulatedDeformConv(4, 6, 3, deformable_groups=deformable, **settings)
    nn.init.normal_(weighed.bias)
    mask = x.new_full((2, 9 * deformable, *expected.shape[-2:]), 0.5)
    expected = 0.5 * F.conv2d(x, weighed.weight, **settings) + weighed.bias.view(-1, 1, 1)
    torch.testing.assert_close(weighed(x, offset, mask), expected, rtol=1e-4, atol=1e-5)


def test_an_offset_is_dy_dx():
    x = torch.randn(1, 1, 6, 6)
    layer = DeformConv(1, 1, 1)
    offset = torch.zeros(1, 2, 6, 6)
    offset[:, 0] = 1.0
    moved = layer(x, offset)[..., :-1, :]
    torch.testing.assert_close(moved, layer.weight * x[..., 1:, :])


def test_names_norm_activation_and_gradients():
    layer = ModulatedDeformConv(
        4, 8, 3, padding=1, bias=False, norm=nn.GroupNorm(2, 8), activation=F.relu
    )
    assert sorted(layer.state_dict()) == ["norm.bias", "norm.weight", "weight"]
    assert sorted(ModulatedDeformConv(4, 8, 3).state_dict()) == ["bias", "weight"]
    assert ModulatedDeformConv(4, 8, 3, 1, 0, 1, 1, 1, False).bias is None
    x, offset, mask = torch.randn(1, 4, 5, 5), torch.rand(1, 18, 5, 5), torch.rand(1, 9, 5, 5)
    for tensor in (x, offset, mask):
        tensor.requires_grad_()
    y = layer(x, offset, mask)
    assert (y >= 0).all()
    y.sum().backward()
    assert all(t.grad is not None for t in (x, offset, mask, layer.weight))


def test_empty_batch_and_half_precision():
    layer = DeformConv(4, 6, 3, stride=2, padding=1)
    x = torch.zeros(0, 4, 8, 8, requires_grad=True)
    y = layer(x, torch.zeros(0, 18, 4, 4))
    assert y.shape == (0, 6, 4, 4)
    y.sum().backward()
    half = layer(torch.ones(1, 4, 8, 8).bfloat16(), torch.zeros(1, 18, 4, 4).bfloat16())
    assert half.dtype == torch.bfloat16


def test_functions():
    layer = ModulatedDeformConv(2, 3, 3)
    x, offset, mask = torch.randn(1, 2, 5, 5), torch.rand(1, 18, 3, 3), torch.rand(1, 9, 3, 3)
    torch.testing.assert_close(
        modulated_deform_conv(x, offset, mask, layer.weight, layer.bias), layer(x, offset, mask)
    )
    plain = DeformConv(2, 3, 3)
    torch.testing.assert_close(deform_conv(x, offset, plain.weight), plain(x, offset))


def test_errors_teach():
    with pytest.raises(ValueError, match="has no bias; ModulatedDeformConv"):
        DeformConv(2, 2, 3, bias=True)
    with pytest.raises(ValueError, match="out_channels / groups must be whole, got 3 / 2"):
        DeformConv(2, 3, 3, groups=2)
    with pytest.raises(ValueError, match="offset must have 2 x 18 channels"):
        DeformConv(2, 2, 3, deformable_groups=2)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 18, 2, 2))
    layer = ModulatedDeformConv(2, 2, 3)
    with pytest.raises(ValueError, match="mask must have 1 x 9 channels"):
        layer(torch.zeros(1, 2, 4, 4), torch.zeros(1, 18, 2, 2), torch.zeros(1, 18, 2, 2))
