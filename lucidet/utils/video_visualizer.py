"""Boxes drawn on a video's frames, in colours that stay with the objects.

Names as `detectron2.utils.video_visualizer`.
"""

# R boxes of a frame, P boxes of the frame before

from __future__ import annotations

from typing import Any

import numpy as np

from lucidet.utils.box_labels import metadata_value, text_labels, to_array
from lucidet.utils.canvas import VisImage
from lucidet.utils.colormap import colormap
from lucidet.utils.visualizer import ColorMode, Visualizer

__all__ = ["VideoVisualizer"]

#: a box is the object of the box before that overlaps it by more than this
SAME_OBJECT_IOU = 0.6


class VideoVisualizer:
    """Draws frame after frame; an object keeps its colour as long as its boxes overlap.

    Args:
        metadata: as for `Visualizer`.
        instance_mode: likewise; IMAGE gives each object a colour, SEGMENTATION each class.
    """

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE) -> None:
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._next_color = 0
        # of the frame before: boxes (P, 4), classes (P,), places in the palette (P,)
        self._before = (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int))

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Any) -> VisImage:
        """Draw one frame's detections.

        Args:
            frame: (H, W, 3) RGB.
            predictions: Instances with ``pred_boxes`` and ``pred_classes``; ``scores``,
                ``pred_masks`` and ``pred_keypoints`` where there are.
        """
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        if self._instance_mode is ColorMode.SEGMENTATION:
            return visualizer.draw_instance_predictions(predictions)
        boxes = to_array(predictions.pred_boxes)[:, :4]
        classes = np.asarray(predictions.pred_classes.tolist(), int)
        places = self._assign_colors(boxes, classes)
        palette = colormap(rgb=True, maximum=1)
        scores = predictions.scores if predictions.has("scores") else None
        masks = None
        if predictions.has("pred_masks"):
            masks = visualizer._convert_masks(predictions.pred_masks)
        if self._instance_mode is ColorMode.IMAGE_BW:
            visualizer._gray_outside(boxes, masks)
        return visualizer.overlay_instances(
            boxes=predictions.pred_boxes,
            labels=text_labels(
                classes.tolist(), scores, metadata_value(self.metadata, "thing_classes")
            ),
            masks=masks,
            keypoints=predictions.pred_keypoints if predictions.has("pred_keypoints") else None,
            assigned_colors=[palette[place % len(palette)] for place in places],
        )

    def _assign_colors(self, boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return each box's place in the palette (R,): its best box's before, or a new one."""
        old_boxes, old_classes, old_places = self._before
        overlaps = _iou(boxes, old_boxes) * (classes[:, None] == old_classes)  # (R, P)
        places = np.full(len(boxes), -1)
        while overlaps.size and overlaps.max() > SAME_OBJECT_IOU:
            now, before = np.unravel_index(overlaps.argmax(), overlaps.shape)
            places[now] = old_places[before]
            overlaps[now], overlaps[:, before] = 0, 0
        for now in np.flatnonzero(places < 0):
            places[now] = self._next_color
            self._next_color += 1
        self._before = (boxes, classes, places)
        return places


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (R, P) IoU of XYXY boxes (R, 4) and (P, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
