"""ROIAlign on a CPU as one sparse matrix product; the plain form is torchvision.ops.roi_align.

Every output cell is a weighted sum of pixels (rows of the channels-last feature map), so the whole
of ROIAlign is S @ F with a sparse S: `torch.nn.functional.embedding_bag` computes that at memory
speed, and its gradient is S^T @ dY, the same function again. Two facts keep S small. Bilinear
weights are separable, so they are worked out for each axis alone. Samples of one bin share pixels,
so each pixel enters a bin once: mostly 3 x 3 of them where 2 x 2 samples have 16 corners.
"""

# N images, L levels, C channels, R boxes, P bins an axis, S samples an axis and bin,
# K pixels an axis and bin, B bins in all = R * P * P, Q entries of the sparse matrix

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# entries of one piece of the sparse matrix while it is built: small enough for the cache
_PIECE = 1 << 19
_ZEROS_WORTH_REMOVING = 3


def prefers_embedding_bag(features: Tensor) -> bool:
    """Return whether the sparse product is the faster form: on a CPU, in eager float32."""
    in_a_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return features.device.type == "cpu" and features.dtype == torch.float32 and not in_a_graph


def fast_roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Return what `torchvision.ops.roi_align` returns, within 1e-4 and with equal gradients.

    Args:
        input: (N, C, H, W) float features; channels-last memory saves a copy.
        boxes: (R, 5) rows (image, x1, y1, x2, y2), pixels of the image; get no gradient.
        output_size: bins (height, width).
        spatial_scale, sampling_ratio, aligned: as `lucidet.layers.roi_align`.

    Returns:
        (R, C, height, width), channels-last in memory.
    """
    levels = boxes.new_zeros(len(boxes), dtype=torch.int64)
    return fast_roi_align_levels(
        [input], boxes, levels, output_size, [spatial_scale], sampling_ratio, aligned
    )


def fast_roi_align_levels(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Pool each box from its own level of a pyramid, all in one product.

    Args:
        features: L maps (N, C, H_l, W_l).
        levels: (R,) index into ``features``.
        spatial_scales: L factors from pixels to cells.
        boxes, output_size, sampling_ratio, aligned: as :func:`fast_roi_align`.

    Returns:
        (R, C, height, width) in the order of ``boxes``, channels-last in memory.
    """
    shape = (len(boxes), *output_size, features[0].shape[1])
    if len(boxes) == 0 or all(level.numel() == 0 for level in features):
        nothing = torch.stack([level.sum() for level in features]).sum() * 0
        return nothing + nothing.new_zeros(shape).permute(0, 3, 1, 2)
    with torch.no_grad():
        matrix = _interpolation_matrix(
            features, boxes, levels, output_size, spatial_scales, sampling_ratio, aligned
        )
    return _SparseProduct.apply(*matrix, *features).view(shape).permute(0, 3, 1, 2)


class _Matrix(NamedTuple):
    """A sparse matrix by rows: row b has the entries offsets[b] to offsets[b + 1]."""

    columns: Tensor  # (Q,) int32 or int64
    weights: Tensor  # (Q,)
    offsets: Tensor  # (B + 1,)


