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
from lucidet.modeling.meta_arch import (
    ATSS,
    FCOS,
    META_ARCH_REGISTRY,
    DenseDetector,
    GeneralizedRCNN,
    ProposalNetwork,
    RetinaNet,
    build_model,
)
from lucidet.modeling.postprocessing import detector_postprocess
from lucidet.modeling.proposal_generator import (
    PROPOSAL_GENERATOR_REGISTRY,
    RPN_HEAD_REGISTRY,
    build_proposal_generator,
    build_rpn_head,
)
from lucidet.modeling.roi_heads import (
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
    build_box_head,
    build_roi_heads,
)
from lucidet.modeling.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "ATSS",
    "BACKBONE_REGISTRY",
    "Backbone",
    "DatasetMapperTTA",
    "DenseDetector",
    "FCOS",
    "FPN",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "GeneralizedRCNNWithTTA",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ProposalNetwork",
    "ROIHeads",
    "RetinaNet",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "RPN_HEAD_REGISTRY",
    "ResNet",
    "ResNetBlockBase",
    "ShapeSpec",
    "StandardROIHeads",
    "build_anchor_generator",
    "build_backbone",
    "build_box_head",
    "build_model",
    "build_proposal_generator",
    "build_resnet_backbone",
    "build_roi_heads",
    "build_rpn_head",
    "detector_postprocess",
    "make_stage",
]
