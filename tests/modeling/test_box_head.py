from __future__ import annotations

import pytest
import torch

from lucidet.layers import ShapeSpec
from lucidet.modeling.roi_heads.box_head import FastRCNNConvFCHead

SHAPE = ShapeSpec(channels=4, height=3, width=3)


@pytest.mark.parametrize(
    ("convs", "fcs", "norm", "names", "out"),
    [
        ([], [6, 5], "", ["fc1", "fc2"], (5,)),
        ([8], [6], "", ["conv1", "fc1"], (6,)),
        ([8, 32], [], "GN", ["conv1", "conv1.norm", "conv2", "conv2.norm"], (32, 3, 3)),
    ],
)
def test_layers_names_and_shape(convs, fcs, norm, names, out):
    if norm:
        convs = [32] * len(convs)  # GN has 32 groups
    head = FastRCNNConvFCHead(SHAPE, conv_dims=convs, fc_dims=fcs, conv_norm=norm)
    assert {key.rsplit(".", 1)[0] for key in head.state_dict()} == set(names)
    for count in (2, 0):
        assert head(torch.rand(count, 4, 3, 3)).shape == (count, *out)
    shape = head.output_shape
    assert shape.channels == out[0]
    assert (shape.height, shape.width) == (out[1:] or (None, None))


def test_convolutions_before_a_norm_have_no_bias():
    head = FastRCNNConvFCHead(SHAPE, conv_dims=[32], fc_dims=[5], conv_norm="GN")
    assert head.conv1.bias is None
    assert head.fc1.bias is not None


def test_outputs_are_rectified():
    assert (
        FastRCNNConvFCHead(SHAPE, conv_dims=[], fc_dims=[64])(torch.randn(9, 4, 3, 3)) >= 0
    ).all()


def test_no_layer_is_an_error():
    with pytest.raises(ValueError, match="NUM_FC or NUM_CONV"):
        FastRCNNConvFCHead(SHAPE, conv_dims=[], fc_dims=[])
