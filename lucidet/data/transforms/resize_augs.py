"""Augmentations of size and orientation: resize, flip, rotate, zoom."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lucidet.data.transforms.augmentation import (
    AugInput,
    Augmentation,
    as_augmentation,
    wanted_fields,
)
from lucidet.data.transforms.base import NoOpTransform, Transform
from lucidet.data.transforms.basic import HFlipTransform, VFlipTransform
from lucidet.data.transforms.transform import ExtentTransform, ResizeTransform, RotationTransform

BILINEAR = Image.Resampling.BILINEAR


class RandomApply(Augmentation):
    """Apply an augmentation (or transform) with probability `prob`, else nothing."""

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5) -> None:
        super().__init__()
        self.aug = as_augmentation(tfm_or_aug)
        self.prob = check_probability(prob)
        self.input_args = wanted_fields(self.aug)

    def get_transform(self, *args) -> Transform:
        return self.aug.get_transform(*args) if self._rand_range() < self.prob else NoOpTransform()

    def __call__(self, aug_input: AugInput) -> Transform:
        # through the inner augmentation's own call: it may be a list, which has no get_transform
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()

    def __repr__(self) -> str:
        return f"RandomApply({self.aug!r}, prob={self.prob})"


def check_probability(prob: float) -> float:
    if not 0.0 <= prob <= 1.0:
        raise ValueError(f"prob must lie in 0..1, got {prob}")
    return prob


class RandomFlip(Augmentation):
    """Mirror the image with probability `prob`, left-right or (``vertical=True``) top-bottom."""

    def __init__(
        self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False
    ) -> None:
        super().__init__()
        if horizontal == vertical:
            raise ValueError(
                "RandomFlip mirrors in one direction: exactly one of horizontal and vertical must "
                f"be True, both are {horizontal}; for both directions use two RandomFlip"
            )
        self.prob = check_probability(prob)
        self.horizontal, self.vertical = horizontal, vertical

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(w) if self.horizontal else VFlipTransform(h)


class Resize(Augmentation):
    """Resize to a fixed `shape` (height, width), or a square if it is one number."""

    def __init__(
        self, shape: int | Sequence[int], interp: int = BILINEAR, *, fast: bool = False
    ) -> None:
        self.shape = (shape, shape) if isinstance(shape, int) else (shape[0], shape[1])
        self.interp, self.fast = interp, fast

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        new_h, new_w = self.shape
        return ResizeTransform(h, w, new_h, new_w, self.interp, fast=self.fast)


class RandomResize(Augmentation):
    """Resize to one of several sizes (height, width), drawn anew for each image."""

    def __init__(
        self, shape_list: Sequence[tuple[int, int]], interp: int = BILINEAR, *, fast: bool = False
    ) -> None:
        if not shape_list:
            raise ValueError("shape_list is empty: give at least one size, as in [(600, 800)]")
        self.shape_list = [tuple(shape) for shape in shape_list]
        self.interp, self.fast = interp, fast

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        new_h, new_w = self.shape_list[np.random.randint(len(self.shape_list))]
        return ResizeTransform(h, w, new_h, new_w, self.interp, fast=self.fast)


class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter edge gets a wanted length and the longer stays within a limit.

    Args:
        short_edge_length: lengths in pixels. ``"choice"``: one of them is drawn; ``"range"``: a
            whole number from the first to the second, both included. One number is that length.
            A drawn length of 0 leaves the image as it is.
        max_size: limit of the longer edge; the aspect ratio is kept.
        sample_style: ``"range"`` or ``"choice"``.
        interp: PIL's resampling method.
        fast: see :class:`ResizeTransform`.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = BILINEAR,
        *,
        fast: bool = False,
    ) -> None:
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise ValueError(f"sample_style must be 'range' or 'choice', got {sample_style!r}")
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        self.short_edge_length = tuple(short_edge_length)
        if not self.short_edge_length:
            raise ValueError("short_edge_length is empty: give at least one length, as in (800,)")
        if sample_style == "range" and len(self.short_edge_length) != 2:
            raise ValueError(
                "sample_style 'range' needs short_edge_length (min, max), "
                f"got {self.short_edge_length}; 'choice' draws from a list"
            )
        self.max_size, self.sample_style = max_size, sample_style
        self.interp, self.fast = interp, fast

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        if self.sample_style == "range":
            low, high = self.short_edge_length
            size = int(np.random.randint(low, high + 1))
        else:
            size = int(np.random.choice(self.short_edge_length))
        if size == 0:
            return NoOpTransform()
        new_h, new_w = self.get_output_shape(h, w, size, self.max_size)
        return ResizeTransform(h, w, new_h, new_w, self.interp, fast=self.fast)

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """Return (height, width) after resizing.

        >>> ResizeShortestEdge.get_output_shape(480, 640, 800, 1333)
        (800, 1067)
        >>> ResizeShortestEdge.get_output_shape(480, 1280, 800, 1333)
        (500, 1333)
        """
        scale = short_edge_length / min(oldh, oldw)
        # the shorter edge first gets its length exactly, the other one follows
        new_h, new_w = oldh * scale, oldw * scale
        if oldh < oldw:
            new_h = float(short_edge_length)
        else:
            new_w = float(short_edge_length)
        if max(new_h, new_w) > max_size:
            shrink = max_size / max(new_h, new_w)
            new_h, new_w = new_h * shrink, new_w * shrink
        # at least a pixel: an image of 1 x 2000 must not lose its height
        return max(1, int(new_h + 0.5)), max(1, int(new_w + 0.5))


class ResizeScale(Augmentation):
    """Fit the image into a target size times a random scale ("large-scale jitter", first half).

    Args:
        min_scale, max_scale: range of the scale, drawn uniformly.
        target_height, target_width: the size that scale 1 fits into, in pixels.
        interp: PIL's resampling method.
        fast: see :class:`ResizeTransform`.

    The aspect ratio is kept. After Ghiasi et al. 2020 (arXiv 2012.07177), section 3.
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int = BILINEAR,
        *,
        fast: bool = False,
    ) -> None:
        super().__init__()
        self.min_scale, self.max_scale = min_scale, max_scale
        self.target_height, self.target_width = target_height, target_width
        self.interp, self.fast = interp, fast

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        scale = np.random.uniform(self.min_scale, self.max_scale)
        factor = min(scale * self.target_height / h, scale * self.target_width / w)
        new_h, new_w = max(1, round(h * factor)), max(1, round(w * factor))
        return ResizeTransform(h, w, new_h, new_w, self.interp, fast=self.fast)


