"""Backbones by name."""

from __future__ import annotations

from lucidet.config import CfgNode
from lucidet.layers import ShapeSpec
from lucidet.modeling.backbone.backbone import Backbone
from lucidet.utils.registry import Registry

__all__ = ["BACKBONE_REGISTRY", "build_backbone"]

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = """Backbones: images -> feature maps.

Each is called as ``build(cfg, input_shape: ShapeSpec)`` and returns a :class:`Backbone`.
"""


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build ``cfg.MODEL.BACKBONE.NAME``.

    Args:
        cfg: the config.
        input_shape: of the images; default: as many channels as MODEL.PIXEL_MEAN has.

    Raises:
        UnknownNameError: (a KeyError and ValueError) no backbone has that name.
        TypeError: what was registered under it doesn't build a Backbone.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    name = cfg.MODEL.BACKBONE.NAME
    backbone = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise TypeError(
            f"MODEL.BACKBONE.NAME {name!r} built a {type(backbone).__name__}; expected a subclass "
            "of lucidet.modeling.Backbone"
        )
    return backbone
