"""Backbones: image -> feature maps."""

from lucidet.modeling.backbone.backbone import Backbone
from lucidet.modeling.backbone.build import BACKBONE_REGISTRY, build_backbone
from lucidet.modeling.backbone.fpn import (
    FPN,
    build_resnet_fpn_backbone,
    build_retinanet_resnet_fpn_backbone,
)
from lucidet.modeling.backbone.mobilenet import (
    MobileNetV3,
    build_mobilenet_backbone,
    build_mobilenet_fpn_backbone,
)
from lucidet.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
    ResNetBlockBase,
    build_resnet_backbone,
    make_stage,
)
from lucidet.modeling.backbone.timm import (
    TimmBackbone,
    build_timm_backbone,
    build_timm_fpn_backbone,
)

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "Backbone",
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "MobileNetV3",
    "ResNet",
    "ResNetBlockBase",
    "TimmBackbone",
    "build_backbone",
    "build_mobilenet_backbone",
    "build_mobilenet_fpn_backbone",
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
    "make_stage",
]
