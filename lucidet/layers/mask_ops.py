"""Masks inside boxes: cut out of the image's masks for training, pasted into the image at test."""

# M masks of an image, F boxes, S side of a mask inside its box, H x W the image

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lucidet.layers.roi_align import roi_align

__all__ = ["crop_and_resize_masks", "paste_masks_in_image"]

#: pixels that are held as float32 at once, which bounds the memory: 64 MB
_PIXELS_AT_ONCE = 2**24


def paste_masks_in_image(
    masks: Tensor,
    boxes: Tensor,
    image_shape: tuple[int, int],
    threshold: float = 0.5,
    *,
    whole_pixels: bool = False,
) -> Tensor:
    """Return each mask stretched over its box in an image.

    Bilinear: the centers of the mask's S x S locations are spread evenly over the box, and outside
    of the mask is 0. Bilinear weights of a rectangle are a product of those of its rows and of its
    columns, so that a mask is two small matrix products.

    Args:
        masks: (M, S, S) probabilities 0..1.
        boxes: (M, 4) XYXY, pixels of the image; a Boxes serves too.
        image_shape: (height, width) H x W.
        threshold: a pixel belongs to the object from this probability on; negative: probabilities
            are wanted, as 0..255.
        whole_pixels: as torchvision pastes: the box, wider by a location on each side, is rounded
            to whole pixels, its last ones included; the mask has zeros around.

    Returns:
        (M, H, W) bool; uint8 for a negative threshold. On a CPU pages of memory that no box
        touches are not allocated.
    """
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2]:
        raise ValueError(f"expected square masks (M, S, S), got shape {tuple(masks.shape)}")
    corners = getattr(boxes, "tensor", boxes)
    if corners.shape != (len(masks), 4):
        raise ValueError(
            f"expected a box for each of {len(masks)} masks, ({len(masks)}, 4) XYXY, got shape "
            f"{tuple(corners.shape)}"
        )
    height, width = int(image_shape[0]), int(image_shape[1])
    if masks.device.type == "cpu":
        return _paste_on_host(
            masks.float(), corners.float(), height, width, threshold, whole_pixels
        )
    pasted = torch.empty((len(masks), height, width), dtype=_dtype(threshold), device=masks.device)
    at_once = max(_PIXELS_AT_ONCE // max(height * width, 1), 1)
    parts = (values.split(at_once) for values in (masks.float(), corners.float(), pasted))
    for part, own, to in zip(*parts, strict=True):
        rows = _weights(own[:, 1], own[:, 3], 0, height, masks.shape[1], whole_pixels)  # (m, H, S)
        columns = _weights(own[:, 0], own[:, 2], 0, width, masks.shape[2], whole_pixels)
        _write(rows @ part @ columns.mT, to, threshold)
    return pasted


def _paste_on_host(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float, whole_pixels: bool
) -> Tensor:
    """Paste on the CPU, each mask only where its box is."""
    dtype = np.uint8 if threshold < 0 else np.bool_
    # numpy's zeros, unlike torch's, take no memory until they are written to
    pasted = torch.from_numpy(np.zeros((len(masks), height, width), dtype))
    # half a location around the box a mask fades to 0, from less than half its probability
    fading = 0.0 if threshold >= 0.5 else 0.5 / max(masks.shape[1], 1)
    fading = 1 / max(masks.shape[1], 1) if whole_pixels else fading
    around = 1 + fading * (boxes[:, 2:] - boxes[:, :2])
    low = (boxes[:, :2] - around).floor().clamp(min=0).long().tolist()
    high = (boxes[:, 2:] + around).ceil().long().tolist()
    for mask, box, (x1, y1), (x2, y2), to in zip(masks, boxes, low, high, pasted, strict=True):
        x2, y2 = min(x2, width), min(y2, height)
        if x2 <= x1 or y2 <= y1:
            continue
        rows = _weights(box[1:2], box[3:4], y1, y2, mask.shape[0], whole_pixels)[0]  # (h, S)
        columns = _weights(box[0:1], box[2:3], x1, x2, mask.shape[1], whole_pixels)[0]  # (w, S)
        half = rows @ mask  # (h, S)
        step = max(_PIXELS_AT_ONCE // (x2 - x1), 1)
        for top in range(0, y2 - y1, step):
            values = half[top : top + step] @ columns.T  # (h', w)
            _write(values, to[y1 + top : y1 + top + len(values), x1:x2], threshold)
    return pasted


def _dtype(threshold: float) -> torch.dtype:
    return torch.uint8 if threshold < 0 else torch.bool


def _write(values: Tensor, to: Tensor, threshold: float) -> None:
    """Write probabilities into a view of the result: what reaches the threshold, or 0..255."""
    if threshold < 0:
        to.copy_((values * 255).to(torch.uint8))
    else:
        torch.ge(values, threshold, out=to)


def _weights(
    low: Tensor, high: Tensor, start: int, stop: int, side: int, whole_pixels: bool = False
) -> Tensor:
    """Return the weights (M, stop - start, S) of a mask's rows for the image's rows.

    Args:
        low, high: (M,) where the boxes begin and end.
        start, stop: of the rows of pixels.
        side: S.
        whole_pixels: see :func:`paste_masks_in_image`.
    """
    pixels = torch.arange(start, stop, device=low.device, dtype=low.dtype) + 0.5
    if whole_pixels:
        center, half = (low + high) * 0.5, (high - low) * 0.5 * ((side + 2) / side)
        low, high = (center - half).trunc(), (center + half).trunc() + 1  # of side + 2 locations
        length = (high - low).clamp(min=1)[:, None]
        places = (pixels - low[:, None]) / length * (side + 2) - 1.5
        # beyond the first and the last center there is the zero around the mask
        places = places.where((pixels > low[:, None]) & (pixels < low[:, None] + length), torch.inf)
    else:
        # a box without a length covers no pixel: NaN and infinity get no weight
        places = (pixels - low[:, None]) / (high - low)[:, None] * side - 0.5  # (M, L)
    distance = places[..., None] - torch.arange(side, device=low.device, dtype=low.dtype)
    return (1 - distance.abs()).clamp(min=0).nan_to_num(0.0)


@torch.no_grad()
def crop_and_resize_masks(
    masks: Sequence[Tensor],
    rows: Sequence[Tensor],
    boxes: Tensor,
    side: int,
    soft: bool = False,
) -> Tensor:
    """Return the part of masks inside boxes, resampled by ROIAlign, for all images at once.

    Args:
        masks: per image (M_i, H_i, W_i) bool.
        rows: per image, int64 on the host: the mask of each of its boxes.
        boxes: (F, 4) XYXY, for all images in order, each inside of its image.
        side: S.
        soft: return how much of each bin is covered, with pixel centers at whole numbers, as
            torchvision trains.

    Returns:
        (F, S, S) bool: at least half of the bin is covered; float32, 0..1, if `soft`.
    """
    if len(boxes) == 0:
        dtype = torch.float32 if soft else torch.bool
        return torch.zeros((0, side, side), dtype=dtype, device=boxes.device)
    stacked = _stacked(masks)  # (sum of M_i, H, W)
    starts = np.cumsum([0, *(len(own) for own in masks)]).tolist()
    mask_of = torch.cat([own + start for own, start in zip(rows, starts, strict=False)])  # (F,)
    used, place = mask_of.unique(return_inverse=True)
    order = place.argsort(stable=True)  # boxes of one mask follow each other
    at_once = max(4 * _PIXELS_AT_ONCE // max(stacked[0].numel(), 1), 1)
    cropped = []
    for first in range(0, len(used), at_once):
        own = order[(place[order] >= first) & (place[order] < first + at_once)]
        part = stacked[used[first : first + at_once].to(stacked.device, non_blocking=True)]
        batch = (place[own] - first).to(boxes, non_blocking=True)[:, None]
        rois = torch.cat([batch, boxes[own.to(boxes.device, non_blocking=True)]], dim=1)
        # torchvision's operator by name: on a threshold the order of additions decides
        part = part.float()[:, None]
        values = roi_align(part, rois, side, 1.0, 0, not soft, impl="torchvision")[:, 0]
        cropped.append(values if soft else values >= 0.5)
    return torch.cat(cropped)[order.argsort().to(boxes.device, non_blocking=True)]


def _stacked(masks: Sequence[Tensor]) -> Tensor:
    """Return the masks of all images in one tensor (sum of M_i, H, W).

    Beyond the last row and column of a smaller image these are repeated once: a sample between the
    center of the last pixel and the edge then has its value, as if the image ended there.
    """
    if len({own.shape[1:] for own in masks}) == 1:
        return torch.cat(list(masks))
    height, width = (max(own.shape[axis] for own in masks) for axis in (1, 2))
    stacked = masks[0].new_zeros((sum(len(own) for own in masks), height, width))
    for own, to in zip(masks, stacked.split([len(own) for own in masks]), strict=True):
        h, w = own.shape[1:]
        to[:, :h, :w] = own
        to[:, :h, w : w + 1] = own[:, :, -1:]
        to[:, h : h + 1, : w + 1] = to[:, h - 1 : h, : w + 1]
    return stacked
