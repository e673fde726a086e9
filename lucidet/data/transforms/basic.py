"""Flips, crops, padding, blending: transforms that keep the pixel grid."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from lucidet.data.transforms.base import NoOpTransform, Transform
from lucidet.data.transforms.polygons import clip_polygons


class HFlipTransform(Transform):
    """Mirror left and right. ``width``: of the image, in pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img[:, ::-1]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return np.stack([self.width - coords[:, 0], coords[:, 1]], axis=1)

    def inverse(self) -> Transform:
        return self


class VFlipTransform(Transform):
    """Mirror top and bottom. ``height``: of the image, in pixels."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img[::-1]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return np.stack([coords[:, 0], self.height - coords[:, 1]], axis=1)

    def inverse(self) -> Transform:
        return self


class CropTransform(Transform):
    """Cut out ``w`` x ``h`` pixels from ``(x0, y0)``.

    Args:
        x0, y0, w, h: the window, in whole pixels of the image before.
        orig_w, orig_h: size of the image before; needed by :meth:`inverse` only.
    """

    def __init__(
        self,
        x0: int,
        y0: int,
        w: int,
        h: int,
        orig_w: int | None = None,
        orig_h: int | None = None,
    ) -> None:
        super().__init__()
        self.x0, self.y0, self.w, self.h = x0, y0, w, h
        self.orig_w, self.orig_h = orig_w, orig_h

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img[self.y0 : self.y0 + self.h, self.x0 : self.x0 + self.w]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords - np.array([self.x0, self.y0], dtype=coords.dtype)

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Move polygons, each (P, 2), and cut them at the window; their number may change."""
        moved = [self.apply_coords(polygon) for polygon in polygons]
        return clip_polygons(moved, 0, 0, self.w, self.h)

    def inverse(self) -> Transform:
        """Pad back to the former size (what was cut off comes back as 0)."""
        if self.orig_w is None or self.orig_h is None:
            raise ValueError(
                "CropTransform.inverse needs the size of the uncropped image: "
                "build it with orig_w=... and orig_h=..."
            )
        right = self.orig_w - self.x0 - self.w
        bottom = self.orig_h - self.y0 - self.h
        return PadTransform(self.x0, self.y0, right, bottom, orig_w=self.w, orig_h=self.h)


class PadTransform(Transform):
    """Add a border of constant value.

    Args:
        x0, y0: pixels added at the left and top.
        x1, y1: pixels added at the right and bottom.
        orig_w, orig_h: size of the image before; needed by :meth:`inverse` only.
        pad_value: value of the new pixels.
        seg_pad_value: label of the new pixels of a label map.
    """

    def __init__(
        self,
        x0: int,
        y0: int,
        x1: int,
        y1: int,
        orig_w: int | None = None,
        orig_h: int | None = None,
        pad_value: float = 0,
        seg_pad_value: int = 0,
    ) -> None:
        super().__init__()
        self.x0, self.y0, self.x1, self.y1 = x0, y0, x1, y1
        self.orig_w, self.orig_h = orig_w, orig_h
        self.pad_value, self.seg_pad_value = pad_value, seg_pad_value

    def _pad(self, img: np.ndarray, value: float) -> np.ndarray:
        border = [(self.y0, self.y1), (self.x0, self.x1)] + [(0, 0)] * (img.ndim - 2)
        return np.pad(img, border, mode="constant", constant_values=value)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self._pad(img, self.pad_value)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._pad(segmentation, self.seg_pad_value)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords + np.array([self.x0, self.y0], dtype=coords.dtype)

    def inverse(self) -> Transform:
        if self.orig_w is None or self.orig_h is None:
            raise ValueError(
                "PadTransform.inverse needs the size of the image without its border: "
                "build it with orig_w=... and orig_h=..."
            )
        padded_w = self.orig_w + self.x0 + self.x1
        padded_h = self.orig_h + self.y0 + self.y1
        return CropTransform(
            self.x0, self.y0, self.orig_w, self.orig_h, orig_w=padded_w, orig_h=padded_h
        )


class PhotometricTransform(Transform):
    """A change of values only: points, boxes and label maps stay as they are."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        return np.asarray(box)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        """Nothing to undo on coordinates; lost values do not come back."""
        return NoOpTransform()


class BlendTransform(PhotometricTransform):
    """``src_weight * src_image + dst_weight * image``; uint8 stays uint8, clipped to 0..255.

    Args:
        src_image: an array that broadcasts against the image, or a number.
        src_weight, dst_weight: the factors of `src_image` and of the image.
    """

    def __init__(self, src_image: np.ndarray | float, src_weight: float, dst_weight: float) -> None:
        super().__init__()
        self.src_image = src_image
        self.src_weight, self.dst_weight = src_weight, dst_weight

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        dtype = np.float32 if img.dtype == np.uint8 else img.dtype
        blended = self.src_weight * np.asarray(self.src_image, dtype=dtype)
        blended = blended + self.dst_weight * img.astype(dtype)
        if img.dtype == np.uint8:
            return np.clip(blended, 0, 255).astype(np.uint8)
        return blended.astype(img.dtype)


class ScaleTransform(Transform):
    """Resize by torch's interpolation, for images of any number type.

    Images that shrink are not smoothed first; :class:`ResizeTransform` is what training uses.

    Args:
        h, w: size before. new_h, new_w: size after, in pixels.
        interp: a mode of ``torch.nn.functional.interpolate``; default ``"bilinear"``.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: str | None = None) -> None:
        super().__init__()
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = interp

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        return interpolate_array(img, (self.new_h, self.new_w), interp or self.interp or "bilinear")

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp="nearest")

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return scale_coords(coords, self.new_w / self.w, self.new_h / self.h)

    def inverse(self) -> Transform:
        return ScaleTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


def scale_coords(coords: np.ndarray, x: float, y: float) -> np.ndarray:
    """Return ``(N, 2)`` points with their columns multiplied by `x` and `y`."""
    coords = np.asarray(coords)
    dtype = coords.dtype if np.issubdtype(coords.dtype, np.floating) else np.float64
    return coords * np.array([x, y], dtype=dtype)


def interpolate_array(img: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Resize (H, W) or (H, W, C) of any number type to `size` (height, width) with torch."""
    dtype = img.dtype
    planes = img[..., None] if img.ndim == 2 else img
    floats = torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32)).permute(2, 0, 1)[None]
    options = {"align_corners": False} if mode in ("bilinear", "bicubic") else {}
    out = F.interpolate(floats, size, mode=mode, **options)[0].permute(1, 2, 0).numpy()
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        out = np.clip(np.rint(out), info.min, info.max)
    return out.astype(dtype).reshape(*size, *img.shape[2:])
