"""Whole detectors."""

from lucidet.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from lucidet.modeling.meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork

__all__ = ["META_ARCH_REGISTRY", "GeneralizedRCNN", "ProposalNetwork", "build_model"]
