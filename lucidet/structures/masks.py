"""Masks of the objects of one image: as polygons, as pixels, and as pixels of their boxes."""

# M objects, (H, W) the image, S side of a mask inside its box

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.layers import paste_masks_in_image
from lucidet.layers.roi_align import roi_align
from lucidet.structures.boxes import Boxes
from lucidet.structures.rasterize import (
    as_polygons,
    polygon_area,
    polygons_to_bitmask,
    rasterize_polygons_in_boxes,
    rasterize_polygons_within_box,
)

__all__ = [
    "BitMasks",
    "PolygonMasks",
    "ROIMasks",
    "polygon_area",
    "polygons_to_bitmask",
    "rasterize_polygons_within_box",
]

#: pixels that are turned into float32 at once, to bound the memory: 256 MB
PIXELS_AT_ONCE = 2**26

Index = int | slice | Tensor | Sequence[int] | np.ndarray


class PolygonMasks:
    """Masks of M objects, each a list of polygons; they stay on the CPU.

    Attributes:
        polygons: M lists of (2 P,) float64 arrays (x0, y0, x1, y1, ...), pixels of the image.

    >>> masks = PolygonMasks([[[0, 0, 4, 0, 4, 3, 0, 3]], []])
    >>> masks.area().tolist(), masks.nonempty().tolist()
    ([12.0, 0.0], [True, False])
    """

    def __init__(self, polygons: Sequence[Sequence[Any]]) -> None:
        """Hold polygons, converted to float64 arrays.

        Raises:
            ValueError: not a list of lists of polygons, or one without 3 corners.
        """
        if not isinstance(polygons, (list, tuple)):
            raise ValueError(
                "PolygonMasks takes a list of objects, each a list of polygons, got "
                f"{type(polygons).__name__}"
            )
        self.polygons = [as_polygons(p, index) for index, p in enumerate(polygons)]

    def to(self, *args: Any, **kwargs: Any) -> PolygonMasks:
        """Return self: polygons have no other device than the CPU."""
        return self

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Return the smallest box around each object's corners; 0, 0, 0, 0 without polygons."""
        boxes = torch.zeros(len(self), 4)
        for row, of_object in enumerate(self.polygons):
            if of_object:
                corners = np.concatenate(of_object).reshape(-1, 2)
                boxes[row] = torch.from_numpy(np.concatenate([corners.min(0), corners.max(0)]))
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """Return (M,) bool: the object has a polygon."""
        return torch.tensor([len(p) > 0 for p in self.polygons], dtype=torch.bool)

    def area(self) -> Tensor:
        """Return (M,) float32 areas in square pixels, the sum over an object's polygons."""
        areas = [sum(polygon_area(p[0::2], p[1::2]) for p in parts) for parts in self.polygons]
        return torch.tensor(areas, dtype=torch.float32)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Return the part of object i inside box i, stretched to a square.

        Args:
            boxes: (M, 4) XYXY, pixels of the image.
            mask_size: S.

        Returns:
            (M, S, S) bool on the device of `boxes`.
        """
        _check_one_box_each(self, boxes)
        corners = boxes.detach().to("cpu", torch.float32).numpy()
        cropped = rasterize_polygons_in_boxes(self.polygons, corners, mask_size)
        return torch.from_numpy(cropped).to(boxes.device)

    def __getitem__(self, item: Index) -> PolygonMasks:
        """Return the chosen objects; an integer gives one object, still as PolygonMasks."""
        if isinstance(item, int):
            return PolygonMasks([self.polygons[item]])
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        rows = torch.as_tensor(item)
        if rows.dtype == torch.bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {tuple(rows.shape)} for {len(self)} objects")
            rows = rows.nonzero().flatten()
        return PolygonMasks([self.polygons[row] for row in rows.tolist()])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Yield each object's list of polygons."""
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"PolygonMasks(num_instances={len(self)})"

    @staticmethod
    def cat(polymasks_list: Sequence[PolygonMasks]) -> PolygonMasks:
        """Return all objects of the list in one; an empty list gives no objects."""
        return PolygonMasks([p for masks in polymasks_list for p in masks.polygons])


