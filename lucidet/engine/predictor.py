"""The detector for images in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lucidet.checkpoint import DetectionCheckpointer
from lucidet.checkpoint.description import KEY, Description, metadata_of_classes
from lucidet.config import CfgNode
from lucidet.data import transforms as T
from lucidet.data.image_arrays import image_in_format
from lucidet.engine.setup import on_available_device
from lucidet.modeling import build_model
from lucidet.modeling.optimize import OptimizedModel
from lucidet.utils.probe import probe

__all__ = ["DefaultPredictor"]


class DefaultPredictor:
    """Finds objects in single images or batches with the model and weights of a config.

    Images are given as ``cv2.imread`` returns them: (H, W, 3) uint8, BGR; where the model takes
    RGB (``INPUT.FORMAT``), channels are exchanged here. Resizing is that of testing.

    Example::

        predictor = DefaultPredictor(cfg)
        instances = predictor(cv2.imread("street.jpg"))["instances"]
        instances.pred_boxes, instances.scores, instances.pred_classes

    With ``TEST.OPTIMIZE`` (the default) the model runs in a quicker form with the same results
    within 1e-3; see `lucidet.modeling.optimize`.

    Args:
        cfg: ``MODEL.WEIGHTS`` is loaded, and must fill the model completely unless
            ``TEST.ALLOW_PARTIAL_WEIGHTS`` is set; the config is not changed.

    Attributes:
        metadata: names and colors of the classes: those that the weights were trained with; where
            the file says nothing, those of the first test dataset.
        aug: resizes.
        input_format: colour order of the model.
        model: in eval mode.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = on_available_device(cfg.clone())
        self.model = build_model(self.cfg)
        self.model.eval()
        self._optimized: OptimizedModel | None = None
        checkpointer = DetectionCheckpointer(
            self.model, complete=not cfg.TEST.ALLOW_PARTIAL_WEIGHTS
        )
        content = checkpointer.load(cfg.MODEL.WEIGHTS)
        description = Description.from_dict(content[KEY]) if KEY in content else None
        self.metadata = metadata_of_classes(self.cfg, description)
        size = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT

    @property
    def transform_gen(self) -> T.Augmentation:
        """What `aug` was called in detectron2 before 0.3."""
        return self.aug

    def __call__(self, original_image: np.ndarray | Sequence[np.ndarray]) -> Any:
        """Detect in one image, or in each image of a list.

        Args:
            original_image: (H, W, 3) uint8, BGR; see `image_in_format` for others.

        Returns:
            ``{"instances": Instances}`` with boxes in pixels of that image; for a list of images
            a list of these.

        Raises:
            ValueError: an array of another shape, or with values outside 0..255.
        """
        if isinstance(original_image, (list, tuple)):
            return self.predict_batch(original_image)
        return self.predict_batch([np.asarray(original_image)])[0]

    @torch.no_grad()
    def predict_batch(self, original_images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Detect in several images at once; each gives what it gives alone.

        Images that are padded to the same size alone go through the model together. With others
        they would be padded further, and convolutions carry the padding into the image.

        Args:
            original_images: each (H, W, 3) uint8, BGR; sizes may differ.

        Returns:
            For each image what `__call__` returns.
        """
        inputs = [self._input(image) for image in original_images]
        alike: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        stride = max(getattr(getattr(self.model, "backbone", None), "size_divisibility", 1), 1)
        for index, item in enumerate(inputs):
            padded = tuple(-(-side // stride) for side in item["image"].shape[1:])
            alike[padded].append(index)
        found: dict[int, dict[str, Any]] = {}
        for indices in alike.values():
            outputs = self._detect([inputs[i] for i in indices])
            found.update(zip(indices, outputs, strict=True))
        return [found[i] for i in range(len(inputs))]

    def _detect(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self.cfg.TEST.OPTIMIZE:
            return self.model(inputs)
        if self._optimized is None or self._optimized.model is not self.model:
            self._optimized = OptimizedModel(self.model)
        return self._optimized(inputs)

    def _input(self, image: np.ndarray) -> dict[str, Any]:
        image = image_in_format(image, self.input_format)
        height, width = image.shape[:2]
        record = {"height": height, "width": width}
        probe("input.read", record=record, image=image)
        transform = self.aug.get_transform(image)
        image = transform.apply_image(image)
        probe("input.transform", transform=transform, image=image, boxes=None)
        # in 8 bits, on the host: the model moves the images of a batch at once
        return {**record, "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))}
