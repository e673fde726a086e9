"""Augmentations and structures as moved code uses them."""

from __future__ import annotations

from typing import Any

import numpy as np


def test_own_augmentations(run: Any) -> None:
    found = run(
        """
import numpy as np
from detectron2.data import transforms as T
from detectron2.data.transforms import Augmentation, AugmentationList, Transform

class MyColorAugmentation(T.Augmentation):
    def get_transform(self, image):
        r = np.random.rand(2)
        return T.ColorTransform(lambda x: x * r[0] + r[1] * 10)

class MyCustomResize(T.Augmentation):
    def get_transform(self, image):
        old_h, old_w = image.shape[:2]
        new_h, new_w = int(old_h * 0.5), int(old_w * 1.5)
        return T.ResizeTransform(old_h, old_w, new_h, new_w)

class InvertColorTransform(Transform):
    def __init__(self, max_value=255):
        super().__init__()
        self._set_attributes(locals())
    def apply_image(self, img):
        return self.max_value - img
    def apply_coords(self, coords):
        return coords
    def inverse(self):
        return self

class NeedsBoxes(Augmentation):
    def __init__(self, prob=1.0):
        super().__init__()
        self._init(locals())
    def get_transform(self, image, boxes):
        x0, y0, x1, y1 = (int(v) for v in boxes[0])
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0)

augs = T.AugmentationList([
    T.RandomBrightness(0.9, 1.1),
    T.RandomFlip(prob=0.5),
    T.RandomApply(T.RandomContrast(0.5, 1.5), prob=0.5),
    T.RandomCrop("absolute", (40, 40)),
    T.RandomExtent(scale_range=(0.9, 1.1), shift_range=(0.1, 0.1)),
    T.FixedSizeCrop(crop_size=(32, 32)),
    T.ResizeScale(min_scale=0.5, max_scale=1.0, target_height=32, target_width=32),
    MyColorAugmentation(),
    MyCustomResize(),
    InvertColorTransform(),
    T.NoOpTransform(),
])
image = np.random.randint(0, 255, (48, 64, 3), dtype=np.uint8)
boxes = np.array([[10.0, 10.0, 30.0, 30.0]])
input = T.AugInput(image, boxes=boxes)
transform = augs(input)
image_transformed = input.image
again = transform.apply_image(image)
box_again = transform.apply_box(boxes)
polygons = transform.apply_polygons([np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0]])])
crop = T.AugInput(image, boxes=boxes)
NeedsBoxes()(crop)
flip = T.HFlipTransform(width=64)
back = (flip + flip.inverse()).apply_coords(np.array([[3.0, 4.0]]))
resized = T.ResizeShortestEdge([24], 100, sample_style="choice").get_transform(image)
text = repr(NeedsBoxes(0.5))
"""
    )
    assert np.array_equal(found["again"], found["image_transformed"])
    assert found["crop"].image.shape == (20, 20, 3)
    assert found["crop"].boxes.tolist() == [[0, 0, 20, 20]]
    assert found["back"].tolist() == [[3, 4]]
    assert (found["resized"].new_h, found["resized"].new_w) == (24, 32)
    assert found["text"] == "NeedsBoxes(prob=0.5)"


def test_structures(run: Any) -> None:
    found = run(
        """
import torch
from detectron2.structures import Boxes, BoxMode, ImageList, Instances, pairwise_iou
from detectron2.layers import batched_nms, cat, nonzero_tuple

boxes = Boxes([[0, 0, 10, 10], [20, 20, 40, 40]])
boxes.clip((30, 30))
boxes.scale(2, 2)
area, centers, inside = boxes.area(), boxes.get_centers(), boxes.inside_box((60, 60))
instances = Instances((60, 60), pred_boxes=boxes, scores=torch.tensor([0.9, 0.2]))
instances.set("pred_classes", torch.tensor([1, 2]))
high = instances[instances.scores > 0.5]
both = Instances.cat([high, instances])
as_dict = both.get_fields()
values = both.pred_boxes.tensor.numpy().tolist()
xywh = BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
one = BoxMode.convert([1.0, 2.0, 3.0, 4.0], from_mode=BoxMode.XYWH_ABS, to_mode=BoxMode.XYXY_ABS)
iou = pairwise_iou(boxes, Boxes(boxes.tensor.clone()))
images = ImageList.from_tensors([torch.zeros(3, 30, 40), torch.zeros(3, 50, 20)], 32)
keep = batched_nms(boxes.tensor, instances.scores, instances.pred_classes, 0.5)
moved = instances.to("cpu")
for box in boxes:
    assert box.shape == (4,)
idx = nonzero_tuple(instances.scores > 0.5)[0]
joined = cat([instances.scores, instances.scores])
"""
    )
    assert len(found["both"]) == 3
    assert found["both"].has("pred_classes")
    assert found["one"] == [1.0, 2.0, 4.0, 6.0]
    assert tuple(found["images"].tensor.shape) == (2, 3, 64, 64)
    assert found["images"][0].shape == (3, 30, 40)
    assert found["iou"].diagonal().tolist() == [1, 1]