class BitMasks:
    """Masks of M objects as pixels of the image.

    Attributes:
        tensor: (M, H, W) bool.
        image_size: (H, W).
    """

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        """Hold `tensor` as bool.

        Raises:
            ValueError: its shape is not (M, H, W).
        """
        bits = torch.as_tensor(tensor).to(torch.bool)
        if bits.dim() != 3:
            raise ValueError(f"BitMasks takes a tensor (M, H, W), got shape {tuple(bits.shape)}")
        self.tensor = bits
        self.image_size: tuple[int, int] = (bits.shape[1], bits.shape[2])

    @staticmethod
    def from_polygon_masks(
        polygon_masks: PolygonMasks | Sequence[Sequence[Any]], height: int, width: int
    ) -> BitMasks:
        """Fill polygons.

        Args:
            polygon_masks: of M objects, in pixels of the image.
            height, width: of the image.
        """
        if isinstance(polygon_masks, PolygonMasks):
            polygon_masks = polygon_masks.polygons
        bits = torch.zeros(len(polygon_masks), height, width, dtype=torch.bool)
        for row, polygons in enumerate(polygon_masks):
            bits[row] = torch.from_numpy(polygons_to_bitmask(polygons, height, width))
        return BitMasks(bits)

    @staticmethod
    def from_roi_masks(
        roi_masks: ROIMasks,
        height: int,
        width: int,
        boxes: Boxes | Tensor,
        threshold: float = 0.5,
    ) -> BitMasks:
        """Paste masks of boxes into the image; see `ROIMasks.to_bitmasks`."""
        return roi_masks.to_bitmasks(boxes, height, width, threshold)

    def to(self, *args: Any, **kwargs: Any) -> BitMasks:
        """Return the masks on another device; arguments as `torch.Tensor.to`, stays bool."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.tensor.device

    def get_bounding_boxes(self) -> Boxes:
        """Return the smallest box around each object's pixels; 0, 0, 0, 0 where it has none."""
        height, width = self.image_size
        if self.tensor.numel() == 0:
            return Boxes(torch.zeros(len(self), 4, device=self.device))
        sides = []
        for covered, length in ((self.tensor.any(1), width), (self.tensor.any(2), height)):
            ones = covered.to(torch.uint8)
            sides.append((ones.argmax(1), length - ones.flip(1).argmax(1)))
        (x1, x2), (y1, y2) = sides
        boxes = torch.stack([x1, y1, x2, y2], dim=1) * self.nonempty()[:, None]
        return Boxes(boxes.to(torch.float32))

    def nonempty(self) -> Tensor:
        """Return (M,) bool: the object has a pixel."""
        return self.tensor.flatten(1).any(dim=1)

    def area(self) -> Tensor:
        """Return (M,) float32: the number of pixels of each object."""
        return self.tensor.flatten(1).sum(dim=1).to(torch.float32)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Return the part of object i inside box i, resampled by ROIAlign to a square.

        Args:
            boxes: (M, 4) XYXY, pixels of the image.
            mask_size: S.

        Returns:
            (M, S, S) bool on the masks' device: at least half of the bin is covered.
        """
        _check_one_box_each(self, boxes)
        boxes = boxes.to(self.device, torch.float32)
        at_once = max(PIXELS_AT_ONCE // max(self.image_size[0] * self.image_size[1], 1), 1)
        cropped = [
            _crop_bits(bits, of_bits, mask_size)
            for bits, of_bits in zip(self.tensor.split(at_once), boxes.split(at_once), strict=True)
        ]
        empty = torch.zeros(0, mask_size, mask_size, dtype=torch.bool, device=self.device)
        return torch.cat(cropped) if cropped else empty

    def __getitem__(self, item: Index) -> BitMasks:
        """Return the chosen objects; an integer gives one object, still as (1, H, W)."""
        if isinstance(item, int):
            return BitMasks(self.tensor[item].unsqueeze(0))
        chosen = self.tensor[item]
        if chosen.dim() != 3:
            raise ValueError(f"indexing BitMasks with {item!r} gives shape {tuple(chosen.shape)}")
        return BitMasks(chosen)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each object's (H, W) mask."""
        yield from self.tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"BitMasks(num_instances={len(self)})"

    @staticmethod
    def cat(bitmasks_list: Sequence[BitMasks]) -> BitMasks:
        """Return all objects of a list of masks of one image in one.

        Raises:
            ValueError: the list is empty: no image size is known then.
        """
        if len(bitmasks_list) == 0:
            raise ValueError("BitMasks.cat needs at least one BitMasks, got an empty list")
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))


class ROIMasks:
    """Masks of M objects, each relative to its box.

    Attributes:
        tensor: (M, S, S), probabilities or bool.
    """

    def __init__(self, tensor: Tensor) -> None:
        """Hold `tensor`.

        Raises:
            ValueError: its shape is not (M, S, S).
        """
        if tensor.dim() != 3:
            raise ValueError(f"ROIMasks takes a tensor (M, S, S), got shape {tuple(tensor.shape)}")
        self.tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> ROIMasks:
        """Return the masks elsewhere or in another type; arguments as `torch.Tensor.to`."""
        return ROIMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: Index) -> ROIMasks:
        """Return the chosen objects; an integer gives one object, still as (1, S, S)."""
        if isinstance(item, int):
            return ROIMasks(self.tensor[item].unsqueeze(0))
        chosen = self.tensor[item]
        if chosen.dim() != 3:
            raise ValueError(f"indexing ROIMasks with {item!r} gives shape {tuple(chosen.shape)}")
        return ROIMasks(chosen)

    def __repr__(self) -> str:
        return f"ROIMasks(num_instances={len(self)})"

    def to_bitmasks(
        self, boxes: Boxes | Tensor, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Paste each mask into its box of the image.

        Args:
            boxes: (M, 4) XYXY, pixels of the image.
            height, width: of the image.
            threshold: a pixel belongs to the object from this probability on.
        """
        corners = boxes.tensor if isinstance(boxes, Boxes) else boxes
        return BitMasks(paste_masks_in_image(self.tensor, corners, (height, width), threshold))


def _check_one_box_each(masks: PolygonMasks | BitMasks, boxes: Tensor) -> None:
    if boxes.shape != (len(masks), 4):
        raise ValueError(
            f"crop_and_resize takes a box for each of the {len(masks)} masks as "
            f"({len(masks)}, 4), got shape {tuple(boxes.shape)}"
        )


def _crop_bits(bits: Tensor, boxes: Tensor, mask_size: int) -> Tensor:
    """Return (M, S, S) bool of (M, H, W) masks."""
    rows = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
    # torchvision's operator by name: on a threshold the order of additions decides
    covered = roi_align(
        bits.to(torch.float32)[:, None],
        torch.cat([rows, boxes], dim=1),
        mask_size,
        sampling_ratio=0,
        aligned=True,
        impl="torchvision",
    )
    return covered[:, 0] >= 0.5
