"""Resizing, rotation, cut-and-zoom and colour changes, and the names of all transforms.

The simple ones (flips, crops, padding) are in `basic`, the base class in `base`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from lucidet.data.transforms.base import NoOpTransform, Transform, TransformList
from lucidet.data.transforms.basic import (
    BlendTransform,
    CropTransform,
    HFlipTransform,
    PadTransform,
    PhotometricTransform,
    ScaleTransform,
    VFlipTransform,
    interpolate_array,
    scale_coords,
)
from lucidet.data.transforms.polygons import clip_polygons

__all__ = [
    "AffineTransform",
    "BlendTransform",
    "ColorTransform",
    "CropTransform",
    "ExtentTransform",
    "HFlipTransform",
    "NoOpTransform",
    "PILColorTransform",
    "PadTransform",
    "ResizeTransform",
    "RotationTransform",
    "ScaleTransform",
    "Transform",
    "TransformList",
    "VFlipTransform",
]

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
_TORCH_MODES = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}


class ResizeTransform(Transform):
    """Resize to `new_h` x `new_w`; shrinking averages over all source pixels (PIL's filters).

    Args:
        h, w: size before. new_h, new_w: size after, in pixels.
        interp: one of PIL's resampling methods; default bilinear.
        fast: resize uint8 images with torch's kernel: 2 to 8 times faster than PIL, same filter,
            weights rounded to 16 bits, so that values may differ by 1 of 255: one in a thousand
            on a photograph, up to a fifth on pure noise. The default gives PIL's numbers exactly.
    """

    def __init__(
        self,
        h: int,
        w: int,
        new_h: int,
        new_w: int,
        interp: int | None = None,
        *,
        fast: bool = False,
    ) -> None:
        super().__init__()
        if min(h, w, new_h, new_w) <= 0:
            raise ValueError(f"cannot resize {h} x {w} to {new_h} x {new_w}: sizes must be > 0")
        self.h, self.w, self.new_h, self.new_w = h, w, new_h, new_w
        self.interp = BILINEAR if interp is None else interp
        self.fast = fast

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.shape[:2] != (self.h, self.w):
            raise ValueError(
                f"ResizeTransform was made for an image of {self.h} x {self.w} (height x width), "
                f"got {img.shape[0]} x {img.shape[1]}"
            )
        if img.ndim not in (2, 3):
            raise ValueError(f"expected an image (H, W) or (H, W, C), got shape {img.shape}")
        method = Image.Resampling(self.interp if interp is None else interp)
        if (self.h, self.w) == (self.new_h, self.new_w):
            return img
        size = (self.new_h, self.new_w)
        if img.dtype != np.uint8:
            return interpolate_array(img, size, _torch_mode(method))
        if self.fast and method == BILINEAR and img.ndim == 3:
            return _resize_by_torch(img, size)
        return _resize_by_pil(img, size, method)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return scale_coords(coords, self.new_w / self.w, self.new_h / self.h)

    def inverse(self) -> Transform:
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp, fast=self.fast)


def _torch_mode(method: Image.Resampling) -> str:
    if method not in _TORCH_MODES:
        raise ValueError(
            f"resampling {method.name} works on uint8 images only; "
            f"other types know {[m.name for m in _TORCH_MODES]}"
        )
    return _TORCH_MODES[method]


def _resize_by_pil(img: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    wh = (size[1], size[0])
    if img.ndim == 3 and img.shape[2] != 3:  # a fourth channel would count as transparency
        planes = [np.asarray(Image.fromarray(p).resize(wh, method)) for p in img.transpose(2, 0, 1)]
        return np.stack(planes, axis=2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(img)).resize(wh, method))


def _resize_by_torch(img: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # A BGR image is usually an RGB array seen backwards. torch knows no negative strides, and a
    # copy costs more than the resizing: turn the view round, resize, and turn it back.
    backwards = img.strides[2] < 0
    planes = np.ascontiguousarray(img[:, :, ::-1] if backwards else img)
    if not planes.flags.writeable:
        planes = planes.copy()
    resized = TF.resize(torch.from_numpy(planes).permute(2, 0, 1), list(size), antialias=True)
    out = resized.permute(1, 2, 0).numpy()
    return out[:, :, ::-1] if backwards else out


class AffineTransform(Transform):
    """Any affine map of the plane into an image of another size; new pixels are 0.

    Args:
        matrix: (2, 3), maps continuous (x, y, 1) before to (x, y) after.
        output_size: (height, width) after.
        input_size: (height, width) before; needed by :meth:`inverse`.
        interp: PIL's resampling method; default bilinear.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        output_size: tuple[int, int],
        input_size: tuple[int, int],
        interp: int | None = None,
    ) -> None:
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64).reshape(2, 3)
        self.output_size, self.input_size = output_size, input_size
        self.interp = BILINEAR if interp is None else interp

    def _inverse_matrix(self) -> np.ndarray:
        return np.linalg.inv(np.vstack([self.matrix, [0, 0, 1]]))[:2]

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.size == 0:
            return img
        method = Image.Resampling(self.interp if interp is None else interp)
        h, w = self.output_size
        # PIL asks where each output pixel's centre comes from, in the same continuous coordinates
        data = tuple(self._inverse_matrix().ravel().tolist())
        return _per_plane(
            img, lambda im: im.transform((w, h), Image.Transform.AFFINE, data, resample=method)
        )

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=np.result_type(coords, np.float32))
        return (coords @ self.matrix[:, :2].T + self.matrix[:, 2]).astype(coords.dtype)

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Move polygons, each (P, 2), and cut them at the image; their number may change."""
        height, width = self.output_size
        return clip_polygons(super().apply_polygons(polygons), 0, 0, width, height)

    def inverse(self) -> Transform:
        return AffineTransform(
            self._inverse_matrix(), self.input_size, self.output_size, self.interp
        )


class RotationTransform(AffineTransform):
    """Turn an image counter-clockwise about a point.

    Args:
        h, w: size before, in pixels.
        angle: degrees; positive turns counter-clockwise as seen on the screen.
        expand: make the image large enough for all of it; it is then centred. Otherwise it keeps
            its size and the corners are lost.
        center: (x, y) of the fixed point, default the middle; without effect with `expand`.
        interp: PIL's resampling method; default bilinear.
    """

    def __init__(
        self,
        h: int,
        w: int,
        angle: float,
        expand: bool = True,
        center: tuple[float, float] | None = None,
        interp: int | None = None,
    ) -> None:
        self.h, self.w, self.angle, self.expand = h, w, angle, expand
        self.center = np.array((w / 2, h / 2) if center is None or expand else center)
        # rounded: the cosine of 90 degrees is 0, not 6e-17, and quarter turns keep all pixels
        cos, sin = np.round([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))], 14)
        turn = np.array([[cos, sin], [-sin, cos]])  # y points down: this turns counter-clockwise
        if expand:
            self.bound_w = int(np.rint(abs(h * sin) + abs(w * cos)))
            self.bound_h = int(np.rint(abs(h * cos) + abs(w * sin)))
            target = np.array([self.bound_w / 2, self.bound_h / 2])
        else:
            self.bound_w, self.bound_h = w, h
            target = self.center
        matrix = np.column_stack([turn, target - turn @ self.center])
        super().__init__(matrix, (self.bound_h, self.bound_w), (h, w), interp)


class ExtentTransform(Transform):
    """Cut a window of fractional position out and resize it to `output_size` in one step.

    Args:
        src_rect: (x0, y0, x1, y1) of the window, in pixels before; may reach outside the image.
        output_size: (height, width) after.
        interp: PIL's resampling method.
        fill: value of pixels that come from outside the image.
    """

    def __init__(
        self,
        src_rect: tuple[float, float, float, float],
        output_size: tuple[int, int],
        interp: int = BILINEAR,
        fill: float = 0,
    ) -> None:
        super().__init__()
        self.src_rect, self.output_size = src_rect, output_size
        self.interp, self.fill = interp, fill

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        method = Image.Resampling(self.interp if interp is None else interp)
        h, w = self.output_size

        def cut(im: Image.Image) -> Image.Image:
            fill = int(self.fill) if im.mode != "F" else float(self.fill)
            color: Any = (fill,) * len(im.getbands()) if len(im.getbands()) > 1 else fill
            return im.transform(
                (w, h), Image.Transform.EXTENT, self.src_rect, resample=method, fillcolor=color
            )

        return _per_plane(img, cut)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.src_rect
        h, w = self.output_size
        return scale_coords(
            coords - np.array([x0, y0], dtype=coords.dtype), w / (x1 - x0), h / (y1 - y0)
        )

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Move polygons, each (P, 2), and cut them at the image; their number may change."""
        height, width = self.output_size
        return clip_polygons(super().apply_polygons(polygons), 0, 0, width, height)


