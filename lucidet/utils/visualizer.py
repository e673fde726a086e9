"""Pictures with boxes, masks, keypoints, classes, scores; names as `detectron2.utils.visualizer`.

Boxes are (x1, y1, x2, y2) or, turned, (x, y, width, height, degrees), in pixels of the given image;
pictures are RGB.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import numpy as np

from lucidet.utils.box_labels import metadata_value, text_labels, to_array
from lucidet.utils.canvas import RGB, VisImage, to_rgb
from lucidet.utils.colormap import colormap, random_color
from lucidet.utils.generic_mask import GenericMask
from lucidet.utils.shape_painter import ShapePainter

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer", "random_color"]

logger = logging.getLogger(__name__)

#: detectron2's name, which visualizers of users import
_create_text_labels = text_labels


@unique
class ColorMode(Enum):
    """What the colours of instances and background mean."""

    IMAGE = 0  # each class has its colour of the palette
    SEGMENTATION = 1  # each class has the colour that the metadata gives it (thing_colors)
    IMAGE_BW = 2  # as IMAGE, with everything outside the masks (or else the boxes) gray


class Visualizer(ShapePainter):
    """Draws annotations and detections on an image; single shapes as `ShapePainter`.

    Example::

        visualizer = Visualizer(image_rgb, MetadataCatalog.get("coco_2017_val"))
        visualizer.draw_instance_predictions(outputs["instances"].to("cpu")).save("out.jpg")

    Args:
        img_rgb: (H, W, 3) RGB, 0..255.
        metadata: a Metadata or dict with ``thing_classes`` and ``thing_colors`` (0..255); for
            lines between keypoints ``keypoint_names`` and ``keypoint_connection_rules``.
        scale: the picture is this many times as large as the image; boxes stay in its pixels.
        instance_mode: what colours mean.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
    ) -> None:
        super().__init__(img_rgb, metadata, scale)
        self._instance_mode = instance_mode

    # ------------------------------------------------------------------------------ whole results

    def draw_instance_predictions(self, predictions: Any, jittering: bool = True) -> VisImage:
        """Draw a model's detections.

        Args:
            predictions: Instances on the CPU; of ``pred_boxes``, ``scores``, ``pred_classes``,
                ``pred_masks`` (R, H, W) and ``pred_keypoints`` (R, K, 3) those that exist are used.
            jittering: of detectron2, without effect: a class has one color here.
        """
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        scores = predictions.scores if predictions.has("scores") else None
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        keypoints = predictions.pred_keypoints if predictions.has("pred_keypoints") else None
        masks = None
        if predictions.has("pred_masks"):
            masks = self._convert_masks(predictions.pred_masks)
        labels = text_labels(classes, scores, self._class_names())
        alpha = 0.5
        if self._instance_mode is ColorMode.IMAGE_BW:
            self._gray_outside(boxes, masks)
            alpha = 0.3 if masks is not None else alpha
        return self.overlay_instances(
            boxes=boxes,
            labels=labels,
            masks=masks,
            keypoints=keypoints,
            assigned_colors=self._class_colors(classes),
            alpha=alpha,
        )

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """Draw the annotations of a record in detectron2's standard format.

        Masks (polygons, RLE or pixels) and keypoints are drawn where annotations have them.
        """
        from lucidet.structures import BoxMode

        annotations = dic.get("annotations") or []
        if not annotations:
            return self.output
        modes = {a["bbox_mode"] for a in annotations}
        rotated = modes == {BoxMode.XYWHA_ABS}
        boxes = [
            list(a["bbox"])
            if rotated
            else BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS)
            for a in annotations
        ]
        classes = [a["category_id"] for a in annotations]
        crowd = [a.get("iscrowd", 0) for a in annotations]
        masks = [a.get("segmentation") for a in annotations]
        points = [a.get("keypoints") for a in annotations]
        return self.overlay_instances(
            boxes=np.asarray(boxes),
            labels=text_labels(classes, None, self._class_names(), crowd),
            masks=masks if any(m is not None for m in masks) else None,
            keypoints=points if any(p is not None for p in points) else None,
            assigned_colors=self._class_colors(classes),
        )

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Any] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw masks, boxes, labels and keypoints of R instances; the large ones first.

        Args:
            boxes: Boxes, RotatedBoxes, or an array (R, 4) or (R, 5). A box that is not finite is
                left out, with a warning.
            labels: one text an instance.
            masks: R masks: PolygonMasks, BitMasks, an array (R, H, W), or a list of polygons, RLE,
                arrays (H, W), `GenericMask` or None.
            keypoints: Keypoints, an array (R, K, 3), or a list of (K, 3) or None.
            assigned_colors: one color an instance, as matplotlib takes them; the palette by
                default.
            alpha: opacity of the masks; that of the lines is halfway between this and 1.

        Raises:
            ValueError: labels, masks, keypoints or colors of another number than boxes.
        """
        drawn = None if masks is None else self._convert_masks(masks)
        points = None if keypoints is None else self._convert_keypoints(keypoints)
        array = _boxes_or(boxes, drawn, points)
        for what, given in (
            ("labels", labels),
            ("masks", drawn),
            ("keypoints", points),
            ("assigned_colors", assigned_colors),
        ):
            if given is not None and len(given) != len(array):
                raise ValueError(f"there are {len(array)} boxes, but {len(given)} {what}")
        if assigned_colors is None:
            palette = colormap(rgb=True, maximum=1)
            assigned_colors = [palette[i % len(palette)] for i in range(len(array))]
        colors = [to_rgb(color) for color in assigned_colors]

        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            logger.warning("%d boxes are not finite and can't be drawn", (~finite).sum())
        sides = array[:, 2:4] if array.shape[1] == 5 else array[:, 2:4] - array[:, :2]
        order = [i for i in np.argsort(-sides.prod(axis=1), kind="stable") if finite[i]]
        for i in order:
            unit = tuple(c / 255 for c in colors[i])
            if drawn is not None and drawn[i] is not None:
                self.draw_binary_mask(drawn[i], unit, alpha=alpha, area_threshold=1)
            if boxes is not None:
                self._outline(array[i], colors[i], (1 + alpha) / 2)
        if labels is not None:
            for i in order:
                self._label(labels[i], array[i], colors[i])
        for of_instance in points or ():
            if of_instance is not None:
                self.draw_and_connect_keypoints(of_instance)
        return self.output

    def overlay_rotated_instances(
        self,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[Any] | None = None,
    ) -> VisImage:
        """As `overlay_instances`, for boxes (R, 5)."""
        return self.overlay_instances(boxes=boxes, labels=labels, assigned_colors=assigned_colors)

    def get_output(self) -> VisImage:
        """Return the picture with all that was drawn so far."""
        return self.output

    # ------------------------------------------------------------------------------ inside

    def _outline(self, box: np.ndarray, color: RGB, alpha: float) -> None:
        unit = tuple(c / 255 for c in color)
        if len(box) == 5:
            self.draw_rotated_box_with_label(box.tolist(), alpha=alpha, edge_color=unit)
        else:
            self.draw_box(box.tolist(), alpha=alpha, edge_color=unit)

    def _class_names(self) -> Sequence[str] | None:
        return metadata_value(self.metadata, "thing_classes")

    # ------------------------------------------------- for visualizers written for detectron2

    @staticmethod
    def _convert_boxes(boxes: Any) -> np.ndarray:
        """Return Boxes, RotatedBoxes, a tensor or an array as (R, 4) or (R, 5) float64."""
        return to_array(boxes)

    def _change_color_brightness(self, color: Any, brightness_factor: float) -> tuple[float, ...]:
        """Return a colour in 0..1, darker (factor in -1..0) or brighter (0..1)."""
        rgb = np.asarray(to_rgb(color)) / 255.0
        goal = 1.0 if brightness_factor > 0 else 0.0
        return tuple((rgb + (goal - rgb) * abs(brightness_factor)).tolist())

    def _jitter(self, color: Sequence[float]) -> tuple[float, ...]:
        """Return an RGB colour in 0..1 a little changed."""
        moved = np.asarray(color[:3], dtype=np.float64) + np.random.uniform(-0.08, 0.08, 3)
        return tuple(moved.clip(0.0, 1.0).tolist())

    def _class_colors(self, classes: Sequence[int] | None) -> list[tuple[float, ...]] | None:
        """Return a colour in 0..1 for each instance, by its class."""
        if classes is None:
            return None
        palette = colormap(rgb=True, maximum=255)
        colors = None
        if self._instance_mode is ColorMode.SEGMENTATION:
            colors = metadata_value(self.metadata, "thing_colors")
        chosen = palette if not colors else np.asarray(colors)
        return [tuple(np.asarray(chosen[c % len(chosen)]) / 255.0) for c in classes]

    def _create_grayscale_image(self, mask: Any = None) -> np.ndarray:
        """Return the image in gray, with its colors kept where the (H, W) mask is nonzero."""
        gray = self.img.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        if mask is not None:
            inside = np.asarray(mask, dtype=bool)
            gray[inside] = self.img[inside]
        return gray

    def _gray_outside(self, boxes: Any, masks: Sequence[GenericMask | None] | None) -> None:
        """Take the color from all that no mask covers, or where there are none, no box."""
        inside = np.zeros(self.img.shape[:2], dtype=bool)
        if masks is not None:
            for mask in masks:
                if mask is not None:
                    inside |= mask.mask.astype(bool)
        else:
            for x1, y1, x2, y2 in to_array([] if boxes is None else boxes)[:, :4].tolist():
                if all(map(math.isfinite, (x1, y1, x2, y2))):
                    rows = slice(max(round(y1), 0), max(round(y2), 0))
                    inside[rows, max(round(x1), 0) : max(round(x2), 0)] = True
        self.output.reset_image(self._create_grayscale_image(inside))

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask | None]:
        """Return masks of any kind as GenericMask; None stays None."""
        masks = masks_or_polygons
        if hasattr(masks, "polygons") and not isinstance(masks, GenericMask):  # PolygonMasks
            masks = masks.polygons
        masks = getattr(masks, "tensor", masks)  # BitMasks
        if hasattr(masks, "detach"):
            masks = masks.detach().cpu().numpy()
        height, width = self.img.shape[:2]
        return [
            mask
            if mask is None or isinstance(mask, GenericMask)
            else GenericMask(mask, height, width)
            for mask in masks
        ]

    @staticmethod
    def _convert_keypoints(keypoints: Any) -> list[Any]:
        """Return keypoints of any kind as a list of (K, 3) arrays; None stays None."""
        keypoints = getattr(keypoints, "tensor", keypoints)
        if hasattr(keypoints, "detach"):
            keypoints = keypoints.detach().cpu().numpy()
        return [
            p if p is None else np.asarray(p, dtype=np.float64).reshape(-1, 3) for p in keypoints
        ]


def _boxes_or(
    boxes: Any, masks: Sequence[GenericMask | None] | None, keypoints: Sequence[Any] | None
) -> np.ndarray:
    """Return boxes as an array; where there are none, those around the masks or keypoints."""
    if boxes is not None:
        return to_array(boxes)
    if masks is not None:
        return to_array([np.zeros(4) if mask is None else mask.bbox() for mask in masks])
    found = []
    for points in keypoints or ():
        seen = np.zeros((0, 3)) if points is None else points[points[:, 2] > 0]
        corners = [*seen[:, :2].min(0), *seen[:, :2].max(0)] if len(seen) else np.zeros(4)
        found.append(corners)
    return to_array(found)
