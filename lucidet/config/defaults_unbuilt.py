"""Keys of detectron2 for what lucidet doesn't build: proposals from files, panoptic.

They exist so that detectron2's box configs, which mention some of them, load. A config that turns
one on is refused by :func:`lucidet.config.checks.check_supported`.
"""

from __future__ import annotations

from lucidet.config.node import CfgNode as CN


def add_unbuilt(_C: CN) -> None:
    """Add the switches and sections of what isn't built, with detectron2's defaults."""
    # Proposals from files instead of an RPN
    _C.MODEL.LOAD_PROPOSALS = False

    _C.MODEL.SEM_SEG_HEAD = CN()
    _C.MODEL.SEM_SEG_HEAD.NAME = "SemSegFPNHead"
    _C.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    _C.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255
    _C.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 54
    _C.MODEL.SEM_SEG_HEAD.CONVS_DIM = 128
    _C.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 4
    _C.MODEL.SEM_SEG_HEAD.NORM = "GN"
    _C.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 1.0

    _C.MODEL.PANOPTIC_FPN = CN()
    _C.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT = 1.0
    _C.MODEL.PANOPTIC_FPN.COMBINE = CN()
    _C.MODEL.PANOPTIC_FPN.COMBINE.ENABLED = True
    _C.MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH = 0.5
    _C.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT = 4096
    _C.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.5
