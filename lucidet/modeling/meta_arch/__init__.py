"""Whole detectors."""

from lucidet.modeling.meta_arch.atss import ATSS
from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.modeling.meta_arch.fcos import FCOS
from lucidet.modeling.meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork
from lucidet.modeling.meta_arch.retinanet import RetinaNet

__all__ = [
    "ATSS",
    "FCOS",
    "META_ARCH_REGISTRY",
    "DenseDetector",
    "GeneralizedRCNN",
    "ProposalNetwork",
    "RetinaNet",
    "build_model",
]
