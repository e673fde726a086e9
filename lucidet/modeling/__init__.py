"""The detectors and their parts."""

from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, build_anchor_generator
from lucidet.modeling.backbone import (
    BACKBONE_REGISTRY,
    FPN,
    Backbone,
    ResNet,
    ResNetBlockBase,
    build_backbone,
    build_resnet_backbone,
    make_stage,
)
from lucidet.modeling.postprocessing import detector_postprocess

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BACKBONE_REGISTRY",
    "FPN",
    "Backbone",
    "ResNet",
    "ResNetBlockBase",
    "ShapeSpec",
    "build_anchor_generator",
    "build_backbone",
    "build_resnet_backbone",
    "detector_postprocess",
    "make_stage",
]
