"""The views of an image that test-time augmentation looks at: sizes, and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from lucidet.config import CfgNode, configurable
from lucidet.modeling.meta_arch.detector import Record

__all__ = ["DatasetMapperTTA", "ResizeFlip"]


class ResizeFlip:
    """Resizes, then possibly mirrors; called as the transforms of `lucidet.data` are.

    >>> view = ResizeFlip((100, 200), (50, 100), flip=True)
    >>> view.apply_box(np.array([[0.0, 0, 20, 10]])).tolist()
    [[90.0, 0.0, 100.0, 5.0]]
    >>> view.inverse().apply_box(np.array([[90.0, 0, 100, 5]])).tolist()
    [[0.0, 0.0, 20.0, 10.0]]
    """

    def __init__(self, size: tuple[int, int], new_size: tuple[int, int], flip: bool) -> None:
        """
        Args:
            size: height and width before.
            new_size: height and width after.
            flip: mirror left and right.
        """
        self.size, self.new_size, self.flip = size, new_size, flip

    def apply_image(self, image: Tensor) -> Tensor:
        """Return the image (C, H, W) in its new form; shrinking averages over all pixels."""
        if tuple(image.shape[-2:]) != self.new_size:
            image = TF.resize(image, list(self.new_size), antialias=True)
        return image.flip(-1) if self.flip else image

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Return boxes (N, 4) XYXY in the frame after."""
        (height, width), (new_height, new_width) = self.size, self.new_size
        x, y = new_width / width, new_height / height
        moved = np.asarray(box, dtype=np.float64).reshape(-1, 4) * [x, y, x, y]
        if self.flip:
            moved[:, [0, 2]] = new_width - moved[:, [2, 0]]
        return moved

    def inverse(self) -> ResizeFlip:
        """Return what leads back."""
        return ResizeFlip(self.new_size, self.size, self.flip)


class DatasetMapperTTA:
    """Makes the views of an image: each size, and mirrored."""

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        """
        Args:
            min_sizes: lengths of the shorter side, pixels.
            max_size: the longer side is at most so long.
            flip: mirror each size too.

        Raises:
            ValueError: no size, or one that is not positive.
        """
        if not min_sizes or min(*min_sizes, max_size) <= 0:
            raise ValueError(
                "TEST.AUG.MIN_SIZES needs at least one length, and all of them and "
                f"TEST.AUG.MAX_SIZE must be positive; got {tuple(min_sizes)} and {max_size}"
            )
        self.min_sizes = tuple(min_sizes)
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        aug = cfg.TEST.AUG
        return {"min_sizes": aug.MIN_SIZES, "max_size": aug.MAX_SIZE, "flip": aug.FLIP}

    def __call__(self, dataset_dict: Record) -> list[Record]:
        """Return the views of one image.

        Args:
            dataset_dict: with `image` (C, H, W), and the image's own `height` and `width`, which
                may differ.

        Returns:
            Copies of the record with a new `image`, and with `transforms`, from the frame of
            `height` and `width` to that of the view; views of one size follow each other.
        """
        image: Tensor = dataset_dict["image"]
        height, width = image.shape[-2:]
        full = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        views = []
        for shorter in self.min_sizes:
            size = self._size(height, width, shorter)
            for flip in (False, True)[: 1 + self.flip]:
                seen = ResizeFlip((height, width), size, flip).apply_image(image)
                views.append(
                    {**dataset_dict, "image": seen, "transforms": ResizeFlip(full, size, flip)}
                )
        return views

    def _size(self, height: int, width: int, shorter: int) -> tuple[int, int]:
        scale = min(shorter / min(height, width), self.max_size / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
