"""Data sets: COCO and Pascal VOC formats, the built-in names, the generated "shapes"."""

from lucidet.data.datasets import builtin  # registers the built-in names
from lucidet.data.datasets.cityscapes import load_cityscapes_instances
from lucidet.data.datasets.coco import (
    convert_to_coco_dict,
    convert_to_coco_json,
    load_coco_json,
    load_sem_seg,
    register_coco_instances,
)
from lucidet.data.datasets.lvis import (
    get_lvis_instances_meta,
    load_lvis_json,
    register_lvis_instances,
)
from lucidet.data.datasets.pascal_voc import load_voc_instances, register_pascal_voc
from lucidet.data.datasets.register_coco import register_coco_panoptic_separated
from lucidet.data.datasets.shapes import write_shapes

__all__ = [
    "builtin",
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "get_lvis_instances_meta",
    "load_cityscapes_instances",
    "load_coco_json",
    "load_lvis_json",
    "load_sem_seg",
    "load_voc_instances",
    "register_coco_instances",
    "register_coco_panoptic_separated",
    "register_lvis_instances",
    "register_pascal_voc",
    "write_shapes",
]
