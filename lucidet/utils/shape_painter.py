"""Single shapes on a picture: boxes, lines, polygons, masks, keypoints, text.

Coordinates are pixels of the given image; the picture may be larger than it (``scale``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucidet.utils.box_labels import Plate, corners, free_place, metadata_value
from lucidet.utils.canvas import RGB, VisImage, to_rgb
from lucidet.utils.colormap import random_color
from lucidet.utils.generic_mask import GenericMask

__all__ = ["ShapePainter"]

#: a keypoint whose score (or visibility) is above this is drawn
KEYPOINT_THRESHOLD = 0.05
#: of the keypoints themselves, and of the lines from nose to shoulders and hips
KEYPOINT_COLOR = (1.0, 0.0, 0.0)


class ShapePainter:
    """Draws single shapes on an image; `lucidet.utils.visualizer.Visualizer` draws results.

    Args:
        img_rgb: (H, W, 3) RGB, 0..255.
        metadata: a Metadata or dict; of it ``keypoint_names`` and ``keypoint_connection_rules``
            are used here.
        scale: the picture is this many times as large as the image; shapes stay in its pixels.
    """

    def __init__(self, img_rgb: np.ndarray, metadata: Any = None, scale: float = 1.0) -> None:
        self.img = np.clip(np.asarray(img_rgb), 0, 255).astype(np.uint8)
        self.metadata = metadata
        self.output = VisImage(self.img, scale=scale)
        side = math.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(11, round(side / 60))
        self._line_width = max(1, round(side / 330))
        # where labels are already, in pixels of the picture
        self._plates: list[Plate] = []

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

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Any = None,
        *,
        edge_color: Any = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: float = 10,
    ) -> VisImage:
        """Color the pixels of a mask.

        Args:
            binary_mask: (H, W) of the image, nonzero inside.
            color: random without it.
            edge_color: of the outline; that of the mask without it.
            text: written on the mask's upper edge.
            alpha: opacity of the mask, 0..1.
            area_threshold: masks of less pixels are not drawn.
        """
        mask = binary_mask
        if not isinstance(mask, GenericMask):
            mask = GenericMask(mask, *self.img.shape[:2])
        rgb = to_rgb(random_color(rgb=True, maximum=1) if color is None else color)
        if mask.area() >= area_threshold:
            edge = rgb if edge_color is None else to_rgb(edge_color)
            bits = mask.at(self.output.height, self.output.width)
            self.output.mask(bits, rgb, alpha, edge, self._line_width)
            if text:
                self._label(text, mask.bbox(), rgb)
        return self.output

    def draw_soft_mask(
        self, soft_mask: Any, color: Any = None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Color the image by how sure each pixel is.

        Args:
            soft_mask: (H, W) of the image, 0..1.
            color: random without it.
            text: written on the upper edge of what is above 0.5.
            alpha: opacity where the mask is 1.
        """
        shares = np.asarray(_numpy(soft_mask), dtype=np.float32)
        if shares.shape != self.img.shape[:2]:
            raise ValueError(
                f"soft_mask is {shares.shape}, expected (height, width) of the image, "
                f"{self.img.shape[:2]}"
            )
        rgb = to_rgb(random_color(rgb=True, maximum=1) if color is None else color)
        self.output.soft_mask(np.clip(shares, 0, 1) * alpha, rgb)
        sure = GenericMask(shares > 0.5, *shares.shape)
        if text and sure.area():
            self._label(text, sure.bbox(), rgb)
        return self.output

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw the keypoints of one object, and the lines between them that the metadata name.

        Args:
            keypoints: (K, 3) x, y, score or visibility; those of a score up to 0.05 are not drawn.
        """
        points = np.asarray(_numpy(keypoints), dtype=np.float64).reshape(-1, 3)
        seen = (points[:, 2] > KEYPOINT_THRESHOLD) & np.isfinite(points).all(axis=1)
        names = metadata_value(self.metadata, "keypoint_names") or []
        named = {
            name: (float(x), float(y))
            for name, (x, y, _), visible in zip(names, points.tolist(), seen, strict=False)
            if visible
        }
        width = max(1, self._line_width)
        for first, second, color in (
            metadata_value(self.metadata, "keypoint_connection_rules") or ()
        ):
            if first in named and second in named:
                self._connect(named[first], named[second], [c / 255 for c in color], width)
        self._draw_trunk(named, width)
        for x, y, _ in points[seen].tolist():
            self.draw_circle((x, y), KEYPOINT_COLOR, radius=width + 1)
        return self.output

    def _draw_trunk(self, named: dict[str, tuple[float, float]], width: int) -> None:
        """Draw a person's lines from the nose to between the shoulders, and on to the hips."""
        between = {}
        for part in ("shoulder", "hip"):
            sides = [named.get(f"{side}_{part}") for side in ("left", "right")]
            if None not in sides:
                between[part] = np.mean(np.array(sides, dtype=np.float64), axis=0).tolist()
        for top, bottom in (
            (named.get("nose"), between.get("shoulder")),
            (between.get("shoulder"), between.get("hip")),
        ):
            if top is not None and bottom is not None:
                self._connect(top, bottom, KEYPOINT_COLOR, width)

    def _connect(self, a: Sequence[float], b: Sequence[float], color: Any, width: int) -> None:
        self.draw_line([a[0], b[0]], [a[1], b[1]], color, linewidth=width)

    def _label(self, text: str, box: np.ndarray, color: RGB) -> None:
        """Write at the box's top left: above, inside or below it, where no label is yet."""
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


def _numpy(values: Any) -> Any:
    """Return a tensor's values as an array; others as they are."""
    values = getattr(values, "tensor", values)
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
