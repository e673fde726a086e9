"""Backbones by name, the base class, and those from timm."""

from __future__ import annotations

import builtins

import pytest
import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, get_cfg
from lucidet.layers import FrozenBatchNorm2d, ShapeSpec
from lucidet.modeling import BACKBONE_REGISTRY, Backbone, build_backbone
from lucidet.modeling.backbone.timm import TimmBackbone

NAMES = ["res2", "res3", "res4", "res5"]
BUILDERS = [
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
    "build_retinanet_timm_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
]


def config(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.OUT_FEATURES = NAMES
    cfg.MODEL.FPN.IN_FEATURES = NAMES
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    return cfg


def test_registry_names() -> None:
    assert set(BUILDERS) <= {name for name, _ in BACKBONE_REGISTRY}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_backbone(name: str) -> None:
    """Forward, announced shapes, a gradient for every parameter, alone the same as in a batch."""
    if "timm" in name:
        pytest.importorskip("timm")
    net = build_backbone(config(name))
    assert isinstance(net, Backbone)
    images = torch.randn(2, 3, 128, 128)
    outputs = net(images)
    assert list(outputs) == list(net.output_shape())
    for key, shape in net.output_shape().items():
        side = 128 // shape.stride
        assert outputs[key].shape == (2, shape.channels, side, side)
    sum(out.square().sum() for out in outputs.values()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    net.eval()
    with torch.no_grad():
        batch, alone = net(images), net(images[:1])
    for key, out in batch.items():
        assert out.isfinite().all()
        assert torch.allclose(out[:1], alone[key], atol=1e-4)


def test_input_shape_follows_the_pixel_mean() -> None:
    cfg = config("build_resnet_backbone")
    cfg.MODEL.PIXEL_MEAN = [0.0]
    assert build_backbone(cfg).stem.conv1.in_channels == 1
    assert build_backbone(cfg, ShapeSpec(channels=5)).stem.conv1.in_channels == 5


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'build_resnet_fpn_backbone'"):
        build_backbone(config("build_resnet_fpn_backbon"))


def test_only_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, "odd", lambda cfg, shape: nn.Identity())
    with pytest.raises(TypeError, match="'odd' built a Identity"):
        build_backbone(config("odd"))


def test_base_class() -> None:
    class Two(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self._out_features = ["b", "a"]
            self._out_feature_channels = {"a": 1, "b": 2}
            self._out_feature_strides = {"a": 4, "b": 8}

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {}

    net = Two()
    assert net.size_divisibility == 0
    assert net.padding_constraints == {}
    assert net.output_shape() == {
        "b": ShapeSpec(channels=2, stride=8),
        "a": ShapeSpec(channels=1, stride=4),
    }
    with pytest.raises(TypeError, match="abstract"):
        Backbone()


class TestTimm:
    """Models of timm; no weights are downloaded."""

    @pytest.fixture(autouse=True)
    def _timm(self) -> None:
        pytest.importorskip("timm")

    def test_maps_are_named_by_stride(self) -> None:
        net = TimmBackbone("resnet10t")
        assert {n: s.stride for n, s in net.output_shape().items()} == {
            "res2": 4,
            "res3": 8,
            "res4": 16,
            "res5": 32,
        }
        assert net.size_divisibility == 32

    def test_chosen_maps(self) -> None:
        net = TimmBackbone("resnet10t", out_indices=(3,), in_channels=1)
        outputs = net(torch.randn(1, 1, 64, 64))
        assert {name: out.shape[2:] for name, out in outputs.items()} == {"res4": (4, 4)}

    def test_frozen_norm(self) -> None:
        net = TimmBackbone("resnet10t", norm="FrozenBN")
        assert any(isinstance(m, FrozenBatchNorm2d) for m in net.modules())
        assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        assert net.train()(torch.randn(1, 3, 64, 64))["res5"].isfinite().all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": "resnet10x"}, "can't build 'resnet10x'.*resnet10t"),
            ({"name": "resnet10t", "out_indices": (9,)}, r"feature maps \[9\]"),
            ({"name": "resnet10t", "norm": "GN"}, "MODEL.TIMM.NORM"),
        ],
    )
    def test_errors(self, arguments: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TimmBackbone(**arguments)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "timm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'lucidet\[timm\]'"):
        TimmBackbone("resnet10t")
