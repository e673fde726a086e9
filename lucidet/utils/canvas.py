"""A picture that lines, boxes and texts are drawn on, with Pillow; no display is needed.

Coordinates are pixels of the picture as shown (after scaling), x to the right, y down.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lucidet.utils.fonts import legible

__all__ = ["VisImage", "to_rgb"]

RGB = tuple[int, int, int]
Point = tuple[float, float]


def to_rgb(color: Any) -> RGB:
    """Return (r, g, b) in 0..255 of any colour that matplotlib takes.

    >>> to_rgb("r"), to_rgb((0.0, 1.0, 0.0)), to_rgb("#0000ff")
    ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    """
    from matplotlib.colors import to_rgb as parse  # half a second to import

    r, g, b = parse(color)
    return round(r * 255), round(g * 255), round(b * 255)


def brightened(color: RGB, least: float = 175.0) -> RGB:
    """Mix `color` with white until its brightness is at least `least` of 255: text on black."""
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    share = max(0.0, (least - luma) / (255.0 - luma)) if luma < 255 else 0.0
    r, g, b = (round(c + (255 - c) * share) for c in color)
    return r, g, b


class VisImage:
    """An RGB picture to draw on.

    Args:
        img: (H, W, 3) RGB, or grey (H, W, 1) or (H, W); values 0..255 of any dtype.
        scale: the picture shown is this many times as large.

    Raises:
        ValueError: the array has another shape.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        img = np.asarray(img)
        if img.ndim == 2 or img.shape[2:] == (1,):  # grey
            img = np.repeat(img.reshape(*img.shape[:2], 1), 3, axis=2)
        if img.ndim != 3 or img.shape[2] != 3 or 0 in img.shape:
            raise ValueError(
                f"expected an RGB picture (H, W, 3), got shape {img.shape}; "
                "a (3, H, W) tensor needs .permute(1, 2, 0)"
            )
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.img = img
        self.scale = scale
        self.width = max(1, round(img.shape[1] * scale))
        self.height = max(1, round(img.shape[0] * scale))
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Forget what was drawn and start from `img`, of the same size as the first."""
        picture = Image.fromarray(np.ascontiguousarray(np.clip(img, 0, 255).astype(np.uint8)))
        if picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR)
        self._picture = picture
        self._draw = ImageDraw.Draw(picture, "RGBA")  # blends colours that have an alpha

    def get_image(self) -> np.ndarray:
        """Return the picture, (height, width, 3) uint8 RGB."""
        return np.array(self._picture)

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Write the picture; the ending names the format."""
        self._picture.save(filepath)

    # ------------------------------------------------------------------------------ drawing

    def _within(self, x: float, y: float) -> Point:
        """Bring far-away points to just outside the picture: Pillow walks along every pixel."""
        margin = 100.0
        return (
            min(max(x, -margin), self.width + margin),
            min(max(y, -margin), self.height + margin),
        )

    def rectangle(
        self, box: Sequence[float], color: RGB, alpha: float, width: int, dashed: bool = False
    ) -> None:
        """Outline the pixels that the half-open box (x1, y1, x2, y2) covers, inside it."""
        (x1, y1), (x2, y2) = self._within(box[0], box[1]), self._within(box[2], box[3])
        left, right = sorted((round(x1), round(x2)))
        top, bottom = sorted((round(y1), round(y2)))
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        if dashed:
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            self.polyline(corners, color, alpha, width, dashed=True)
        else:
            outline = (*color, round(255 * alpha))
            self._draw.rectangle((left, top, right, bottom), outline=outline, width=width)

    def polyline(
        self,
        points: Sequence[Point],
        color: RGB,
        alpha: float,
        width: int,
        dashed: bool = False,
    ) -> None:
        """Draw straight lines from each point to the next."""
        fill = (*color, round(255 * alpha))
        inside = [self._within(*point) for point in points]
        if not dashed:
            self._draw.line(inside, fill=fill, width=width, joint="curve")
            return
        dash = 4.0 * width
        for (x1, y1), (x2, y2) in pairwise(inside):
            length = math.hypot(x2 - x1, y2 - y1)
            for start in np.arange(0.0, length, 2 * dash):
                a, b = start / length, min(start + dash, length) / length
                ends = [(x1 + (x2 - x1) * t, y1 + (y2 - y1) * t) for t in (a, b)]
                self._draw.line(ends, fill=fill, width=width)

    def polygon(
        self, points: Sequence[Point], color: RGB, alpha: float, edge: RGB, width: int
    ) -> None:
        """Fill a polygon with `color`, outline it with `edge`."""
        inside = [self._within(*point) for point in points]
        self._draw.polygon(inside, fill=(*color, round(255 * alpha)))
        self._draw.line([*inside, inside[0]], fill=(*edge, 255), width=width)

    def mask(self, bits: np.ndarray, color: RGB, alpha: float, edge: RGB, width: int) -> None:
        """Color the pixels of a (height, width) bool array, outlined with `edge` inside."""
        rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
        if not len(rows):
            return
        x, y = int(columns[0]), int(rows[0])
        part = bits[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1]
        inner = np.pad(part, width)
        for _ in range(width):
            shrunk = inner.copy()
            shrunk[1:] &= inner[:-1]
            shrunk[:-1] &= inner[1:]
            shrunk[:, 1:] &= inner[:, :-1]
            shrunk[:, :-1] &= inner[:, 1:]
            inner = shrunk
        inner = inner[width:-width, width:-width]
        # a half-transparent line: the edge of a mask is never sharper than a pixel
        line = round(255 * (1 + alpha) / 2)
        for where, fill, share in ((inner, color, round(255 * alpha)), (part & ~inner, edge, line)):
            self._picture.paste(fill, (x, y), Image.fromarray(where.astype(np.uint8) * share))

    def soft_mask(self, shares: np.ndarray, color: RGB) -> None:
        """Color each pixel of the image by its share (H, W) in 0..1."""
        cover = Image.fromarray(np.rint(shares * 255).astype(np.uint8))
        if cover.size != self._picture.size:
            cover = cover.resize(self._picture.size, Image.Resampling.BILINEAR)
        self._picture.paste(color, (0, 0), cover)

    def circle(self, center: Point, radius: float, color: RGB) -> None:
        """Fill a circle."""
        x, y = self._within(*center)
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*color, 255))

    def text_size(self, text: str, size: int) -> tuple[int, int]:
        """Return width and height of the plate that `text` stands on, for letters of `size`."""
        pad = max(1, size // 6)
        lines = text.split("\n")
        drawn = (legible(line, size) for line in lines)
        width = max(round(font.getlength(line)) for line, font in drawn)
        return width + 2 * pad, round(size * 1.2) * len(lines) + pad

    def text(self, text: str, corner: Point, color: RGB, size: int) -> None:
        """Write `text`, brightened, on a dark plate; its top left, `corner`, is moved inside."""
        width, height = self.text_size(text, size)
        x = round(min(max(corner[0], 0), max(self.width - width, 0)))
        y = round(min(max(corner[1], 0), max(self.height - height, 0)))
        pad = max(1, size // 6)
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), fill=(0, 0, 0, 190))
        for i, line in enumerate(text.split("\n")):
            at = (x + pad, y + i * round(size * 1.2))
            drawn, font = legible(line, size)
            # on one base line, whatever the font
            below = (at[0], at[1] + round(size * 0.93))
            self._draw.text(below, drawn, fill=(*brightened(color), 255), font=font, anchor="ls")

    def turned_text(self, text: str, center: Point, color: RGB, size: int, rotation: float) -> None:
        """Write `text` around `center`, turned counter-clockwise by `rotation` degrees."""
        plate = VisImage(np.zeros((*reversed(self.text_size(text, size)), 3), dtype=np.uint8))
        plate.text(text, (0, 0), color, size)
        picture = plate._picture.convert("RGBA")
        picture.putalpha(220)
        picture = picture.rotate(rotation, expand=True, resample=Image.Resampling.BICUBIC)
        corner = (round(center[0] - picture.width / 2), round(center[1] - picture.height / 2))
        self._picture.paste(picture, corner, picture)
