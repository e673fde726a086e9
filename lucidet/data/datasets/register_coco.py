"""Where detectron2 registers COCO data sets; the code is in `coco`, beside the reading."""

from __future__ import annotations

from lucidet._absent import absent
from lucidet.data.datasets.coco import register_coco_instances

__all__ = ["register_coco_instances", "register_coco_panoptic_separated"]

register_coco_panoptic_separated = absent("register_coco_panoptic_separated")
