"""Keypoints of the objects of one image, and the way to heat maps and back (He et al. 2017)."""

# M objects, R boxes, K keypoints of an object, S side of a heat map

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Keypoints", "heatmaps_to_keypoints"]


class Keypoints:
    """Keypoints of M objects.

    Attributes:
        tensor: (M, K, 3) float32: x, y in pixels of the image, and the visibility: 0 not labelled,
            1 labelled and hidden, 2 labelled and visible.
    """

    def __init__(self, keypoints: Tensor | np.ndarray | Sequence[Sequence[Sequence[float]]]):
        """Hold `keypoints` as float32.

        Raises:
            ValueError: the shape is not (M, K, 3).
        """
        device = keypoints.device if isinstance(keypoints, Tensor) else torch.device("cpu")
        tensor = torch.as_tensor(keypoints, dtype=torch.float32, device=device)
        if tensor.dim() != 3 or tensor.shape[2] != 3:
            raise ValueError(
                "Keypoints takes a tensor (M, K, 3) of x, y and visibility, got shape "
                f"{tuple(tensor.shape)}"
            )
        self.tensor = tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> Keypoints:
        """Return the keypoints on another device; arguments as `torch.Tensor.to`."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Where the keypoints are."""
        return self.tensor.device

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """Return the location of each keypoint in the heat map of its object's box.

        Args:
            boxes: (M, 4) XYXY, pixels of the image.
            heatmap_size: S.

        Returns:
            - (M, K) int64, row * S + column; 0 where it is not valid.
            - (M, K) int64, 1 for a labelled keypoint inside the box, else 0.
        """
        return _keypoints_to_heatmap(self.tensor, boxes, heatmap_size)

    def __getitem__(self, item: int | slice | Tensor) -> Keypoints:
        """Return the chosen objects; an integer gives one object, still as (1, K, 3)."""
        if isinstance(item, int):
            return type(self)(self.tensor[item].unsqueeze(0))
        return type(self)(self.tensor[item])

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each object's (K, 3)."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"Keypoints(num_instances={len(self)})"

    @staticmethod
    def cat(keypoints_list: Sequence[Keypoints]) -> Keypoints:
        """Return all objects of the list in one.

        Raises:
            ValueError: the list is empty: the number of keypoints is not known then.
        """
        if len(keypoints_list) == 0:
            raise ValueError("Keypoints.cat needs at least one Keypoints, got an empty list")
        kind = type(keypoints_list[0])
        return kind(torch.cat([keypoints.tensor for keypoints in keypoints_list], dim=0))


def _keypoints_to_heatmap(
    keypoints: Tensor, rois: Tensor, heatmap_size: int
) -> tuple[Tensor, Tensor]:
    """Return what `Keypoints.to_heatmap` returns.

    A keypoint on the right or lower side of its box belongs to the last column or row.

    Args:
        keypoints: (R, K, 3).
        rois: (R, 4) XYXY, in the frame of the keypoints.
        heatmap_size: S.
    """
    size = heatmap_size
    corner, far = rois[:, None, :2], rois[:, None, 2:]
    # a box without a side has no locations: the quotient may be infinite, `inside` is False
    scale = size / (far - corner)
    place = keypoints[..., :2]
    column_row = torch.where(place == far, size - 1.0, ((place - corner) * scale).floor())
    inside = ((column_row >= 0) & (column_row < size)).all(dim=-1)
    valid = inside & (keypoints[..., 2] > 0)
    # first chosen, then converted: infinity has no integer
    chosen = torch.where(valid[..., None], column_row, torch.zeros_like(column_row)).long()
    return chosen[..., 1] * size + chosen[..., 0], valid.long()


@torch.no_grad()
def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Return the most probable location of each keypoint in pixels of the image.

    Each heat map is enlarged to its box, bicubic, one location a pixel; the keypoint lies in the
    middle of the highest.

    Args:
        maps: (R, K, S, S) logits.
        rois: (R, 4) XYXY, pixels of the image.

    Returns:
        (R, K, 4): x, y, the logit there, and its probability: the exponential of the logit over
        the sum of those of the S x S map.
    """
    maps = maps.float()
    found = maps.new_zeros(*maps.shape[:2], 4)
    sides = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
    pixels = sides.ceil()
    # one wait for all boxes; the enlarged maps differ in size, so that each is made by itself
    for row, (width, height) in enumerate(pixels.long().tolist()):
        enlarged = F.interpolate(
            maps[row : row + 1], size=(height, width), mode="bicubic", align_corners=False
        )[0].flatten(1)
        highest, location = enlarged.max(dim=1)
        found[row, :, 0] = location % width
        found[row, :, 1] = location // width
        found[row, :, 2] = highest
    found[..., :2] = (found[..., :2] + 0.5) * (sides / pixels)[:, None] + rois[:, None, :2]
    below = (maps - found[..., 2, None, None]).flatten(2)
    found[..., 3] = below.exp().sum(dim=2).reciprocal()
    return found
