"""From a data-set record to what a model is fed: read, augment, convert."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lucidet.config import configurable
from lucidet.data import detection_utils as utils
from lucidet.data import transforms as T
from lucidet.data.emptied_masks import EmptiedMasks
from lucidet.data.fields import is_crowd
from lucidet.data.keypoint_annotations import annotations_to_keypoints
from lucidet.data.mask_annotations import (
    annotations_to_masks,
    check_mask_format,
    transform_segmentation,
)
from lucidet.data.segmentation import has_segmentation
from lucidet.data.specification import dataset_names
from lucidet.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from lucidet.utils.probe import probe

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Turns a record into a model's input; runs in the loader's worker processes.

    Args:
        is_train: keep the annotations, as ``instances``.
        augmentations: applied in order to the image and its boxes.
        image_format: color order the model expects, see :func:`read_image`.
        use_instance_mask: give ``gt_masks`` too; every annotation needs a ``segmentation``.
        use_keypoint: give ``gt_keypoints`` too.
        instance_mask_format: "polygon" or "bitmask" (also for annotations in RLE).
        keypoint_hflip_indices: of :func:`create_keypoint_hflip_indices`.
        precomputed_proposal_topk: of detectron2, for what lucidet does not have; must stay None.
        recompute_boxes: replace the boxes by those around the masks, after the augmentations: a
            box that was cut by a crop may have become too large.

    All arguments are also attributes, for subclasses with a ``__call__`` of their own
    (`precomputed_proposal_topk` as ``proposal_topk``).

    Calling it returns the record with

    - ``image``: (C, H, W) uint8 tensor (float32 for YUV) after the augmentations;
    - ``instances``: at training, with ``gt_boxes`` inside the image and not empty,
      ``gt_classes``, and ``gt_masks`` and ``gt_keypoints`` as asked for; crowd regions are left
      out, and objects whose mask becomes empty (counted in the attribute ``emptied``);
    - ``height``, ``width``: of the image file, before augmentation; ``file_name``, ``image_id``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: Any = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ) -> None:
        if precomputed_proposal_topk:
            raise ValueError(
                "DatasetMapper: lucidet loads no proposals from files; leave "
                "precomputed_proposal_topk (MODEL.LOAD_PROPOSALS) unset"
            )
        if recompute_boxes and not use_instance_mask:
            raise ValueError("DatasetMapper: recompute_boxes needs use_instance_mask=True")
        check_mask_format(instance_mask_format)
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        self.emptied = EmptiedMasks()

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        augmentations = utils.build_augmentation(cfg, is_train)
        crop = is_train and cfg.INPUT.CROP.ENABLED
        if crop:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        flip_indices = None
        if is_train and cfg.MODEL.KEYPOINT_ON:
            flip_indices = utils.create_keypoint_hflip_indices(
                dataset_names(cfg.DATASETS.TRAIN, "train")
            )
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            "keypoint_hflip_indices": flip_indices,
            "recompute_boxes": crop and cfg.MODEL.MASK_ON,
            "precomputed_proposal_topk": 1 if cfg.MODEL.LOAD_PROPOSALS else None,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Read and augment the image of one record; the record itself is not changed."""
        record = dict(dataset_dict)
        annotations = record.pop("annotations", None)
        image = self._read(record)
        probe("input.read", record=dataset_dict, image=image)

        wanted = self.is_train and annotations is not None
        boxes = None  # augmentations may ask for them
        if wanted:
            # copied, as an overridden `_transform_annotations` may change them in place
            record["annotations"] = [dict(a) for a in annotations or ()]
            boxes = utils.annotations_to_xyxy(_objects(record["annotations"]))
        aug_input = T.AugInput(image, boxes=boxes)
        transforms = self.augmentations(aug_input)

        record["image"] = image_to_tensor(aug_input.image)
        if wanted:
            self._transform_annotations(record, transforms, aug_input.image.shape[:2])
        return record

    def _read(self, record: dict[str, Any]) -> np.ndarray:
        try:
            image = utils.read_image(record["file_name"], format=self.image_format)
        except (OSError, ValueError) as error:
            image_id = record.get("image_id", "not given")
            raise type(error)(f"image_id {image_id}: {error}") from error
        utils.check_image_size(record, image)
        return image

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        """Put ``instances`` in the place of ``annotations``; subclasses may add fields to them.

        Args:
            dataset_dict: the record, changed in place.
            transforms: what was done to the image.
            image_shape: (height, width) afterwards.
        """
        objects = _objects(dataset_dict.pop("annotations"))
        h, w = image_shape
        boxes = np.clip(transforms.apply_box(utils.annotations_to_xyxy(objects)), 0, [w, h, w, h])
        instances = Instances((h, w))
        instances.gt_boxes = Boxes(torch.from_numpy(boxes).to(torch.float32))
        classes = [int(o["category_id"]) for o in objects]
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
        if self.use_instance_mask:
            instances.gt_masks = self._masks(objects, dataset_dict, transforms, image_shape)
        if self.use_keypoint:
            instances.gt_keypoints = self._keypoints(objects, dataset_dict, transforms, image_shape)
        if self.use_instance_mask:
            self.emptied.add(dataset_dict, int((~instances.gt_masks.nonempty()).sum()))
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)

    def _masks(
        self,
        objects: list[dict[str, Any]],
        record: dict[str, Any],
        transforms: T.Transform,
        image_shape: tuple[int, int],
    ) -> PolygonMasks | BitMasks:
        """Return the masks of an image's objects, which are decoded only now."""
        source = (record["height"], record["width"]) if "height" in record else None
        moved = []
        for number, one in enumerate(objects):
            try:
                if not has_segmentation(one):
                    raise ValueError("has no segmentation, and masks are to be loaded")
                mask = transform_segmentation(one["segmentation"], transforms, image_shape, source)
            except ValueError as error:
                raise _named(error, record, one, number) from None
            moved.append({**one, "segmentation": mask})
        try:
            return annotations_to_masks(moved, image_shape, self.instance_mask_format)
        except ValueError as error:
            raise _named(error, record) from None

    def _keypoints(
        self,
        objects: list[dict[str, Any]],
        record: dict[str, Any],
        transforms: T.Transform,
        image_shape: tuple[int, int],
    ) -> Keypoints:
        """Return the keypoints of an image's objects."""
        indices = self.keypoint_hflip_indices
        moved = []
        for number, one in enumerate(objects):
            points = one.get("keypoints")
            if points is not None:
                try:
                    points = utils.transform_keypoint_annotations(
                        points, transforms, image_shape, indices
                    )
                except ValueError as error:
                    raise _named(error, record, one, number) from None
            moved.append({**one, "keypoints": points})
        try:
            return annotations_to_keypoints(moved, None if indices is None else len(indices))
        except ValueError as error:
            raise _named(error, record) from None


def _named(
    error: ValueError,
    record: dict[str, Any],
    annotation: dict[str, Any] | None = None,
    number: int = 0,
) -> ValueError:
    """Return the error with the image, and the annotation, before what it says."""
    where = f"image {record.get('file_name')} (image_id {record.get('image_id')})"
    if annotation is not None:
        where += f", annotation {annotation.get('id', f'number {number}')}"
    return ValueError(f"{where}: {error}")


def _objects(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the annotations that are not crowd regions."""
    return [a for a in annotations if not is_crowd(a)]


def image_to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, C) array of any strides -> (C, H, W) contiguous tensor, own memory."""
    planes = image[:, :, None] if image.ndim == 2 else image
    dtype = np.uint8 if image.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.array(planes.transpose(2, 0, 1), dtype=dtype, order="C"))
