"""Steps between a record and a model's input, for mappers of one's own too.

A record is the dict that a data set gives for an image: ``file_name``, ``height``, ``width``,
``image_id`` and ``annotations``, a list of dicts with ``bbox``, ``bbox_mode``, ``category_id``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lucidet._absent import absent
from lucidet.data import transforms as T
from lucidet.data.catalog import check_metadata_consistency
from lucidet.data.fields import as_size
from lucidet.data.image_io import YUV_FORMAT, convert_image_to_rgb, convert_PIL_to_numpy, read_image
from lucidet.data.keypoint_annotations import (
    annotations_to_keypoints,
    create_keypoint_hflip_indices,
    transform_keypoint_annotations,
)
from lucidet.data.mask_annotations import (
    annotations_to_masks,
    any_segmentation,
    transform_segmentation,
)
from lucidet.structures import Boxes, BoxMode, Instances, polygons_to_bitmask

__all__ = [
    "YUV_FORMAT",
    "SizeMismatchError",
    "annotations_to_instances",
    "annotations_to_instances_rotated",
    "annotations_to_xyxy",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "check_metadata_consistency",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "gen_crop_transform_with_instance",
    "get_fed_loss_cls_weights",
    "polygons_to_bitmask",
    "read_image",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
    "transform_proposals",
]

get_fed_loss_cls_weights = absent("get_fed_loss_cls_weights")
transform_proposals = absent("transform_proposals")

# M objects, K classes


class SizeMismatchError(ValueError):
    """An image has another size than its record says."""


def check_image_size(dataset_dict: dict[str, Any], image: np.ndarray) -> None:
    """Compare an image with its record; fill the record's size in where it is absent.

    Args:
        dataset_dict: the record; ``width`` and ``height`` are set where it has none that can be.
        image: (H, W, ...), upright.

    Raises:
        SizeMismatchError: (a ValueError) the sizes differ.
    """
    h, w = image.shape[:2]
    try:
        expected = (as_size(dataset_dict.get("width")), as_size(dataset_dict.get("height")))
    except ValueError as error:
        raise ValueError(
            f"image {dataset_dict.get('file_name')} (image_id {dataset_dict.get('image_id')}): "
            f"width and height {error}"
        ) from None
    if None not in expected and expected != (w, h):
        turned = (
            " They are each other's transpose: the annotations were made without regard to "
            "the file's EXIF orientation, which is applied here; save the image upright."
            if expected == (h, w)
            else ""
        )
        raise SizeMismatchError(
            f"image {dataset_dict.get('file_name', '(no file name)')} "
            f"(image_id {dataset_dict.get('image_id', 'not given')}) is {w} x {h} pixels "
            f"(width x height), its annotations say {expected[0]} x {expected[1]}.{turned} "
            "Boxes would land in wrong places: correct width and height in the annotation "
            "file, or put the image back that was annotated"
        )
    dataset_dict["width"], dataset_dict["height"] = w, h


def annotations_to_xyxy(annos: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the boxes of annotations as (M, 4) float64 XYXY pixels, whatever their mode.

    >>> annotations_to_xyxy([{"bbox": [10, 20, 5, 5], "bbox_mode": BoxMode.XYWH_ABS}]).tolist()
    [[10.0, 20.0, 15.0, 25.0]]
    """
    if not annos:
        return np.zeros((0, 4))
    modes = {anno["bbox_mode"] for anno in annos}
    if modes == {BoxMode.XYXY_ABS} or modes == {BoxMode.XYWH_ABS}:  # all at once
        boxes = np.array([anno["bbox"] for anno in annos], dtype=np.float64).reshape(-1, 4)
        if modes == {BoxMode.XYWH_ABS}:
            boxes[:, 2:] += boxes[:, :2]
        return boxes
    converted = [
        BoxMode.convert(list(anno["bbox"]), anno["bbox_mode"], BoxMode.XYXY_ABS) for anno in annos
    ]
    return np.array(converted, dtype=np.float64)


