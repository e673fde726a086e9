"""Axis-aligned boxes, the conversions between their formats, and what is measured between two sets.

A box is (x1, y1, x2, y2) in absolute pixels of its image, half-open: width is x2 - x1, no "+1".
"""

# N, M boxes of the two sets

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch
from torch import Tensor

RawBox = list[float] | tuple[float, ...] | Tensor | np.ndarray


@unique
class BoxMode(IntEnum):
    """The formats a box may come in; ABS counts pixels, REL is in [0, 1] of the image's size."""

    XYXY_ABS = 0
    """(x1, y1, x2, y2), x2 and y2 exclusive."""
    XYWH_ABS = 1
    """(x1, y1, width, height): COCO's annotations."""
    XYXY_REL = 2
    """XYXY over the image's width and height; can be named, not converted."""
    XYWH_REL = 3
    """XYWH over the image's width and height; can be named, not converted."""
    XYWHA_ABS = 4
    """(centre x, centre y, width, height, degrees counter-clockwise)."""

    @staticmethod
    def convert(box: RawBox, from_mode: BoxMode, to_mode: BoxMode) -> Any:
        """Rewrite boxes in another format.

        Args:
            box: one box as list or tuple of 4 or 5 numbers, or (N, 4) / (N, 5) array or tensor.
            from_mode, to_mode: formats of the input and of the result. A rotated box becomes the
                smallest upright box around it.

        Returns:
            a new object of the type (and dtype) of ``box``.

        Raises:
            NotImplementedError: relative modes, or a pair of modes without a conversion.
            ValueError: the number of values a box does not fit ``from_mode``.

        >>> BoxMode.convert([10, 20, 30, 40], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        [10, 20, 40, 60]
        """
        from_mode, to_mode = BoxMode(from_mode), BoxMode(to_mode)
        rows = _as_rows(box)
        width = 5 if from_mode is BoxMode.XYWHA_ABS else 4
        if rows.shape[-1] != width:
            raise ValueError(
                f"BoxMode.convert: a {from_mode.name} box has {width} numbers, got "
                f"{rows.shape[-1]} (shape {tuple(rows.shape)})"
            )
        if from_mode is not to_mode:
            try:
                rows = _CONVERSIONS[from_mode, to_mode](rows)
            except KeyError:
                raise NotImplementedError(
                    f"no conversion from {from_mode.name} to {to_mode.name}; relative boxes must "
                    "be multiplied by the image's width and height first"
                ) from None
        if isinstance(box, (list, tuple)):
            return type(box)(rows.flatten().tolist())
        return rows.numpy() if isinstance(box, np.ndarray) else rows


def _as_rows(box: RawBox) -> Tensor:
    """Return a copy of ``box`` as a tensor with one box a row."""
    if isinstance(box, (list, tuple)):
        if len(box) not in (4, 5) or any(isinstance(v, (list, tuple)) for v in box):
            raise ValueError(
                "BoxMode.convert takes one box of 4 or 5 numbers as list or tuple, got "
                f"{len(box)} values; pass many boxes as an (N, 4) array or tensor"
            )
        whole = all(isinstance(v, (int, np.integer)) for v in box)
        # float64: Python's own precision survives the way through
        return torch.tensor([list(box)], dtype=torch.int64 if whole else torch.float64)
    if isinstance(box, np.ndarray):
        return torch.from_numpy(box.copy())
    return box.clone()


def _xyxy_to_xywh(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def _xywh_to_xyxy(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[..., :2], boxes[..., 2:] + boxes[..., :2]], dim=-1)


def _xywh_to_xywha(boxes: Tensor) -> Tensor:
    wide = boxes.double()
    centre = wide[..., :2] + wide[..., 2:] / 2
    angle = torch.zeros_like(wide[..., :1])
    result = torch.cat([centre, wide[..., 2:], angle], dim=-1)
    # half a pixel would be lost in integers
    return result.to(boxes.dtype) if boxes.is_floating_point() else result


