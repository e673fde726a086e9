"""What all pictures of a trace share: backgrounds, names of classes and levels, ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from lucidet.inspection.event import Event, shape_of, whole
from lucidet.inspection.ground_truth import annotated, class_name
from lucidet.inspection.trace import Trace
from lucidet.pages.blocks import Block, box_layer
from lucidet.pages.images import data_uri, to_rgb

__all__ = ["PageData"]


class PageData:
    """A trace being drawn; collects the images that the figures refer to by key."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.images: dict[str, str] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self.class_map: list[int] = trace.context.get("class_map") or []
        self.channels = (trace.context.get("limits") or {}).get("format", "BGR")

    # ---- names ---------------------------------------------------------------------------------

    def class_name(self, index: int) -> str:
        """Return the name of a class of the dataset, or its number."""
        return class_name(self.trace, index)

    def own_class_name(self, index: int) -> str:
        """Return the name of a class as the model counts them; see `MODEL.CLASS_MAP`."""
        of_data = self._of_data(index)
        return f"the model's class {index}" if of_data < 0 else self.class_name(of_data)

    def _of_data(self, index: int) -> int:
        return self.class_map[index] if 0 <= index < len(self.class_map) else index

    def strides(self) -> list[Any]:
        """Return the strides of the levels with anchors, finest first."""
        return list(self.trace["anchors.grid"]["strides"]) if "anchors.grid" in self.trace else []

    def level_name(self, level: int) -> str:
        """Return ``level 2, stride 32``."""
        strides = self.strides()
        return f"level {level}" + (f", stride {strides[level]}" if level < len(strides) else "")

    # ---- backgrounds ---------------------------------------------------------------------------

    def add_image(self, key: str, rgb: np.ndarray) -> tuple[int, int]:
        """Keep an image (h, w, 3) under a key; return its (width, height)."""
        if key not in self.images:
            self.images[key] = data_uri(rgb)
            self._arrays[key] = rgb
        return rgb.shape[1], rgb.shape[0]

    def array(self, key: str) -> np.ndarray:
        """Return the image kept under a key."""
        return self._arrays[key]

    def resized(self, image: int | None = 0) -> tuple[str, tuple[int, int]]:
        """Return key and (width, height) of the image as the model saw it, without padding."""
        image = image or 0
        key = f"resized {image}"
        if key not in self._arrays:
            batches = self.trace.all("input.batch")
            batch = batches[-1] if batches else None
            count = (shape_of(batch["images"]) or (1,))[0] if batch else 1
            read = self.trace.all("input.read")
            moved = self.trace.all("input.transform")
            if count == 1 and len(read) == 1 and (moved or batch is None):
                source = (moved or read)[-1]["image"]
                self.add_image(key, to_rgb(whole(source), self.channels))
            elif batch is not None:
                height, width = batch["image_sizes"][image]
                pixels = whole(batch["images"])[image, :, :height, :width].permute(1, 2, 0)
                self.add_image(key, to_rgb(pixels, self.channels))
            else:
                self.add_image(key, np.full((64, 64, 3), 128, np.uint8))
        array = self._arrays[key]
        return key, (array.shape[1], array.shape[0])

    def original(self) -> tuple[str, tuple[int, int]]:
        """Return key and size of the image as it was read."""
        if "input.read" not in self.trace:
            return self.resized()
        size = self.add_image(
            "original", to_rgb(whole(self.trace["input.read"]["image"]), self.channels)
        )
        return "original", size

    # ---- ground truth --------------------------------------------------------------------------

    def annotated(self) -> tuple[Tensor, list[int]]:
        """Return boxes and classes of the record; see :func:`ground_truth.annotated`."""
        return annotated(self.trace)

    def objects_layer(self, boxes: Tensor, classes: list[int] | None, on: bool = True) -> Block:
        """Return the layer of ground truth."""
        names = [
            f"ground-truth box {i}" + (f": {self.class_name(classes[i])}" if classes else "")
            for i in range(len(boxes))
        ]
        return box_layer("ground truth", boxes, names, color=7, groups=range(len(boxes)), on=on)

    def gt_classes(self, event: Event) -> list[int] | None:
        """Return the dataset's classes of an assignment's ground-truth boxes, where known."""
        if "gt_classes" in event.values:
            return [self._of_data(k) for k in whole(event["gt_classes"]).tolist()]
        count = len(whole(event["gt_boxes"]))
        _, classes = self.annotated()
        return classes if len(classes) == count else None