class RandomRotation(Augmentation):
    """Turn the image counter-clockwise by a random angle.

    Args:
        angle: degrees; ``"range"``: (min, max), ``"choice"``: a list to draw from.
        expand: make room for the whole turned image.
        center: a range ((x0, y0), (x1, y1)) or a list of points, relative to the image's size
            (0..1); default its middle. Without effect with `expand`.
        sample_style: ``"range"`` or ``"choice"``, for angle and centre.
        interp: PIL's resampling method; default bilinear.
    """

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Sequence[Sequence[float]] | None = None,
        sample_style: str = "range",
        interp: int | None = None,
    ) -> None:
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise ValueError(f"sample_style must be 'range' or 'choice', got {sample_style!r}")
        self.angle = (angle, angle) if isinstance(angle, (int, float)) else tuple(angle)
        if center is not None and isinstance(center[0], (int, float)):
            center = (center, center)  # type: ignore[assignment]
        self.center = center
        self.expand, self.sample_style, self.interp = expand, sample_style, interp

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        if self.sample_style == "range":
            angle = np.random.uniform(self.angle[0], self.angle[1])
            point = None if self.center is None else np.random.uniform(*map(np.array, self.center))
        else:
            angle = np.random.choice(self.angle)
            point = None
            if self.center is not None:
                point = np.array(self.center[np.random.randint(len(self.center))])
        if angle % 360 == 0:
            return NoOpTransform()
        center = None if point is None else (float(point[0]) * w, float(point[1]) * h)
        return RotationTransform(h, w, float(angle), self.expand, center, self.interp)


class RandomExtent(Augmentation):
    """Cut a window of random size at a random place; it may reach outside the image (0 there).

    Args:
        scale_range: range of the window's size relative to the image.
        shift_range: (x, y): the window's centre lies in a range of this width about the image's
            centre, relative to the image's size; 1 lets it reach the border.
    """

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]) -> None:
        super().__init__()
        self.scale_range, self.shift_range = scale_range, shift_range

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        scale = np.random.uniform(*self.scale_range)
        dx, dy = ((np.random.rand() - 0.5) * limit for limit in self.shift_range)
        cx, cy = w * (0.5 + dx), h * (0.5 + dy)
        half_w, half_h = w * scale / 2, h * scale / 2
        rect = (cx - half_w, cy - half_h, cx + half_w, cy + half_h)
        return ExtentTransform(
            src_rect=rect, output_size=(max(1, int(2 * half_h)), max(1, int(2 * half_w)))
        )
