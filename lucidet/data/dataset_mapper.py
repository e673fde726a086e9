"""From a data-set record to what a model is fed: read, augment, convert."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lucidet.config import configurable
from lucidet.data import detection_utils as utils
from lucidet.data import transforms as T
from lucidet.data.fields import is_crowd
from lucidet.structures import Boxes, Instances
from lucidet.utils.probe import probe

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Turns a record into a model's input; runs in the loader's worker processes.

    Args:
        is_train: keep the annotations, as ``instances``.
        augmentations: applied in order to the image and its boxes.
        image_format: colour order the model expects, see :func:`read_image`.
        use_instance_mask, use_keypoint, precomputed_proposal_topk, recompute_boxes: names of
            detectron2's mapper for what lucidet does not have; must stay as they are.
        instance_mask_format, keypoint_hflip_indices: likewise, and without effect.

    All arguments are also attributes, for subclasses with a ``__call__`` of their own
    (`precomputed_proposal_topk` as ``proposal_topk``).

    Calling it returns the record with

    - ``image``: (C, H, W) uint8 tensor (float32 for YUV) after the augmentations;
    - ``instances``: at training, with ``gt_boxes`` inside the image and not empty, and
      ``gt_classes``; crowd regions are left out;
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
        unsupported = {
            "use_instance_mask (MODEL.MASK_ON)": use_instance_mask,
            "use_keypoint (MODEL.KEYPOINT_ON)": use_keypoint,
            "precomputed_proposal_topk (MODEL.LOAD_PROPOSALS)": precomputed_proposal_topk,
            "recompute_boxes": recompute_boxes,
        }
        asked = [name for name, value in unsupported.items() if value]
        if asked:
            raise ValueError(f"DatasetMapper: lucidet loads boxes only; leave {asked[0]} unset")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        augmentations = utils.build_augmentation(cfg, is_train)
        if is_train and cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
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
        dataset_dict["instances"] = utils.filter_empty_instances(instances)


def _objects(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the annotations that are not crowd regions."""
    return [a for a in annotations if not is_crowd(a)]


def image_to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, C) array of any strides -> (C, H, W) contiguous tensor, own memory."""
    planes = image[:, :, None] if image.ndim == 2 else image
    dtype = np.uint8 if image.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.array(planes.transpose(2, 0, 1), dtype=dtype, order="C"))
