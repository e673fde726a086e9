"""What every detector does before its first layer and after its last."""

# N images, C channels, H x W of the padded batch

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from lucidet.modeling.backbone import Backbone
from lucidet.modeling.meta_arch.class_map import (
    checked_class_map,
    inverse_class_map,
    with_classes,
)
from lucidet.modeling.meta_arch.inputs import (
    column_on_device,
    normalized_on_gpu,
    refuse_batch,
    refuse_image,
    refuse_instances,
)
from lucidet.modeling.postprocessing import batch_on_gpu, keep_rows, postprocess
from lucidet.structures import ImageList, Instances
from lucidet.utils.probe import probe

__all__ = [
    "Detector",
    "Record",
    "check_inputs",
    "instances_on_device",
    "normalized_batch",
    "postprocess",
]

#: one image's entry of a batch: `image`, at training `instances`, and what names the image
Record = dict[str, Any]


class Detector(nn.Module):
    """A backbone and the statistics of its images; the spines of both families stand on it."""

    backbone: Backbone
    pixel_mean: Tensor
    pixel_std: Tensor
    #: (K,) each class's class of the data set, or -1; None: they are the same
    class_map: Tensor | None = None
    #: the way back, for objects to train; None: the same, or several classes stand for one
    own_classes: Tensor | None = None
    #: detections that clipping leaves without area stay, as in torchvision
    keep_empty_boxes = False
    #: images are padded to multiples of this too, where that makes fewer different sizes
    padding_multiple = 1

    def __init__(
        self,
        backbone: Backbone | None = None,
        pixel_mean: Sequence[float] = (),
        pixel_std: Sequence[float] = (),
    ) -> None:
        """
        Args:
            backbone: images (N, C, H, W) -> dict of features. None: a subclass sets `backbone`,
                `pixel_mean` and `pixel_std` itself.
            pixel_mean: one entry a channel, in the units of the images (0..255).
            pixel_std: likewise.

        Raises:
            ValueError: means for another number of channels than deviations.
        """
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(
                f"MODEL.PIXEL_MEAN has {len(pixel_mean)} channels, but MODEL.PIXEL_STD has "
                f"{len(pixel_std)}; both need one entry a channel"
            )
        if backbone is None:
            return
        self.backbone = backbone
        # not persistent: detectron2's weights don't hold them, the config does
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @property
    def device(self) -> torch.device:
        """Where the model is, and where it moves its inputs."""
        return self.pixel_mean.device

    @property
    def _num_classes(self) -> int | None:
        return getattr(self, "num_classes", None)

    def set_class_map(self, class_map: Sequence[int]) -> None:
        """Say what the model's classes are in the data set: `MODEL.CLASS_MAP`.

        Detections get the data set's classes when they are scaled to the size asked for, after
        everything that the model chooses by its own; objects to train get the model's.

        Args:
            class_map: one entry a class, 0-based class of the data set, or -1: it has no such
                class, and detections of it are dropped. Empty: the classes are the same.

        Raises:
            ValueError: another number of entries, an entry below -1, or a model without classes.
        """
        if not len(class_map):
            self.class_map = self.own_classes = None
            return
        if self._num_classes is None:
            raise ValueError(
                f"MODEL.CLASS_MAP has {len(class_map)} entries, but {type(self).__name__} finds no "
                "classes; set MODEL.CLASS_MAP []"
            )
        self.class_map = checked_class_map(class_map, self._num_classes).to(self.device)
        self.own_classes = inverse_class_map(self.class_map)

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        """Return `x` where the model is; overridden `preprocess_image`s call it."""
        return x.to(self.device, non_blocking=True)

    def prepare(self, batched_inputs: list[Record]) -> tuple[ImageList, list[Instances] | None]:
        """Return all that the first layer and the losses need: what every detector does first.

        Args:
            batched_inputs: see `forward`.

        Returns:
            The normalized and padded images, and at training each image's ground truth, with the
            model's own classes; both on the model's device.
        """
        if torch.onnx.is_in_onnx_export():
            self.__prepare_scriptable__()
        check_inputs(
            batched_inputs,
            num_channels=len(self.pixel_mean),
            training=self.training,
            num_classes=self._num_classes if self.class_map is None else self._classes_of_data(),
        )
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return images, None
        given = [record["instances"] for record in batched_inputs]
        return images, instances_on_device(given, self.pixel_mean.device, self.own_classes)

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse TorchScript and ONNX: torch.jit.script calls this before it compiles a module."""
        raise NotImplementedError(
            f"lucidet does not export {type(self).__name__} to TorchScript by torch.jit.script, "
            "nor to ONNX; torch.jit.trace records it for images of one size"
        )

    def _classes_of_data(self) -> int | None:
        """Return how many classes ground truth has; None at test, where it is not looked at."""
        if self.training and self.own_classes is None:
            raise ValueError(
                "MODEL.CLASS_MAP can't be used for training: each class of the data set, from "
                "0 on, must stand in it once; set MODEL.CLASS_MAP [], and NUM_CLASSES of the "
                "model to that of the data set"
            )
        return None if self.own_classes is None else len(self.own_classes)

    def preprocess_image(self, batched_inputs: Sequence[Record]) -> ImageList:
        """Return the images normalized and padded to one size, on the model's device.

        Args:
            batched_inputs: each with `image` (C, H, W), 0..255, channels as in INPUT.FORMAT.
        """
        batch = normalized_batch(
            [record["image"] for record in batched_inputs],
            self.pixel_mean,
            self.pixel_std,
            math.lcm(self.backbone.size_divisibility or 1, self.padding_multiple),
            self.backbone.padding_constraints,
        )
        probe("input.batch", images=batch.tensor, image_sizes=batch.image_sizes)
        return batch

    def _in_classes_of_data(self, detections: list[Instances]) -> list[Instances]:
        """Return the detections of each image with the data set's classes."""
        if self.class_map is None:
            return detections
        batch = batch_on_gpu(detections)
        if batch is not None:
            classes = self.class_map[batch.fields["pred_classes"]]  # (N, P)
            fields = {**batch.fields, "pred_classes": classes}
            return keep_rows(replace(batch, fields=fields), classes >= 0).split()
        renamed = [with_classes(found, "pred_classes", self.class_map) for found in detections]
        return [found[found.pred_classes >= 0] for found in renamed]

    def _postprocess(
        self,
        instances: list[Instances],
        batched_inputs: list[Record],
        image_sizes: list[tuple[int, int]],
    ) -> list[Record]:
        instances = self._in_classes_of_data(instances)
        return postprocess(instances, batched_inputs, image_sizes, self.keep_empty_boxes)