def _xywha_to_xyxy(boxes: Tensor) -> Tensor:
    wide = boxes.double()
    angle = wide[..., 4] * (math.pi / 180)
    cos, sin = angle.cos().abs(), angle.sin().abs()
    w, h = wide[..., 2], wide[..., 3]
    half = torch.stack([cos * w + sin * h, sin * w + cos * h], dim=-1) / 2
    result = torch.cat([wide[..., :2] - half, wide[..., :2] + half], dim=-1)
    return result.to(boxes.dtype) if boxes.is_floating_point() else result


_CONVERSIONS = {
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _xyxy_to_xywh,
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _xywh_to_xyxy,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _xywh_to_xywha,
    (BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS): lambda boxes: _xywh_to_xywha(_xyxy_to_xywh(boxes)),
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _xywha_to_xyxy,
    (BoxMode.XYWHA_ABS, BoxMode.XYWH_ABS): lambda boxes: _xyxy_to_xywh(_xywha_to_xyxy(boxes)),
}


class Boxes:
    """N boxes of one image, as a float32 tensor with some operations.

    Attributes:
        tensor: (N, 4) float32 XYXY, pixels of the image.

    >>> boxes = Boxes([[0, 0, 10, 5], [2, 2, 2, 8]])
    >>> boxes.area().tolist(), boxes.nonempty().tolist()
    ([50.0, 0.0], [True, False])
    """

    def __init__(self, tensor: Tensor | np.ndarray | Sequence[Sequence[float]]) -> None:
        """Hold ``tensor`` (N, 4); anything without elements becomes (0, 4).

        Raises:
            ValueError: the shape is not (N, 4).
        """
        if not isinstance(tensor, Tensor):
            tensor = torch.as_tensor(tensor, dtype=torch.float32, device="cpu")
        tensor = tensor.to(torch.float32)
        if tensor.numel() == 0:
            # reshape keeps the gradient's path, which a new empty tensor would cut
            tensor = tensor.reshape(-1, 4)
        if tensor.dim() != 2 or tensor.shape[-1] != 4:
            raise ValueError(
                f"Boxes takes a tensor of shape (N, 4), got {tuple(tensor.shape)}; "
                "one box is [[x1, y1, x2, y2]]"
            )
        self.tensor = tensor

    def clone(self) -> Boxes:
        """Return a copy that shares no memory."""
        return Boxes(self.tensor.clone())

    def to(self, *args: Any, **kwargs: Any) -> Boxes:
        """Return the boxes on another device; arguments as `torch.Tensor.to`, stays float32."""
        return Boxes(self.tensor.to(*args, **kwargs))

    def area(self) -> Tensor:
        """Return (N,) areas in square pixels."""
        return (self.tensor[:, 2] - self.tensor[:, 0]) * (self.tensor[:, 3] - self.tensor[:, 1])

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move every corner into the image, in place: x into [0, width], y into [0, height].

        Args:
            box_size: (height, width) of the image.

        Raises:
            ValueError: a coordinate is NaN or infinite. Looked for on the CPU only: elsewhere
                the look would stall the device, and a graph can't hold it.
        """
        if self.tensor.device.type == "cpu" and not torch.compiler.is_compiling():
            finite = torch.isfinite(self.tensor).all(dim=1)
            if not finite.all():
                row = int((~finite).nonzero()[0])
                raise ValueError(
                    f"Boxes.clip: box {row} of {len(self)} is {self.tensor[row].tolist()}, "
                    "infinite or NaN; the prediction that made it has diverged"
                )
        height, width = box_size
        x1, y1, x2, y2 = self.tensor.unbind(dim=1)
        self.tensor = torch.stack(
            [
                x1.clamp(min=0, max=width),
                y1.clamp(min=0, max=height),
                x2.clamp(min=0, max=width),
                y2.clamp(min=0, max=height),
            ],
            dim=1,
        )

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: both sides are longer than ``threshold`` pixels."""
        sides = self.tensor[:, 2:] - self.tensor[:, :2]
        return (sides > threshold).all(dim=1)

    def __getitem__(self, item: int | slice | Tensor) -> Boxes:
        """Return the chosen boxes; an integer gives one box, still as (1, 4).

        Args:
            item: integer, slice, or a tensor of indices or of (N,) bool.
        """
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, 4))
        chosen = self.tensor[item]
        if chosen.dim() != 2:
            raise ValueError(f"indexing Boxes with {item!r} gives shape {tuple(chosen.shape)}")
        return Boxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: float = 0) -> Tensor:
        """Return (N,) bool: the box leaves the image by at most ``boundary_threshold`` pixels.

        Args:
            box_size: (height, width) of the image.
            boundary_threshold: pixels by which a box may stick out.
        """
        height, width = box_size
        x1, y1, x2, y2 = self.tensor.unbind(dim=1)
        slack = boundary_threshold
        return (x1 >= -slack) & (y1 >= -slack) & (x2 < width + slack) & (y2 < height + slack)

    def get_centers(self) -> Tensor:
        """Return (N, 2) centres as (x, y)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply x by ``scale_x`` and y by ``scale_y``, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: Sequence[Boxes]) -> Boxes:
        """Return all boxes of the list in one; an empty list gives no boxes."""
        for boxes in boxes_list:
            if not isinstance(boxes, Boxes):
                raise ValueError(f"Boxes.cat takes Boxes, got {type(boxes).__name__}")
        if len(boxes_list) == 0:
            return cls(torch.empty(0, 4))
        # through torch.cat even for one, so that the result never shares memory with its source
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    @property
    def device(self) -> torch.device:
        """Where the tensor lives."""
        return self.tensor.device

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each box as a tensor of 4."""
        yield from self.tensor


