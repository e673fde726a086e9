"""Residual networks: names, shapes, options, freezing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lucidet.config import CfgNode, get_cfg
from lucidet.layers import FrozenBatchNorm2d, ShapeSpec
from lucidet.modeling.backbone import build_backbone, resnet
from lucidet.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
    build_resnet_backbone,
    make_stage,
)

ALL = ["stem", "res2", "res3", "res4", "res5"]


def config(**resnets: object) -> CfgNode:
    """Return a config whose ``MODEL.RESNETS`` are narrow, changed by `resnets`."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    narrow = {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 4}
    for key, value in {**narrow, "OUT_FEATURES": ALL, "NORM": "BN", **resnets}.items():
        setattr(cfg.MODEL.RESNETS, key, value)
    return cfg


def build(**resnets: object) -> ResNet:
    return build_resnet_backbone(config(**resnets), ShapeSpec(channels=3))


def check(net: ResNet, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Forward; every map is as announced and finite."""
    outputs = net(images)
    assert list(outputs) == list(net.output_shape())
    for name, shape in net.output_shape().items():
        height, width = images.shape[2] // shape.stride, images.shape[3] // shape.stride
        assert outputs[name].shape == (len(images), shape.channels, height, width), name
        assert outputs[name].isfinite().all()
    return outputs


@pytest.mark.parametrize(("depth", "convs"), [(18, 17), (34, 33), (50, 49), (101, 100), (152, 151)])
def test_every_depth(depth: int, convs: int) -> None:
    net = build(DEPTH=depth)
    outputs = check(net, torch.randn(1, 3, 64, 96))
    assert [shape.stride for shape in net.output_shape().values()] == [4, 4, 8, 16, 32]
    assert [shape.channels for shape in net.output_shape().values()] == [8, 16, 32, 64, 128]
    # the depth counts convolutions but for shortcuts, and the classifier
    named = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    assert sum("shortcut" not in name for name in named) == convs
    sum(out.sum() for out in outputs.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "SyncBN", "GN", "LN", ""])
@pytest.mark.parametrize("depth", [18, 50])
def test_every_norm(norm: str, depth: int) -> None:
    widths = {"STEM_OUT_CHANNELS": 32, "RES2_OUT_CHANNELS": 64, "WIDTH_PER_GROUP": 32}
    net = build(DEPTH=depth, NORM=norm, OUT_FEATURES=["res3"], **widths).eval()
    check(net, torch.randn(2, 3, 32, 32))
    names = {name.rsplit(".", 1)[-1] for name in net.state_dict()}
    statistics = {"running_mean", "running_var"} if norm in ("FrozenBN", "BN", "SyncBN") else set()
    counters = names & {"num_batches_tracked"}
    assert names - counters == {"weight"} | ({"bias"} if norm else set()) | statistics


def test_resnext() -> None:
    net = build(DEPTH=50, NUM_GROUPS=4, WIDTH_PER_GROUP=8)
    check(net, torch.randn(1, 3, 64, 64))
    assert net.res2[0].conv2.weight.shape == (32, 8, 3, 3)
    assert net.res5[0].conv2.groups == 4
    assert net.res5[0].conv2.out_channels == 256


@pytest.mark.parametrize("in_1x1", [True, False])
def test_where_the_stride_is(in_1x1: bool) -> None:
    block = build(DEPTH=50, STRIDE_IN_1X1=in_1x1).res3[0]
    strides = (block.conv1.stride[0], block.conv2.stride[0])
    assert strides == ((2, 1) if in_1x1 else (1, 2))
    assert block.stride == 2


def test_dilated_res5_keeps_the_size() -> None:
    net = build(DEPTH=50, RES5_DILATION=2)
    outputs = check(net, torch.randn(1, 3, 64, 64))
    assert outputs["res5"].shape[2:] == outputs["res4"].shape[2:] == (4, 4)
    assert net.output_shape()["res5"].stride == 16
    assert [block.conv2.dilation for block in net.res5] == [(2, 2)] * 3
    assert net.res4[0].conv2.dilation == (1, 1)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_deformable_stages(modulated: bool, groups: int) -> None:
    net = build(
        DEPTH=50,
        DEFORM_ON_PER_STAGE=[False, False, True, True],
        DEFORM_MODULATED=modulated,
        DEFORM_NUM_GROUPS=groups,
    )
    kinds = [type(stage[0]) for stage in net.stages]
    assert kinds == [BottleneckBlock] * 2 + [DeformBottleneckBlock] * 2
    offsets = net.res4[0].conv2_offset
    assert offsets.out_channels == (27 if modulated else 18) * groups
    assert offsets.weight.abs().sum() == 0
    outputs = check(net, torch.randn(1, 3, 64, 64))
    outputs["res5"].square().sum().backward()
    assert offsets.weight.grad.abs().sum() > 0
    names = {name for name in net.state_dict() if name.startswith("res5.0.conv2")}
    expected = {"conv2.weight", "conv2_offset.weight", "conv2_offset.bias"}
    assert {f"res5.0.{name}" for name in expected} <= names
    assert "res5.0.conv2.bias" not in names


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_block_starts_as_a_plain_one(modulated: bool, dilation: int) -> None:
    """Without offsets it is the plain block; modulation starts by halving each sample."""
    options = {"bottleneck_channels": 4, "stride": 2, "norm": "", "dilation": dilation}
    plain = BottleneckBlock(6, 8, **options)
    deform = DeformBottleneckBlock(6, 8, **options, deform_modulated=modulated)
    deform.load_state_dict(plain.state_dict(), strict=False)
    if modulated:
        with torch.no_grad():
            deform.conv2.weight *= 2
    x = torch.randn(1, 6, 9, 9)
    assert torch.allclose(deform(x), plain(x), atol=1e-5)


def test_stages_that_nobody_wants_are_not_built() -> None:
    net = build(DEPTH=50, OUT_FEATURES=["res4"])
    assert net.stage_names == ("res2", "res3", "res4")
    assert not hasattr(net, "res5")
    assert list(net(torch.randn(1, 3, 32, 32))) == ["res4"]
    assert build(OUT_FEATURES=["stem"]).stage_names == ()


@pytest.mark.parametrize("freeze_at", range(6))
def test_freezing(freeze_at: int) -> None:
    cfg = config(DEPTH=18)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    net = build_backbone(cfg)
    for i, name in enumerate(ALL):
        part = getattr(net, name)
        frozen = i < freeze_at
        assert all(p.requires_grad != frozen for p in part.parameters()), name
        norms = {type(m) for m in part.modules() if "Norm" in type(m).__name__}
        assert (norms == {FrozenBatchNorm2d}) == frozen, name
    check(net, torch.randn(1, 3, 64, 64))


def test_freeze_returns_the_net_and_uses_its_modules() -> None:
    net = build(DEPTH=18)
    assert net.freeze(2) is net
    net.res3 = nn.Sequential(nn.Conv2d(16, 32, 2, stride=2))  # as a tool may do
    assert net.stages[1] is net.res3


@pytest.mark.parametrize("out_features", [None, ["linear"], ["linear", "res2"]])
def test_classifier(out_features: list[str] | None) -> None:
    stages = ResNet.make_default_stages(18, norm="BN")
    net = ResNet(BasicStem(), stages, num_classes=7, out_features=out_features)
    outputs = net(torch.randn(2, 3, 64, 64))
    assert outputs["linear"].shape == (2, 7)
    assert set(outputs) == set(out_features or ["linear"])
    assert net.output_shape()["linear"] == ShapeSpec(channels=7)
    assert {"linear.weight", "linear.bias"} <= set(net.state_dict())


@pytest.mark.parametrize("depth", [18, 50])
def test_default_stages_are_the_configs(depth: int) -> None:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth == 18 else 256
    with torch.device("meta"):
        by_config = build_resnet_backbone(cfg, ShapeSpec(channels=3)).state_dict()
        stages = ResNet.make_default_stages(depth, norm="FrozenBN")
        by_hand = ResNet(BasicStem(norm="FrozenBN"), stages).state_dict()
    assert {k: v.shape for k, v in by_config.items()} == {k: v.shape for k, v in by_hand.items()}


def test_c4_classes_take_make_stage() -> None:
    """As the C4 head does: res5 alone, with one value for each block of some arguments."""
    blocks = ResNet.make_stage(
        BottleneckBlock,
        3,
        stride_per_block=[2, 1, 1],
        in_channels=16,
        out_channels=32,
        bottleneck_channels=8,
        norm="FrozenBN",
    )
    assert nn.Sequential(*blocks)(torch.randn(0, 16, 14, 14)).shape == (0, 32, 7, 7)
    assert len(make_stage(BasicBlock, 2, in_channels=4, out_channels=4)) == 2


def test_names_that_moved_code_imports() -> None:
    assert set(resnet.__all__) == {
        "BasicBlock",
        "BasicStem",
        "BottleneckBlock",
        "DeformBottleneckBlock",
        "ResNet",
        "ResNetBlockBase",
        "build_resnet_backbone",
        "make_stage",
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"DEPTH": 20}, r"depth 20.*18, 34, 50, 101, 152"),
        ({"RES5_DILATION": 3}, "RES5_DILATION must be 1 or 2, got 3"),
        ({"DEPTH": 18, "RES2_OUT_CHANNELS": 256}, "RES2_OUT_CHANNELS 256.*set it to 64"),
        ({"DEPTH": 18, "RES5_DILATION": 2}, "RES5_DILATION 2 needs DEPTH 50"),
        ({"DEPTH": 34, "NUM_GROUPS": 2}, "NUM_GROUPS above 1"),
        ({"DEPTH": 34, "DEFORM_ON_PER_STAGE": [False, False, False, True]}, "DEFORM_ON_PER_STAGE"),
        ({"OUT_FEATURES": ["res6"]}, r"out_features \['res6'\].*'stem', 'res2'"),
        ({"OUT_FEATURES": []}, r"out_features \[\]"),
    ],
)
def test_bad_configs(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changed)


def test_bad_stages() -> None:
    shape = {"in_channels": 4, "out_channels": 4}
    with pytest.raises(ValueError, match="stride_per_block has 2 values for 3 blocks"):
        make_stage(BasicBlock, 3, **shape, stride_per_block=[1, 1])
    with pytest.raises(ValueError, match="both stride and stride_per_block"):
        make_stage(BasicBlock, 1, **shape, stride=1, stride_per_block=[1])
    with pytest.raises(ValueError, match=r"stage res2 .* no blocks"):
        ResNet(BasicStem(), [[]])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got shape \(3, 32, 32\)"):
        build(DEPTH=18)(torch.zeros(3, 32, 32))
