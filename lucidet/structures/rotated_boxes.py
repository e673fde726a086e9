"""Boxes with an angle."""

# N, M boxes of the two sets

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.layers.rotated_boxes import pairwise_iou_rotated
from lucidet.structures.boxes import Boxes


class RotatedBoxes(Boxes):
    """N rotated boxes of one image.

    Attributes:
        tensor: (N, 5) float32 (centre x, centre y, width, height, angle): pixels of the image, and
            degrees counter-clockwise as seen on the screen.

    >>> boxes = RotatedBoxes([[50, 30, 20, 10, 270]])
    >>> boxes.normalize_angles()
    >>> boxes.tensor.tolist()
    [[50.0, 30.0, 20.0, 10.0, -90.0]]
    """

    def __init__(self, tensor: Tensor | np.ndarray | Sequence[Sequence[float]]) -> None:
        """Hold ``tensor`` (N, 5); anything without elements becomes (0, 5).

        Raises:
            ValueError: the shape is not (N, 5).
        """
        if not isinstance(tensor, Tensor):
            tensor = torch.as_tensor(tensor, dtype=torch.float32, device="cpu")
        tensor = tensor.to(torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape(0, 5)
        if tensor.dim() != 2 or tensor.shape[-1] != 5:
            raise ValueError(
                f"RotatedBoxes takes a tensor of shape (N, 5), got {tuple(tensor.shape)}; "
                "one box is [[x, y, width, height, degrees]]"
            )
        self.tensor = tensor

    def clone(self) -> RotatedBoxes:
        """Return a copy that shares no memory."""
        return RotatedBoxes(self.tensor.clone())

    def to(self, *args: Any, **kwargs: Any) -> RotatedBoxes:
        """Return the boxes on another device; arguments as `torch.Tensor.to`, stays float32."""
        return RotatedBoxes(self.tensor.to(*args, **kwargs))

    def area(self) -> Tensor:
        """Return (N,) areas in square pixels."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Bring every angle into [-180, 180), in place."""
        self.tensor[:, 4] = (self.tensor[:, 4] + 180.0) % 360.0 - 180.0

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Move almost upright boxes into the image, in place; leave the others as they are.

        A clipped box that is far from upright would be no box any more. A box never grows.

        Args:
            box_size: (height, width) of the image.
            clip_angle_threshold: degrees up to which a box counts as upright.
        """
        height, width = box_size
        self.normalize_angles()
        x, y, w, h, angle = self.tensor.unbind(dim=1)
        x1, x2 = (x - w / 2).clamp(min=0, max=width), (x + w / 2).clamp(min=0, max=width)
        y1, y2 = (y - h / 2).clamp(min=0, max=height), (y + h / 2).clamp(min=0, max=height)
        clipped = torch.stack(
            [
                (x1 + x2) / 2,
                (y1 + y2) / 2,
                torch.minimum(w, x2 - x1),
                torch.minimum(h, y2 - y1),
                angle,
            ],
            dim=1,
        )
        upright = angle.abs() <= clip_angle_threshold
        self.tensor = torch.where(upright[:, None], clipped, self.tensor)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: both sides are longer than ``threshold`` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(dim=1)

    def __getitem__(self, item: int | slice | Tensor) -> RotatedBoxes:
        """Return the chosen boxes; an integer gives one box, still as (1, 5)."""
        if isinstance(item, int):
            return RotatedBoxes(self.tensor[item].view(1, 5))
        chosen = self.tensor[item]
        if chosen.dim() != 2:
            raise ValueError(
                f"indexing RotatedBoxes with {item!r} gives shape {tuple(chosen.shape)}"
            )
        return RotatedBoxes(chosen)

    def __repr__(self) -> str:
        return f"RotatedBoxes({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: float = 0) -> Tensor:
        """Return (N,) bool: the centre leaves the image by at most ``boundary_threshold`` pixels.

        Args:
            box_size: (height, width) of the image.
            boundary_threshold: pixels by which a centre may lie outside.
        """
        height, width = box_size
        x, y = self.tensor[:, 0], self.tensor[:, 1]
        slack = boundary_threshold
        return (x >= -slack) & (y >= -slack) & (x < width + slack) & (y < height + slack)

    def get_centers(self) -> Tensor:
        """Return (N, 2) centres as (x, y)."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale the boxes' coordinates, in place.

        Where the factors differ, a rotated box becomes a parallelogram; the result is the box with
        the lengths of its sides and the direction of its upright one.
        """
        angle = self.tensor[:, 4] * (math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        self.tensor[:, 0] *= scale_x
        self.tensor[:, 1] *= scale_y
        self.tensor[:, 2] *= torch.hypot(scale_x * cos, scale_y * sin)
        self.tensor[:, 3] *= torch.hypot(scale_x * sin, scale_y * cos)
        self.tensor[:, 4] = torch.atan2(scale_x * sin, scale_y * cos) * (180 / math.pi)

    @classmethod
    def cat(cls, boxes_list: Sequence[Boxes]) -> RotatedBoxes:
        """Return all boxes of the list in one; an empty list gives no boxes."""
        for boxes in boxes_list:
            if not isinstance(boxes, RotatedBoxes):
                raise ValueError(f"RotatedBoxes.cat takes RotatedBoxes, got {type(boxes).__name__}")
        if len(boxes_list) == 0:
            return cls(torch.empty(0, 5))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each box as a tensor of 5."""
        yield from self.tensor


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> Tensor:
    """Return (N, M) intersection over union in [0, 1]; 0 where a box has no area."""
    return pairwise_iou_rotated(boxes1.tensor, boxes2.tensor)