def check_inputs(
    batched_inputs: Sequence[Mapping[str, Any]],
    *,
    num_channels: int,
    training: bool,
    num_classes: int | None = None,
) -> None:
    """Refuse a batch that could only fail, or spoil the training, further down.

    A box without area would turn into a NaN loss thousands of steps later; a class outside 0..K-1
    would be an index error on the GPU, without a name. Values on a GPU are not looked at, because
    that would make each step wait for it.

    Args:
        batched_inputs: one dict an image, with `image` (C, H, W) and, at training, `instances`.
        num_channels: C, that the model was built for.
        training: ground truth is needed.
        num_classes: K, where the model has classes.

    Raises:
        ValueError: as ``image 17 (a.jpg), gt_boxes[3] = [40, 10, 40, 90]: width must be > 0``.
    """
    if isinstance(batched_inputs, Mapping | Tensor) or not batched_inputs:
        refuse_batch(batched_inputs)
    for index, record in enumerate(batched_inputs):
        image = record.get("image")
        if image is None or image.dim() != 3 or len(image) != num_channels:
            refuse_image(record, index, num_channels)
        if training and not _is_sound(record.get("instances"), num_classes):
            refuse_instances(record, index, num_classes)


def _is_sound(instances: Instances | None, num_classes: int | None) -> bool:
    """Return whether boxes are finite and have an area, and classes are in 0..K-1."""
    if instances is None:
        return False
    boxes, classes = instances.gt_boxes.tensor, getattr(instances, "gt_classes", None)
    if boxes.device.type == "cpu" and boxes.shape[1] == 4:
        sizes = boxes[:, 2:] - boxes[:, :2]
        if not (boxes.isfinite().all() and (sizes > 0).all()):
            return False
    if classes is None or num_classes is None or classes.device.type != "cpu" or not len(classes):
        return True
    return bool(classes.min() >= 0) and bool(classes.max() < num_classes)


def normalized_batch(
    images: Sequence[Tensor],
    mean: Tensor,
    std: Tensor,
    size_divisibility: int = 0,
    padding_constraints: dict[str, int] | None = None,
) -> ImageList:
    """Return (image - mean) / std of each image in one batch, with zeros around.

    Args:
        images: each (C, H_i, W_i), of any number type, on the device of `mean` or on another.
        mean, std: (C, 1, 1).
        size_divisibility, padding_constraints: as in :meth:`ImageList.from_tensors`.
    """
    padding = (size_divisibility, 0.0, padding_constraints)
    if mean.device.type != "cpu":
        return normalized_on_gpu(images, mean, std, padding)
    dtype = torch.result_type(images[0], mean)
    batch = ImageList.from_tensors([im.to(mean.device) for im in images], *padding, dtype=dtype)
    for image, (height, width) in zip(batch.tensor, batch.image_sizes, strict=True):
        image[:, :height, :width].sub_(mean).div_(std)
    return batch


def instances_on_device(
    instances: Sequence[Instances], device: torch.device, classes: Tensor | None = None
) -> list[Instances]:
    """Return each image's instances on a device; each field of all images is copied at once.

    Fields of the results are views of the batch's. A field whose type can't be concatenated, or
    that not every image has, is copied image by image.

    Args:
        instances: of each image.
        device: where to.
        classes: on the device: an entry for each class of `gt_classes`, by which it is replaced.
    """
    if device.type == "cpu" and classes is None:
        return [own.to(device) for own in instances]
    names = instances[0].get_fields()
    if any(own.get_fields().keys() != names.keys() for own in instances):
        moved = [own.to(device, non_blocking=True) for own in instances]
        for own in moved if classes is not None else ():
            own.gt_classes = classes[own.gt_classes]  # type: ignore[index]
        return moved
    results = [Instances(own.image_size) for own in instances]
    for name in names:
        values = [own.get(name) for own in instances]
        mapped = classes if name == "gt_classes" else None
        for result, value in zip(results, column_on_device(values, device, mapped), strict=True):
            result.set(name, value)
    return results
