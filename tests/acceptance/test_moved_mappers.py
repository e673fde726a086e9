"""Mappers of users: subclasses of DatasetMapper, and mappers from detectron2's early days."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.acceptance.moved_code import BALLOONS, CONFIG


def test_subclasses_of_the_mapper(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import copy, torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

class OwnCall(DatasetMapper):
    def __call__(self, record):
        record = copy.deepcopy(record)
        image = utils.read_image(record["file_name"], format=self.image_format)
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        size = aug_input.image.shape[:2]
        if self.proposal_topk is not None:
            utils.transform_proposals(record, size, transforms, proposal_topk=self.proposal_topk)
        objects = [
            utils.transform_instance_annotations(
                o, transforms, size, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
            for o in record.pop("annotations")
        ]
        made = utils.annotations_to_instances(objects, size, mask_format=self.instance_mask_format)
        if self.use_instance_mask and self.recompute_boxes:
            made.gt_boxes = made.gt_masks.get_bounding_boxes()
        record["instances"] = utils.filter_empty_instances(made)
        record["image"] = torch.as_tensor(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        return record

class WithDifficulty(DatasetMapper):
    def _transform_annotations(self, dataset_dict, transforms, image_shape):
        difficulty = [a.get("difficult", 0) for a in dataset_dict["annotations"]]
        super()._transform_annotations(dataset_dict, transforms, image_shape)
        dataset_dict["instances"].gt_difficult = torch.tensor(difficulty)

steps = [T.RandomResize([(24, 32)]), T.RandomFlip(prob=1.0)]
own = next(iter(build_detection_train_loader(
    cfg, mapper=OwnCall(cfg, is_train=True, augmentations=steps)
)))
records = get_balloon_dicts(".")
mapper = WithDifficulty(
    is_train=True, augmentations=steps, image_format="BGR", use_instance_mask=False,
    use_keypoint=False, instance_mask_format="bitmask", recompute_boxes=False,
)
mapped = mapper(records[0])
"""
    )
    assert found["own"][0]["image"].shape == (3, 24, 32)
    mapped = found["mapped"]["instances"]
    assert mapped.gt_difficult.tolist() == [0]
    # half the size, then mirrored in 32 pixels
    assert mapped.gt_boxes.tensor.tolist() == [[11.75, 5.25, 26.75, 20.25]]
    assert "annotations" in found["records"][0]
    assert found["records"][0]["annotations"][0]["bbox"][0] == 10.5


def test_transforms_that_only_look_like_ours(run: Any) -> None:
    found = run(
        """
import numpy as np
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

class Foreign:  # as one of fvcore's
    def apply_image(self, img):
        return img[:, ::-1]
    def apply_coords(self, coords):
        return np.stack([64 - coords[:, 0], coords[:, 1]], axis=1)
    def apply_box(self, box):
        box = np.asarray(box)
        return np.stack([64 - box[:, 2], box[:, 1], 64 - box[:, 0], box[:, 3]], axis=1)
    def apply_segmentation(self, seg):
        return self.apply_image(seg)

class Chooser(T.Augmentation):
    def get_transform(self, image):
        return Foreign()

image = np.zeros((48, 64, 3), np.uint8)
_, transforms = T.apply_augmentations([Chooser(), Foreign(), T.HFlipTransform(64)], image)
anno = {"bbox": [1.0, 2.0, 11.0, 12.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
box = utils.transform_instance_annotations(anno, transforms, (48, 64))["bbox"]
"""
    )
    assert isinstance(found["transforms"], found["T"].TransformList)
    assert np.array_equal(found["box"], [53, 2, 63, 12])
