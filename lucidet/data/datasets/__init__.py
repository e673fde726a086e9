"""Data sets: COCO and Pascal VOC formats, the built-in names, the generated "shapes"."""

from . import builtin  # registers the built-in names
from .coco import convert_to_coco_dict, convert_to_coco_json, load_coco_json
from .pascal_voc import load_voc_instances, register_pascal_voc
from .register_coco import register_coco_instances
from .shapes import write_shapes

__all__ = [
    "builtin",
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_voc_instances",
    "register_coco_instances",
    "register_pascal_voc",
    "write_shapes",
]
