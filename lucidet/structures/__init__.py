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
from lucidet.structures.padded_boxes import PaddedBoxes, pad_rows
from lucidet.structures.rotated_boxes import RotatedBoxes
from lucidet.structures.rotated_boxes import pairwise_iou as pairwise_iou_rotated

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PaddedBoxes",
    "PolygonMasks",
    "ROIMasks",
    "RotatedBoxes",
    "heatmaps_to_keypoints",
    "matched_boxlist_iou",
    "matched_pairwise_iou",
    "pad_rows",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_iou_rotated",
    "pairwise_point_box_distance",
    "polygons_to_bitmask",
]
