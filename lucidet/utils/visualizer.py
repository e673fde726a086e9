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

from lucidet.utils.canvas import RGB, VisImage, to_rgb
from lucidet.utils.colormap import colormap

__all__ = ["ColorMode", "VisImage", "Visualizer"]

logger = logging.getLogger(__name__)


@unique
class ColorMode(Enum):
    """What the colours of instances and background mean."""

    IMAGE = 0  # each class has its colour of the palette
    SEGMENTATION = 1  # each class has the colour that the metadata gives it (thing_colors)
    IMAGE_BW = 2  # as IMAGE, with everything outside the boxes grey


def _metadata_value(metadata: Any, key: str) -> Any:
    """Return a value of a Metadata, a dict or a namespace; None where it is not set."""
    if metadata is None:
        return None
    getter = getattr(metadata, "get", None)
    return getter(key, None) if callable(getter) else getattr(metadata, key, None)


def _to_array(boxes: Any) -> np.ndarray:
    """Return (R, 4) or (R, 5) float64 of Boxes, RotatedBoxes, a tensor or an array."""
    boxes = getattr(boxes, "tensor", boxes)
    if hasattr(boxes, "detach"):
        boxes = boxes.detach().cpu().numpy()
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise ValueError(f"boxes must have shape (R, 4) or, rotated, (R, 5), got {array.shape}")
    return array


def _corners(rotated_box: Sequence[float]) -> np.ndarray:
    """Return (4, 2) corners of (x, y, w, h, degrees counter-clockwise), first the top left."""
    x, y, w, h, angle = rotated_box
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    offsets = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return offsets @ np.array([[cos, -sin], [sin, cos]]) + (x, y)  # y points down


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


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
        self._plates: list[tuple[float, float, float, float]] = []

    # ------------------------------------------------------------------------------ whole results

    def draw_instance_predictions(self, predictions: Any) -> VisImage:
        """Draw a model's detections.

        Args:
            predictions: Instances on the CPU; of ``pred_boxes``, ``scores``, ``pred_classes``
                those that exist are used.
        """
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        scores = predictions.scores if predictions.has("scores") else None
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        labels = self._create_text_labels(classes, scores)
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
            labels=self._create_text_labels(classes, None, crowd),
            assigned_colors=self._class_colors(classes),
        )

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[Any] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw boxes with labels: large ones first, labels on top and beside each other.

        Args:
            boxes: Boxes, RotatedBoxes, or an array (R, 4) or (R, 5). A box that is not finite is
                left out, with a warning.
            labels: one text a box.
            assigned_colors: one colour a box, as matplotlib takes them; the palette by default.
            alpha: opacity of the lines is halfway between this and 1.

        Raises:
            ValueError: labels or colours of another number than boxes.
        """
        array = _to_array([] if boxes is None else boxes)
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
        points = [tuple(p * self.output.scale) for p in _corners(rotated_box)]
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
            corners = _corners(box.tolist())
            box = np.concatenate([corners[0], corners.max(axis=0)])
        x1, y1, _, y2 = box * out.scale
        size = self._default_font_size
        width, height = out.text_size(text, size)
        x = min(max(x1, 0.0), max(out.width - width, 0.0))
        best, least = None, math.inf
        for y in (y1 - height, y1, y1 + height, y2, y2 - height):
            if y < 0 or y + height > out.height:
                continue
            plate = (x, y, x + width, y + height)
            covered = sum(_overlap(plate, other) for other in self._plates)
            if covered < least:
                best, least = plate, covered
            if covered == 0:
                break
        if best is None:  # taller than the picture, or its box lies outside
            y = min(max(y1, 0.0), max(out.height - height, 0.0))
            best = (x, y, x + width, y + height)
        self._plates.append(best)
        out.text(text, best[:2], color, size)

    def _create_text_labels(
        self,
        classes: Sequence[int] | None,
        scores: Any,
        is_crowd: Sequence[int] | None = None,
    ) -> list[str] | None:
        """Return "name 87%" for each instance, with what of it is known."""
        names = _metadata_value(self.metadata, "thing_classes") or []
        labels: list[str] | None = None
        if classes is not None:
            labels = [names[c] if 0 <= c < len(names) else str(c) for c in classes]
        if scores is not None:
            percent = [f"{float(score) * 100:.0f}%" for score in scores]
            labels = (
                percent
                if labels is None
                else [f"{name} {share}" for name, share in zip(labels, percent, strict=True)]
            )
        if labels is not None and is_crowd is not None:
            labels = [
                f"{label}|crowd" if crowd else label
                for label, crowd in zip(labels, is_crowd, strict=True)
            ]
        return labels

    def _class_colors(self, classes: Sequence[int] | None) -> list[tuple[float, ...]] | None:
        """Return a colour in 0..1 for each instance, by its class."""
        if classes is None:
            return None
        palette = colormap(rgb=True, maximum=255)
        colors = None
        if self._instance_mode is ColorMode.SEGMENTATION:
            colors = _metadata_value(self.metadata, "thing_colors")
        chosen = palette if not colors else np.asarray(colors)
        return [tuple(np.asarray(chosen[c % len(chosen)]) / 255.0) for c in classes]

    def _grey_outside(self, boxes: Any) -> None:
        """Take the colour from all that no box covers."""
        grey = self.img.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
        for x1, y1, x2, y2 in _to_array([] if boxes is None else boxes)[:, :4].tolist():
            if all(map(math.isfinite, (x1, y1, x2, y2))):
                rows = slice(max(round(y1), 0), max(round(y2), 0))
                columns = slice(max(round(x1), 0), max(round(x2), 0))
                grey[rows, columns] = self.img[rows, columns]
        self.output.reset_image(grey)
