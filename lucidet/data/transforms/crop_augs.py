"""Augmentations that cut a part out of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lucidet.data.transforms.augmentation import Augmentation
from lucidet.data.transforms.base import NoOpTransform, Transform
from lucidet.data.transforms.basic import CropTransform, PadTransform

CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")


class RandomCrop(Augmentation):
    """Cut a window at a random place; boxes that leave the image are removed by the mapper.

    Args:
        crop_type: how `crop_size` (height, width) is meant.
            ``"relative"``: parts of the image, in (0, 1];
            ``"relative_range"``: the parts are drawn from [crop_size, 1];
            ``"absolute"``: pixels (at most the image);
            ``"absolute_range"``: each edge is drawn from crop_size[0]..crop_size[1] pixels.
        crop_size: two numbers, or one for both.
    """

    def __init__(self, crop_type: str, crop_size: Sequence[float] | float) -> None:
        super().__init__()
        if isinstance(crop_size, (int, float)):
            crop_size = (crop_size, crop_size)
        if crop_type not in CROP_TYPES:
            raise ValueError(f"crop_type must be one of {CROP_TYPES}, got {crop_type!r}")
        if len(crop_size) != 2:
            raise ValueError(f"crop_size must be two numbers, got {crop_size}")
        if crop_type.startswith("relative") and not all(0 < s <= 1 for s in crop_size):
            raise ValueError(
                f"crop_type {crop_type!r} takes parts of the image in (0, 1], "
                f"got crop_size {tuple(crop_size)}; for pixels use 'absolute'"
            )
        if crop_type == "absolute_range" and crop_size[0] > crop_size[1]:
            raise ValueError(f"crop_type 'absolute_range' takes (min, max), got {crop_size}")
        self.crop_type, self.crop_size = crop_type, tuple(crop_size)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return the window's (height, width) for an image of (height, width)."""
        h, w = image_size
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(int(first), h), min(int(second), w)
        if self.crop_type == "absolute_range":
            low, high = int(first), int(second)
            sides = [np.random.randint(min(side, low), min(side, high) + 1) for side in (h, w)]
            return int(sides[0]), int(sides[1])
        part_h, part_w = first, second
        if self.crop_type == "relative_range":
            part_h, part_w = (s + np.random.rand() * (1 - s) for s in self.crop_size)
        return max(1, int(h * part_h + 0.5)), max(1, int(w * part_w + 0.5))

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((h, w))
        y0 = np.random.randint(h - crop_h + 1)
        x0 = np.random.randint(w - crop_w + 1)
        return CropTransform(int(x0), int(y0), crop_w, crop_h, orig_w=w, orig_h=h)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """:class:`RandomCrop` that tries ten times for a window in which no category fills too much.

    Args:
        crop_type, crop_size: as in :class:`RandomCrop`.
        single_category_max_area: largest part of the window that one label may take, in (0, 1].
        ignored_category: label that doesn't count.
    """

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float] | float,
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self.crop_type, self.crop_size = crop_type, self.crop_aug.crop_size
        self.single_category_max_area = single_category_max_area
        self.ignored_category = ignored_category

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray | None) -> Transform:
        if sem_seg is None:
            raise ValueError("this crop needs a label map: AugInput(image, sem_seg=...)")
        for _ in range(10):
            crop = self.crop_aug.get_transform(image)
            labels, counts = np.unique(crop.apply_segmentation(sem_seg), return_counts=True)
            counts = counts[labels != self.ignored_category]
            # one label alone is as bad as one that fills nearly all
            if len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area:
                break
        return crop


class FixedSizeCrop(Augmentation):
    """Cut a window of `crop_size` (height, width) at a random place; pad where the image is small.

    Args:
        crop_size: size of the result.
        pad: pad smaller images at the right and bottom; otherwise they stay smaller.
        pad_value: value of new pixels.
        seg_pad_value: label of new pixels of a label map.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        pad: bool = True,
        pad_value: float = 128.0,
        seg_pad_value: int = 255,
    ) -> None:
        super().__init__()
        self.crop_size, self.pad = crop_size, pad
        self.pad_value, self.seg_pad_value = pad_value, seg_pad_value

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        out_h, out_w = self.crop_size
        cut_h, cut_w = min(h, out_h), min(w, out_w)
        y0 = round((h - cut_h) * float(self._rand_range()))
        x0 = round((w - cut_w) * float(self._rand_range()))
        crop = CropTransform(x0, y0, cut_w, cut_h, orig_w=w, orig_h=h)
        if not self.pad:
            return crop
        border = PadTransform(
            0, 0, out_w - cut_w, out_h - cut_h, cut_w, cut_h, self.pad_value, self.seg_pad_value
        )
        return crop + border


class MinIoURandomCrop(Augmentation):
    """Cut a window that overlaps every object inside it by a random least IoU.

    Args:
        min_ious: least IoUs to draw from; beside them "the whole image" and "anything" are drawn.
        min_crop_size: least edge of the window relative to the image.
        mode_trials: how many draws of a least IoU before the image stays as it is.
        crop_trials: how many windows to try for each.

    After SSD (Liu et al. 2016, arXiv 1512.02325), section 2.2, "data augmentation". Needs the
    boxes: ``AugInput(image, boxes=...)``. Only windows that hold an object's centre count.
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ) -> None:
        self.min_ious, self.min_crop_size = tuple(min_ious), min_crop_size
        self.mode_trials, self.crop_trials = mode_trials, crop_trials
        self.sample_mode = (1, *self.min_ious, 0)

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> Transform:
        h, w = image.shape[:2]
        if boxes is None or len(boxes) == 0:
            return NoOpTransform()
        for _ in range(self.mode_trials):
            min_iou = float(np.random.choice(self.sample_mode))
            if min_iou == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                crop_w = np.random.uniform(self.min_crop_size * w, w)
                crop_h = np.random.uniform(self.min_crop_size * h, h)
                if not 0.5 <= crop_h / crop_w <= 2:
                    continue
                window = _whole_pixels(
                    np.random.uniform(0, w - crop_w),
                    np.random.uniform(0, h - crop_h),
                    crop_w,
                    crop_h,
                )
                if _keeps_objects(window, np.asarray(boxes), min_iou):
                    x0, y0, x1, y1 = window
                    return CropTransform(x0, y0, x1 - x0, y1 - y0, orig_w=w, orig_h=h)
        return NoOpTransform()


def _whole_pixels(x0: float, y0: float, w: float, h: float) -> tuple[int, int, int, int]:
    left, top = int(x0), int(y0)
    return left, top, max(left + 1, int(x0 + w)), max(top + 1, int(y0 + h))


def _keeps_objects(window: tuple[int, int, int, int], boxes: np.ndarray, min_iou: float) -> bool:
    """Whether `window` holds an object's centre, and has `min_iou` with each one it holds."""
    x0, y0, x1, y1 = window
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    held = ((centers > (x0, y0)) & (centers < (x1, y1))).all(axis=1)
    if not held.any():
        return False
    inner = np.minimum(boxes[:, 2:], (x1, y1)) - np.maximum(boxes[:, :2], (x0, y0))
    overlap = inner.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    iou = overlap / (areas + (x1 - x0) * (y1 - y0) - overlap)
    return bool(iou[held].min() >= min_iou)
