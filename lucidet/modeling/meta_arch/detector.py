"""What every detector does before its first layer and after its last."""

# N images, C channels, H x W of the padded batch

from __future__ import annotations

import math
from collections.abc import Sequence
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
    check_inputs,
    instances_on_device,
    normalized_batch,
)
from lucidet.modeling.postprocessing import detector_postprocess, keep_rows, postprocess_padded
from lucidet.structures import ImageList, Instances, PaddedInstances
from lucidet.utils.probe import probe, probe_images

__all__ = ["Detector", "Record", "normalized_batch", "postprocess"]

#: one image's entry of a batch: `image`, at training `instances`, and what names the image
Record = dict[str, Any]

#: pasted masks of an image that a probe shows, which are as large as the image
MASKS_SHOWN = 20


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
        batch = _batch_on_gpu(detections)
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


def postprocess(
    instances: Sequence[Instances],
    batched_inputs: Sequence[Record],
    image_sizes: Sequence[tuple[int, int]],
    keep_empty: bool = False,
    whole_pixels: bool = False,
) -> list[Record]:
    """Scale each image's detections to the size asked for.

    Args:
        instances: per image, in the frame of its `image`.
        batched_inputs: per image, with `height` and `width` where another size is asked for.
        image_sizes: (height, width) of each image without padding.
        keep_empty: keep boxes that clipping leaves without area.
        whole_pixels: masks are pasted as in torchvision; see
            :func:`lucidet.layers.paste_masks_in_image`.

    Returns:
        Per image ``{"instances": Instances}``.
    """
    sizes = [
        (record.get("height", height), record.get("width", width))
        for record, (height, width) in zip(batched_inputs, image_sizes, strict=True)
    ]
    batch = _batch_on_gpu(instances)
    if batch is not None and "pred_boxes" in batch.fields:
        scaled = postprocess_padded(batch, sizes, keep_empty).split()
    else:
        scaled = [
            detector_postprocess(found, *size, keep_empty=keep_empty, whole_pixels=whole_pixels)
            for found, size in zip(instances, sizes, strict=True)
        ]

    def of_image(image: int) -> dict[str, Any] | None:
        final = scaled[image]
        if not final.has("scores"):
            return None
        boxes, classes = final.pred_boxes.tensor, final.pred_classes
        return {"boxes": boxes, "scores": final.scores, "classes": classes}

    probe_images("detections.final", len(scaled), of_image)
    _show_masks_and_keypoints(scaled)
    return [{"instances": found} for found in scaled]


def _show_masks_and_keypoints(results: Sequence[Instances]) -> None:
    """Show the pasted masks of each image's first detections, and all keypoints."""

    def masks(image: int) -> dict[str, Any] | None:
        own = results[image]
        if not (own.has("pred_masks") and own.has("scores")):
            return None
        shown = {"boxes": own.pred_boxes.tensor, "classes": own.pred_classes}
        shown |= {"scores": own.scores, "masks": own.pred_masks}
        return {name: values[:MASKS_SHOWN] for name, values in shown.items()}

    def keypoints(image: int) -> dict[str, Any] | None:
        own = results[image]
        if not (own.has("pred_keypoints") and own.has("scores")):
            return None
        return {"boxes": own.pred_boxes.tensor, "keypoints": own.pred_keypoints}

    probe_images("detections.masks", len(results), masks)
    probe_images("detections.keypoints", len(results), keypoints)


def _batch_on_gpu(instances: Sequence[Instances]) -> PaddedInstances | None:
    """Return the batch that results are views of, where a look at each would make a GPU wait.

    On a CPU each image is looked at, and boxes that are not finite raise an error.
    """
    batch = PaddedInstances.untouched(instances)
    return None if batch is None or batch.count.device.type == "cpu" else batch
