"""Where detectron2 registers COCO data sets; the code is in `coco`, beside the reading."""

from __future__ import annotations

from lucidet.data.datasets.coco import register_coco_instances
from lucidet.utils.absent import absent

__all__ = ["register_coco_instances", "register_coco_panoptic_separated"]

register_coco_panoptic_separated = absent(
    "register_coco_panoptic_separated", "panoptic segmentation"
)