def transform_instance_annotations(
    annotation: dict[str, Any],
    transforms: T.Transform | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: np.ndarray | None = None,
) -> dict[str, Any]:
    """Move one annotation's box, mask and keypoints as its image was changed.

    Args:
        annotation: changed in place: ``bbox`` becomes a (4,) array inside the image, ``bbox_mode``
            XYXY_ABS; ``segmentation``, if it has one, polygons or (H, W) pixels; ``keypoints``
            (K, 3).
        transforms: what was done to the image.
        image_size: (height, width) afterwards.
        keypoint_hflip_indices: (K,) of :func:`create_keypoint_hflip_indices`.

    Returns:
        the same dict. Box or mask may have become empty; :func:`filter_empty_instances` removes
        such objects.
    """
    if isinstance(transforms, Sequence):
        transforms = T.TransformList(transforms)
    h, w = image_size
    moved = transforms.apply_box(annotations_to_xyxy([annotation]))[0]
    annotation["bbox"] = moved.clip(min=0, max=[w, h, w, h])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if annotation.get("segmentation") is not None:
        annotation["segmentation"] = transform_segmentation(
            annotation["segmentation"], transforms, image_size
        )
    if annotation.get("keypoints") is not None:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def annotations_to_instances(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Return annotations as Instances with ``gt_boxes`` (M, 4) and ``gt_classes`` (M,) int64.

    Where annotations have a ``segmentation`` they have ``gt_masks`` too, where they have
    ``keypoints`` also ``gt_keypoints``.

    Args:
        annos: with ``bbox``, ``bbox_mode`` and ``category_id`` in 0..K-1.
        image_size: (height, width) of the image the annotations lie on.
        mask_format: "polygon" gives PolygonMasks, "bitmask" BitMasks.

    Raises:
        ValueError: a mask or keypoints can't be used; names the annotation.
    """
    target = Instances(image_size)
    boxes = torch.from_numpy(annotations_to_xyxy(annos)).to(torch.float32)
    target.gt_boxes = Boxes(boxes)
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    if any_segmentation(annos):
        target.gt_masks = annotations_to_masks(annos, image_size, mask_format)
    if any(a.get("keypoints") is not None for a in annos):
        target.gt_keypoints = annotations_to_keypoints(annos)
    return target


def annotations_to_instances_rotated(
    annos: Sequence[dict[str, Any]], image_size: tuple[int, int]
) -> Instances:
    """As :func:`annotations_to_instances` with RotatedBoxes, clipped to the image.

    Args:
        annos: ``bbox`` is (x centre, y centre, width, height, angle in degrees).
        image_size: (height, width).
    """
    from lucidet.structures import RotatedBoxes

    target = Instances(image_size)
    rows = [list(anno["bbox"]) for anno in annos]
    boxes = RotatedBoxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 5))
    boxes.clip(image_size)
    target.gt_boxes = boxes
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Any:
    """Return `instances` without those whose box or mask is empty.

    Args:
        instances: with ``gt_boxes``, ``gt_masks``, both or none.
        by_box, by_mask: look at the boxes, at the masks.
        box_threshold: width and height must exceed this many pixels.
        return_mask: also return the (M,) bool tensor of those kept.
    """
    if not by_box and not by_mask:
        raise ValueError("filter_empty_instances: one of by_box and by_mask must be True")
    kept = torch.ones(len(instances), dtype=torch.bool)
    if by_box and instances.has("gt_boxes"):
        kept = kept & instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        kept = kept & instances.gt_masks.nonempty()
    filtered = instances[kept]
    return (filtered, kept) if return_mask else filtered


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict[str, Any]
) -> T.CropTransform:
    """Return a random crop whose window contains the centre of one object.

    Args:
        crop_size: (height, width) of the window, in pixels; at most the image is taken.
        image_size: (height, width).
        instance: an annotation with ``bbox`` and ``bbox_mode``.

    Raises:
        ValueError: the box's centre is outside the image.
    """
    x1, y1, x2, y2 = annotations_to_xyxy([instance])[0]
    center = np.array([(y1 + y2) / 2, (x1 + x2) / 2])
    size = np.array(image_size)
    if (center < 0).any() or (center > size).any():
        raise ValueError(
            f"the centre of box {[x1, y1, x2, y2]} (XYXY) is outside the image of "
            f"{image_size[1]} x {image_size[0]} (width x height): can't crop around it"
        )
    crop = np.minimum(np.array(crop_size), size)
    # the window [start, start + crop) holds the centre and stays inside the image
    first = np.maximum(np.ceil(center).astype(int) - crop, 0)
    last = np.minimum(np.floor(center).astype(int), size - crop)
    y0, x0 = (int(np.random.randint(a, max(a, b) + 1)) for a, b in zip(first, last, strict=True))
    return T.CropTransform(
        x0, y0, int(crop[1]), int(crop[0]), orig_w=image_size[1], orig_h=image_size[0]
    )


def build_augmentation(cfg: Any, is_train: bool) -> list[T.Augmentation | T.Transform]:
    """Return the augmentations that a config asks for: resizing, and flipping at training.

    At training the resizing may differ from PIL's by 1 of 255 in some pixels (``fast``, see
    ResizeTransform); at test time it is PIL's exactly.
    """
    if is_train:
        min_size, max_size = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN
        sample_style = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    else:
        min_size, max_size = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        sample_style = "choice"
    augmentations: list[T.Augmentation | T.Transform] = [
        T.ResizeShortestEdge(min_size, max_size, sample_style, fast=is_train)
    ]
    if is_train and cfg.INPUT.RANDOM_FLIP != "none":
        if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "vertical"):
            raise ValueError(
                "INPUT.RANDOM_FLIP must be 'horizontal', 'vertical' or 'none', "
                f"got {cfg.INPUT.RANDOM_FLIP!r}"
            )
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        augmentations.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    return augmentations


build_transform_gen = build_augmentation