def _overlap(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return intersection areas of (..., 4) boxes that broadcast against each other."""
    w = torch.minimum(boxes1[..., 2], boxes2[..., 2]) - torch.maximum(
        boxes1[..., 0], boxes2[..., 0]
    )
    h = torch.minimum(boxes1[..., 3], boxes2[..., 3]) - torch.maximum(
        boxes1[..., 1], boxes2[..., 1]
    )
    return w.clamp(min=0) * h.clamp(min=0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, and 0 (not NaN, with gradient 0) where the part is 0."""
    some = part > 0
    return torch.where(some, part / torch.where(some, whole, 1.0), 0.0)


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) areas that each of N boxes shares with each of M, in square pixels."""
    return _overlap(boxes1.tensor[:, None], boxes2.tensor[None])


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) intersection over union in [0, 1]; 0 where a box has no area.

    >>> pairwise_iou(Boxes([[0, 0, 2, 2]]), Boxes([[0, 0, 2, 2], [1, 0, 3, 2], [1, 1, 1, 1]]))
    tensor([[1.0000, 0.3333, 0.0000]])
    """
    inter = pairwise_intersection(boxes1, boxes2)
    return _ratio(inter, boxes1.area()[:, None] + boxes2.area() - inter)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) intersection over the area of ``boxes2``; 0 where that has no area."""
    inter = pairwise_intersection(boxes1, boxes2)
    return _ratio(inter, boxes2.area()[None].expand_as(inter))


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """Return how far each side of each box lies from each point.

    Args:
        points: (N, 2) as (x, y).
        boxes: M boxes.

    Returns:
        (N, M, 4): distance to the left, top, right and bottom side, all positive iff the point is
        inside.
    """
    low = points[:, None] - boxes.tensor[None, :, :2]
    high = boxes.tensor[None, :, 2:] - points[:, None]
    return torch.cat([low, high], dim=2)


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N,) IoU of ``boxes1[i]`` with ``boxes2[i]``.

    Raises:
        ValueError: the two sets differ in length.
    """
    if len(boxes1) != len(boxes2):
        raise ValueError(
            f"matched_pairwise_iou compares box i with box i: got {len(boxes1)} and {len(boxes2)} "
            "boxes; pairwise_iou compares all with all"
        )
    inter = _overlap(boxes1.tensor, boxes2.tensor)
    return _ratio(inter, boxes1.area() + boxes2.area() - inter)


def matched_boxlist_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return `matched_pairwise_iou` under its older name."""
    return matched_pairwise_iou(boxes1, boxes2)
