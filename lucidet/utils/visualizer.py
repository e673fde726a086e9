"""Pictures with boxes, classes and scores. Names as `detectron2.utils.visualizer`.

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

from lucidet._absent import absent
from lucidet.utils.box_labels import (
    Plate,
    corners,
    free_place,
    metadata_value,
    text_labels,
    to_array,
)
from lucidet.utils.canvas import RGB, VisImage, to_rgb
from lucidet.utils.colormap import colormap, random_color

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer", "random_color"]

logger = logging.getLogger(__name__)

GenericMask = absent("GenericMask")
#: detectron2's name, which visualizers of users import
_create_text_labels = text_labels


@unique
class ColorMode(Enum):
    """What the colours of instances and background mean."""

    IMAGE = 0  # each class has its colour of the palette
    SEGMENTATION = 1  # each class has the colour that the metadata gives it (thing_colors)
    IMAGE_BW = 2  # as IMAGE, with everything outside the boxes grey


class Visualizer:
    """Draws on an image.

    Example::

        visualizer = Visualizer(image_rgb, MetadataCatalog.get("coco_2017_val"))
        visualizer.draw_instance_predictions(outputs["instances"].to("cpu")).save("out.jpg")

    Args:
        img_rgb: (H, W, 3) RGB, 0..255.
        metadata: a Metadata or dict with ``thing_classes`` and ``thing_colors`` (0..255).
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
        self.img = np.clip(np.asarray(img_rgb), 0, 255).astype(np.uint8)
        self.metadata = metadata
        self.output = VisImage(self.img, scale=scale)
        self._instance_mode = instance_mode
        side = math.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(11, round(side / 60))
        self._line_width = max(1, round(side / 330))
        # where labels stand already, in pixels of the picture
        self._plates: list[Plate] = []

    # ------------------------------------------------------------------------------ whole results

    def draw_instance_predictions(self, predictions: Any, jittering: bool = True) -> VisImage:
        """Draw a model's detections.

        Args:
            predictions: Instances on the CPU; of ``pred_boxes``, ``scores``, ``pred_classes``
                those that exist are used.
            jittering: of detectron2, without effect: a class has one colour here.
        """
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        scores = predictions.scores if predictions.has("scores") else None
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        labels = text_labels(classes, scores, self._class_names())
        if self._instance_mode is ColorMode.IMAGE_BW:
            self._grey_outside(boxes)
        return self.overlay_instances(
            boxes=boxes, labels=labels, assigned_colors=self._class_colors(classes)
        )

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """Draw the annotations of a record in detectron2's standard format."""
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
        return self.overlay_instances(
            boxes=np.asarray(boxes),
            labels=text_labels(classes, None, self._class_names(), crowd),
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
        """Draw boxes with labels: large ones first, labels on top and beside each other.

        Args:
            boxes: Boxes, RotatedBoxes, or an array (R, 4) or (R, 5). A box that is not finite is
                left out, with a warning.
            labels: one text a box.
            masks, keypoints: of detectron2; lucidet draws boxes, so they must be None.
            assigned_colors: one colour a box, as matplotlib takes them; the palette by default.
            alpha: opacity of the lines is halfway between this and 1.

        Raises:
            ValueError: labels or colours of another number than boxes, masks or keypoints.
        """
        if masks is not None or keypoints is not None:
            raise ValueError("lucidet draws boxes: leave masks and keypoints out")
        array = to_array([] if boxes is None else boxes)
        for what, given in (("labels", labels), ("assigned_colors", assigned_colors)):
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
        opacity = (1 + alpha) / 2
        for i in order:
            self._outline(array[i], colors[i], opacity)
        if labels is not None:
            for i in order:
                self._label(labels[i], array[i], colors[i])
        return self.output

    def overlay_rotated_instances(
        self,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[Any] | None = None,
    ) -> VisImage:
        """As `overlay_instances`, for boxes (R, 5)."""
        return self.overlay_instances(boxes=boxes, labels=labels, assigned_colors=assigned_colors)

    # ------------------------------------------------------------------------------ single shapes

    def draw_text(
        self,
        text: str,
        position: tuple[float, float],
        *,
        font_size: float | None = None,
        color: Any = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write text on a dark plate; it is moved so that it stays in the picture.

        Args:
            text: may have several lines.
            position: of the plate's top edge (its centre where the text is turned).
            font_size: height of the letters in pixels of the picture.
            color: brightened where it could not be read.
            horizontal_alignment: which point of the top edge `position` is: "left", "center",
                "right".
            rotation: degrees, counter-clockwise.
        """
        shares = {"left": 0.0, "center": 0.5, "right": 1.0}
        if horizontal_alignment not in shares:
            raise ValueError(
                f"horizontal_alignment is one of {list(shares)}, got {horizontal_alignment!r}"
            )
        size = max(6, round(font_size or self._default_font_size))
        x, y = position[0] * self.output.scale, position[1] * self.output.scale
        if rotation:
            self.output.turned_text(text, (x, y), to_rgb(color), size, rotation)
        else:
            x -= self.output.text_size(text, size)[0] * shares[horizontal_alignment]
            self.output.text(text, (x, y), to_rgb(color), size)
        return self.output

    def draw_box(
        self,
        box_coord: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Outline the box (x1, y1, x2, y2); `line_style` is "-" or "--"."""
        box = [float(v) * self.output.scale for v in box_coord]
        dashed = line_style != "-"
        self.output.rectangle(box, to_rgb(edge_color), alpha, self._line_width, dashed)
        return self.output

    def draw_rotated_box_with_label(
        self,
        rotated_box: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Outline the box (x, y, w, h, degrees counter-clockwise); its top edge is dashed."""
        points = [tuple(p * self.output.scale) for p in corners(rotated_box)]
        color = to_rgb(edge_color)
        dashed = line_style != "-"
        self.output.polyline([*points[1:], points[0]], color, alpha, self._line_width, dashed)
        self.output.polyline(points[:2], color, alpha, self._line_width, dashed=True)
        if label is not None:
            self._label(label, np.asarray(rotated_box, dtype=np.float64), color)
        return self.output

    def draw_circle(
        self, circle_coord: tuple[float, float], color: Any, radius: float = 3
    ) -> VisImage:
        """Draw a filled circle; `radius` in pixels of the picture."""
        x, y = circle_coord
        scale = self.output.scale
        self.output.circle((x * scale, y * scale), radius, to_rgb(color))
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Any,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw straight lines through points; `linewidth` in pixels of the picture."""
        scale = self.output.scale
        points = [(float(x) * scale, float(y) * scale) for x, y in zip(x_data, y_data, strict=True)]
        width = max(1, round(linewidth or self._line_width))
        self.output.polyline(points, to_rgb(color), 1.0, width, linestyle != "-")
        return self.output

    def draw_polygon(
        self, segment: Any, color: Any, edge_color: Any = None, alpha: float = 0.5
    ) -> VisImage:
        """Fill the polygon with corners `segment` (P, 2)."""
        points = [tuple(p) for p in np.asarray(segment, dtype=np.float64) * self.output.scale]
        edge = to_rgb(color if edge_color is None else edge_color)
        self.output.polygon(points, to_rgb(color), alpha, edge, self._line_width)
        return self.output

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

    def _label(self, text: str, box: np.ndarray, color: RGB) -> None:
        """Write at the box's top left: above, inside or below it, where no label stands yet."""
        if not text:
            return
        out = self.output
        if len(box) == 5:
            points = corners(box.tolist())
            box = np.concatenate([points[0], points.max(axis=0)])
        size = self._default_font_size
        text_size = out.text_size(text, size)
        place = free_place(box * out.scale, text_size, (out.width, out.height), self._plates)
        self._plates.append(place)
        out.text(text, place[:2], color, size)

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

    def _grey_outside(self, boxes: Any) -> None:
        """Take the colour from all that no box covers."""
        grey = self.img.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        for x1, y1, x2, y2 in to_array([] if boxes is None else boxes)[:, :4].tolist():
            if all(map(math.isfinite, (x1, y1, x2, y2))):
                rows = slice(max(round(y1), 0), max(round(y2), 0))
                columns = slice(max(round(x1), 0), max(round(x2), 0))
                grey[rows, columns] = self.img[rows, columns]
        self.output.reset_image(grey)
