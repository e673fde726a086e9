"""Keypoint heads, which lucidet does not have; one of your own can be registered and built."""

from __future__ import annotations

from lucidet._absent import absent
from lucidet.config import CfgNode
from lucidet.layers import ShapeSpec
from lucidet.utils.registry import Registry

__all__ = [
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "BaseKeypointRCNNHead",
    "KRCNNConvDeconvUpsampleHead",
    "build_keypoint_head",
    "keypoint_rcnn_inference",
    "keypoint_rcnn_loss",
]

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
ROI_KEYPOINT_HEAD_REGISTRY.__doc__ = "Keypoint heads of users, ``cls(cfg, input_shape)``."

BaseKeypointRCNNHead = absent("BaseKeypointRCNNHead")
KRCNNConvDeconvUpsampleHead = absent("KRCNNConvDeconvUpsampleHead")
keypoint_rcnn_inference = absent("keypoint_rcnn_inference")
keypoint_rcnn_loss = absent("keypoint_rcnn_loss")


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> object:
    """Build ``cfg.MODEL.ROI_KEYPOINT_HEAD.NAME``, which must be one of your own."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)
