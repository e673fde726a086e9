"""Mask heads, which lucidet does not have; one of your own can be registered and built."""

from __future__ import annotations

from lucidet._absent import absent
from lucidet.config import CfgNode
from lucidet.layers import ShapeSpec
from lucidet.utils.registry import Registry

__all__ = [
    "ROI_MASK_HEAD_REGISTRY",
    "BaseMaskRCNNHead",
    "MaskRCNNConvUpsampleHead",
    "build_mask_head",
    "mask_rcnn_inference",
    "mask_rcnn_loss",
]

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = "Mask heads of users, ``cls(cfg, input_shape)``."

BaseMaskRCNNHead = absent("BaseMaskRCNNHead")
MaskRCNNConvUpsampleHead = absent("MaskRCNNConvUpsampleHead")
mask_rcnn_inference = absent("mask_rcnn_inference")
mask_rcnn_loss = absent("mask_rcnn_loss")


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> object:
    """Build ``cfg.MODEL.ROI_MASK_HEAD.NAME``, which must be one of your own."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