class _SparseProduct(torch.autograd.Function):
    """S @ F, with the transposed product as its gradient."""

    @staticmethod
    def forward(
        ctx: Any, columns: Tensor, weights: Tensor, offsets: Tensor, *features: Tensor
    ) -> Tensor:
        ctx.save_for_backward(columns, weights, offsets)
        ctx.shapes = [level.permute(0, 2, 3, 1).shape for level in features]
        rows = [level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in features]
        flat = rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)  # (sum of N H W, C)
        del rows  # as large as `flat`
        options: Any = {"mode": "sum", "include_last_offset": True}
        return F.embedding_bag(columns, flat, offsets, per_sample_weights=weights, **options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        matrix = _Matrix(*ctx.saved_tensors)
        lengths = [shape[:3].numel() for shape in ctx.shapes]
        columns, weights, offsets = _transposed(matrix, sum(lengths))
        flat = F.embedding_bag(
            columns,
            grad.contiguous(),
            offsets,
            mode="sum",
            per_sample_weights=weights,
            include_last_offset=True,
        )
        levels = zip(flat.split(lengths), ctx.shapes, strict=True)
        maps = [rows.view(shape).permute(0, 3, 1, 2) for rows, shape in levels]
        return None, None, None, *maps


def _transposed(matrix: _Matrix, num_columns: int) -> _Matrix:
    """Return the transpose: entries sorted by column, their row numbers as the new columns."""
    columns, weights, offsets = matrix
    order = columns.sort(stable=True)[1]
    bins = torch.arange(len(offsets) - 1, dtype=columns.dtype, device=columns.device)
    row_of = bins.repeat_interleave(offsets.diff(), output_size=len(columns))
    starts = F.pad(columns.bincount(minlength=num_columns).cumsum(0), (1, 0)).to(columns.dtype)
    return _Matrix(row_of[order], weights[order], starts)


class _Axis(NamedTuple):
    """Interpolation along one axis: bin (r, p) is the sum of ``weights`` times ``pixels``."""

    pixels: Tensor  # (R, P, K) int32
    weights: Tensor  # (R, P, K), 0 where a slot is not used
    used: Tensor  # (R, P) int64, number of weights that are not 0


def _interpolation_matrix(
    features: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> _Matrix:
    """Return S: (B, rows) such that S @ rows is the pooled output, bins in row-major order."""
    sizes = torch.tensor([f.shape[-2:] for f in features], device=boxes.device)  # (L, 2)
    per_image = sizes.prod(dim=1)
    first_row = F.pad((per_image * features[0].shape[0]).cumsum(0), (1, 0))  # (L + 1,)
    dtype = torch.int32 if int(first_row[-1]) < 2**31 else torch.int64
    scale = boxes.new_tensor(spatial_scales)[levels, None]
    low, high = (boxes[:, 1:] * scale - (0.5 if aligned else 0.0)).split(2, dim=1)
    extent = high - low
    if not aligned:
        extent = extent.clamp(min=1.0)
    box_sizes = sizes[levels]  # (R, 2) as (height, width)
    x = _axis(low[:, 0], extent[:, 0], box_sizes[:, 1], output_size[1], sampling_ratio)
    y = _axis(low[:, 1], extent[:, 1], box_sizes[:, 0], output_size[0], sampling_ratio)
    base = first_row[levels] + boxes[:, 0].long() * per_image[levels]
    row_starts = (base[:, None, None] + y.pixels * box_sizes[:, 1, None, None]).to(dtype)
    used = y.used[:, :, None] * x.used[:, None, :]  # (R, P_y, P_x) entries of each bin
    slots = row_starts.shape[2] * x.pixels.shape[2]
    # A weight of 0 costs less than its removal, unless a few large boxes make most slots useless.
    without_zeros = used.numel() * slots > _ZEROS_WORTH_REMOVING * int(used.sum())
    columns, weights = _outer(row_starts, y.weights, x.pixels.to(dtype), x.weights, without_zeros)
    if not without_zeros:
        used = torch.full_like(used, slots)
    return _Matrix(columns, weights, F.pad(used.flatten().cumsum(0), (1, 0)).to(dtype))


def _axis(low: Tensor, extent: Tensor, size: Tensor, bins: int, sampling_ratio: int) -> _Axis:
    """Work out one axis.

    Args:
        low, extent: (R,) start and length of each box, in cells; a length may be negative.
        size: (R,) cells of the map along this axis.
        bins: P.
        sampling_ratio: S, or <= 0 for as many as a bin has cells, rounded up.
    """
    step = extent / bins
    if sampling_ratio > 0:
        number = torch.full_like(step, sampling_ratio)
    else:
        number = step.nan_to_num(0, 0, 0).ceil().clamp(min=0)
    most = max(int(number.max()), 1)
    sample = torch.arange(most, device=low.device, dtype=low.dtype)
    # (R, S): samples ascend along the axis also in a box whose sides are swapped
    sample = torch.where(step[:, None] < 0, number[:, None] - 1 - sample, sample)
    exists = (sample >= 0) & (sample < number[:, None])
    # (R, 1, 1) + (R, P, 1) + (R, 1, S)
    start = low[:, None] + step[:, None] * torch.arange(bins, device=low.device, dtype=low.dtype)
    within = (sample + 0.5) * (step / number.clamp(min=1))[:, None]
    place = start[:, :, None] + within[:, None, :]  # (R, P, S)
    end = size[:, None, None]
    # up to a cell outside the map the border's value counts, beyond it 0
    share = (exists[:, None] & (place >= -1) & (place <= end)) / number.clamp(min=1)[:, None, None]
    # a NaN has share 0, and needs a pixel all the same
    place = torch.minimum(place.clamp(min=0), (end - 1).to(place.dtype)).nan_to_num(0)
    pixel = place.floor()
    upper = (place - pixel) * share
    pixel = pixel.int()
    # A sample touches `pixel` and the next one. Slots are handed out along the axis: none anew for
    # a sample in the same cell as the one before it, one in the next cell, two further on.
    moved = pixel.diff(dim=2).clamp(min=0, max=2)
    slot = F.pad(moved.cumsum(dim=2), (1, 0))  # (R, P, S) int64
    shape = (*slot.shape[:2], int(slot.max()) + 2)
    weights = low.new_zeros(shape)
    weights.scatter_add_(2, slot, share - upper).scatter_add_(2, slot + 1, upper)
    # an unused slot repeats a pixel of its bin: 0 times infinity must not come from elsewhere
    pixels = pixel[:, :, :1].expand(shape).clone()
    pixels.scatter_(2, slot, pixel)
    pixels.scatter_(2, slot + 1, torch.minimum(pixel + 1, (end - 1).int()))
    return _Axis(pixels, weights, weights.count_nonzero(dim=2))


def _outer(
    row_starts: Tensor,
    row_weights: Tensor,
    pixels: Tensor,
    pixel_weights: Tensor,
    without_zeros: bool,
) -> tuple[Tensor, Tensor]:
    """Return the columns and weights of every bin (r, p_y, p_x) in order, each (Q,).

    Args:
        row_starts, row_weights: (R, P_y, K_y).
        pixels, pixel_weights: (R, P_x, K_x).
        without_zeros: leave entries of weight 0 out.
    """
    row_starts, row_weights = row_starts[:, :, None, :, None], row_weights[:, :, None, :, None]
    pixels, pixel_weights = pixels[:, None, :, None, :], pixel_weights[:, None, :, None, :]
    if not without_zeros:
        return (row_starts + pixels).flatten(), (row_weights * pixel_weights).flatten()
    columns, weights = [], []
    # in pieces: what is left out must not take memory first
    size = max(_PIECE // (row_starts[0].numel() * pixels[0].numel()), 1)
    for start in range(0, len(pixels), size):
        part = slice(start, start + size)
        used = ((row_weights[part] != 0) & (pixel_weights[part] != 0)).flatten().nonzero()[:, 0]
        columns.append((row_starts[part] + pixels[part]).flatten().index_select(0, used))
        weights.append((row_weights[part] * pixel_weights[part]).flatten().index_select(0, used))
    return torch.cat(columns), torch.cat(weights)
