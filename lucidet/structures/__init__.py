"""What flows through a detector: images, boxes and the objects of an image."""

from lucidet.structures.boxes import (
    Boxes,
    BoxMode,
    matched_boxlist_iou,
    matched_pairwise_iou,
    pairwise_intersection,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance,
)
from lucidet.structures.image_list import ImageList
from lucidet.structures.instances import Instances
from lucidet.structures.keypoints import Keypoints, heatmaps_to_keypoints
from lucidet.structures.masks import BitMasks, PolygonMasks, ROIMasks, polygons_to_bitmask
from lucidet.structures.padded import (
    PaddedBoxes,
    PaddedInstances,
    RowsOfImages,
    clip_padded,
    pad_fields,
    pad_rows,
    set_other_fields,
    take_rows,
    tensor_on,
)
from lucidet.structures.rotated_boxes import RotatedBoxes
from lucidet.structures.rotated_boxes import pairwise_iou as pairwise_iou_rotated
from lucidet.structures.rows import gather_rows, select_rows, set_later, source_and_rows

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PaddedBoxes",
    "PaddedInstances",
    "PolygonMasks",
    "ROIMasks",
    "RotatedBoxes",
    "RowsOfImages",
    "clip_padded",
    "gather_rows",
    "heatmaps_to_keypoints",
    "matched_boxlist_iou",
    "matched_pairwise_iou",
    "pad_fields",
    "pad_rows",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_iou_rotated",
    "pairwise_point_box_distance",
    "polygons_to_bitmask",
    "select_rows",
    "set_later",
    "set_other_fields",
    "source_and_rows",
    "take_rows",
    "tensor_on",
]