def _per_plane(img: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply `change` to an array as PIL images; each plane as float where PIL lacks the type."""
    if img.dtype == np.uint8 and (img.ndim == 2 or img.shape[2] == 3):
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(img))))
    planes = (img[..., None] if img.ndim == 2 else img).transpose(2, 0, 1)
    changed = [
        np.asarray(change(Image.fromarray(np.ascontiguousarray(p, dtype=np.float32))))
        for p in planes
    ]
    out = np.stack(changed, axis=2)
    if np.issubdtype(img.dtype, np.integer):
        out = np.rint(out)
    return out.astype(img.dtype).reshape(*out.shape[:2], *img.shape[2:])


class ColorTransform(PhotometricTransform):
    """Change the values of an image by any function of an array; places stay.

    Args:
        op: takes the image array and returns one of the same size.
    """

    def __init__(self, op: Callable[[Any], Any]) -> None:
        super().__init__()
        if not callable(op):
            raise ValueError(f"ColorTransform needs a function, got {type(op).__name__}")
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)


class PILColorTransform(ColorTransform):
    """:class:`ColorTransform` whose function takes and returns a PIL image."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(np.ascontiguousarray(img))))


def _flip_rotated(transform: HFlipTransform, boxes: np.ndarray) -> np.ndarray:
    """Mirror (N, 5) boxes (x centre, y centre, width, height, angle in degrees)."""
    out = np.array(boxes, copy=True)
    out[:, 0] = transform.width - out[:, 0]
    out[:, 4] = -out[:, 4]
    return out


def _resize_rotated(transform: ResizeTransform, boxes: np.ndarray) -> np.ndarray:
    """Scale (N, 5) boxes; with unequal factors a turned rectangle becomes a parallelogram.

    Its two axes are kept at their new lengths, and the angle follows its height axis.
    """
    out = np.array(boxes, dtype=np.result_type(boxes, np.float32))
    sx, sy = transform.new_w / transform.w, transform.new_h / transform.h
    cos, sin = np.cos(np.deg2rad(boxes[:, 4])), np.sin(np.deg2rad(boxes[:, 4]))
    out[:, 0] *= sx
    out[:, 1] *= sy
    out[:, 2] *= np.hypot(sx * cos, sy * sin)
    out[:, 3] *= np.hypot(sx * sin, sy * cos)
    out[:, 4] = np.rad2deg(np.arctan2(sx * sin, sy * cos))
    return out


HFlipTransform.register_type("rotated_box", _flip_rotated)
ResizeTransform.register_type("rotated_box", _resize_rotated)
