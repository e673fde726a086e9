"""The two GPU kernels of :mod:`lucidet.layers.fast.segment_nms`, in Triton."""

# n boxes, 64 boxes a block, W words of 64 bits a row

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["launch"]


@triton.jit
def _overlap_bits(boxes, ends, bits, n, threshold, WORDS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Set bit c of bits[row, word] where the row drops box c of the word-th block from its own.

    It does where that box comes later in the same segment and overlaps it by more than threshold.
    Words that lie behind the segments of all rows of a block are left as they are: nothing reads
    them.
    """
    first_row = tl.program_id(0) * 64
    first_column = first_row + tl.program_id(1) * 64
    rows = first_row + tl.arange(0, 64)
    columns = first_column + tl.arange(0, 64)
    end = tl.load(ends + rows, mask=rows < n, other=0)
    if first_column < tl.max(end, axis=0):
        row, column = boxes + rows * 4, boxes + columns * 4
        x1 = tl.load(row, mask=rows < n, other=0.0)
        y1 = tl.load(row + 1, mask=rows < n, other=0.0)
        x2 = tl.load(row + 2, mask=rows < n, other=0.0)
        y2 = tl.load(row + 3, mask=rows < n, other=0.0)
        u1 = tl.load(column, mask=columns < n, other=0.0)
        v1 = tl.load(column + 1, mask=columns < n, other=0.0)
        u2 = tl.load(column + 2, mask=columns < n, other=0.0)
        v2 = tl.load(column + 3, mask=columns < n, other=0.0)
        width = tl.minimum(x2[:, None], u2[None, :]) - tl.maximum(x1[:, None], u1[None, :])
        height = tl.minimum(y2[:, None], v2[None, :]) - tl.maximum(y1[:, None], v1[None, :])
        inter = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
        union = ((x2 - x1) * (y2 - y1))[:, None] + ((u2 - u1) * (v2 - v1))[None, :] - inter
        # rounded as IEEE division is, for the same decision at the threshold as torchvision's
        hit = tl.div_rn(inter, union) > threshold
        hit = hit & (columns[None, :] > rows[:, None]) & (columns[None, :] < end[:, None])
        one = tl.full((64, 64), 1, tl.int64) << tl.arange(0, 64).to(tl.int64)[None, :]
        word = tl.sum(tl.where(hit, one, tl.zeros((64, 64), tl.int64)), axis=1)
        tl.store(bits + rows * WORDS + tl.program_id(1), word, mask=rows < n)


@triton.jit
def _keep_greedily(bits, ends, keep, n, WORDS: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Walk the segments that begin in this program's block, best box first.

    Each box that none of the kept ones has dropped is kept, and drops what it overlaps.
    """
    block = tl.program_id(0)
    word = tl.arange(0, WIDTH)  # counted from this block
    for start in range(block * 64, block * 64 + 64):
        end = tl.load(ends + start, mask=start < n, other=0)
        before = tl.load(ends + start - 1, mask=(start > 0) & (start < n), other=0)
        last = (end - 1) // 64 - block
        dropped = tl.zeros((WIDTH,), tl.int64)
        stop = tl.where(end != before, end, start)  # elsewhere no segment begins here
        for row in range(start, stop):
            own = row // 64 - block
            overlapped = tl.load(
                bits + row * WORDS + (word - own), mask=(word >= own) & (word <= last), other=0
            )
            mine = tl.sum(tl.where(word == own, dropped, tl.zeros((WIDTH,), tl.int64)), axis=0)
            alive = ((mine >> (row % 64)) & 1) == 0
            tl.store(keep + row, alive.to(tl.int8))
            dropped = dropped | tl.where(alive, overlapped, tl.zeros((WIDTH,), tl.int64))


def launch(boxes: Tensor, ends: Tensor, longest: int, threshold: float) -> Tensor:
    """Return the mask (n,) bool of kept boxes; see :func:`segment_nms` for the arguments."""
    n = len(boxes)
    words = (longest + 62) // 64 + 1  # blocks that a segment may touch, wherever it begins
    if n * words >= 2**31:
        raise ValueError(f"segment NMS counts in int32: {n} boxes x {words} words are too many")
    blocks = (n + 63) // 64
    bits = torch.empty((n, words), dtype=torch.int64, device=boxes.device)
    keep = torch.zeros(n, dtype=torch.int8, device=boxes.device)
    # a product and a sum in one rounding would give other overlaps than torchvision's
    _overlap_bits[(blocks, words)](
        boxes, ends, bits, n, threshold, WORDS=words, enable_fp_fusion=False
    )
    width = triton.next_power_of_2(words)
    _keep_greedily[(blocks,)](bits, ends, keep, n, WORDS=words, WIDTH=width)
    return keep.bool()
