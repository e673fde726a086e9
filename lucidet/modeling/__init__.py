"""The detectors and their parts."""

from lucidet._absent import absent
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
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    BaseKeypointRCNNHead,
    BaseMaskRCNNHead,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
    build_box_head,
    build_keypoint_head,
    build_mask_head,
    build_roi_heads,
)
from lucidet.modeling.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from lucidet.utils.registry import Registry

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "ATSS",
    "BACKBONE_REGISTRY",
    "FCOS",
    "FPN",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "RPN_HEAD_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "Backbone",
    "BaseKeypointRCNNHead",
    "BaseMaskRCNNHead",
    "DatasetMapperTTA",
    "DenseDetector",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "GeneralizedRCNNWithTTA",
    "MViT",
    "PanopticFPN",
    "ProposalNetwork",
    "ROIHeads",
    "ResNet",
    "ResNetBlockBase",
    "RetinaNet",
    "SemanticSegmentor",
    "ShapeSpec",
    "SimpleFeaturePyramid",
    "StandardROIHeads",
    "SwinTransformer",
    "ViT",
    "build_anchor_generator",
    "build_backbone",
    "build_box_head",
    "build_keypoint_head",
    "build_mask_head",
    "build_model",
    "build_proposal_generator",
    "build_resnet_backbone",
    "build_roi_heads",
    "build_rpn_head",
    "build_sem_seg_head",
    "detector_postprocess",
    "get_vit_lr_decay_rate",
    "make_stage",
]

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")  # for heads of users
PanopticFPN = absent("PanopticFPN")
SemanticSegmentor = absent("SemanticSegmentor")
build_sem_seg_head = absent("build_sem_seg_head")

MViT = absent("MViT")
SimpleFeaturePyramid = absent("SimpleFeaturePyramid")
SwinTransformer = absent("SwinTransformer")
ViT = absent("ViT")
get_vit_lr_decay_rate = absent("get_vit_lr_decay_rate")
