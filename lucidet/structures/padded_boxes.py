"""The boxes of a whole batch in one tensor.

Images have different numbers of boxes. Padding them once to the largest number lets every later
step (assignment, sampling, matching, losses) run once for all images.
"""

# N images, M boxes of the image that has most

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lucidet.structures.boxes import Boxes

__all__ = ["PaddedBoxes", "clip_padded", "pad_rows", "take_rows", "tensor_on"]


def tensor_on(values: Sequence[object], device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device, without a wait: ``new_tensor`` would wait."""
    return torch.tensor(values).to(device, non_blocking=True)


def clip_padded(boxes: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return boxes (N, K, 4) with every corner moved into its image, 0 <= x <= width.

    Args:
        boxes: XYXY pixels, finite.
        image_sizes: (height, width) of each image.

    >>> clip_padded(torch.tensor([[[-5.0, 1, 30, 9]]]), [(8, 20)]).tolist()
    [[[0.0, 1.0, 20.0, 8.0]]]
    """
    limits = [[[width, height, width, height]] for height, width in image_sizes]
    return torch.minimum(boxes.clamp(min=0), tensor_on(limits, boxes.device).to(boxes.dtype))


def pad_rows(rows: Sequence[Tensor]) -> Tensor:
    """Return tensors (m_i, ...) as one (N, M, ...), zeros after each tensor's own rows.

    The number of device operators does not depend on N.

    >>> pad_rows([torch.tensor([1, 2]), torch.tensor([3])]).tolist()
    [[1, 2], [3, 0]]
    """
    counts = [len(tensor) for tensor in rows]
    longest, total = max(counts), sum(counts)
    if total == longest * len(rows):
        return torch.stack(list(rows))
    index = torch.full((len(rows), longest), total)  # on the host; `total` is the row of zeros
    start = 0
    for image, count in enumerate(counts):
        index[image, :count] = torch.arange(start, start + count)
        start += count
    flat = torch.cat([*rows, rows[0].new_zeros((1, *rows[0].shape[1:]))])
    return flat[index.to(flat.device, non_blocking=True)]


def take_rows(padded: Tensor, index: Tensor) -> Tensor:
    """Return (N, R, ...): of each image's rows (N, M, ...) those at `index` (N, R); 0 if M is 0.

    >>> take_rows(torch.tensor([[7, 8], [5, 6]]), torch.tensor([[1, 1, 0], [0, 0, 1]])).tolist()
    [[8, 8, 7], [5, 5, 6]]
    """
    num_images, num_rows = padded.shape[:2]
    if num_rows == 0:
        return padded.new_zeros((*index.shape, *padded.shape[2:]))
    first = torch.arange(0, num_images * num_rows, num_rows, device=index.device)[:, None]
    return padded.flatten(0, 1)[index + first]


@dataclass(frozen=True)
class PaddedBoxes:
    """Boxes of N images, padded to the largest number of boxes.

    Attributes:
        tensor: (N, M, 4) XYXY pixels; zeros in padded places.
        valid: (N, M) bool; False in padded places.
        counts: boxes of each image, where the host knows them.
    """

    tensor: Tensor
    valid: Tensor
    counts: tuple[int, ...] | None = None

    @classmethod
    def from_boxes(cls, boxes: Sequence[Boxes]) -> PaddedBoxes:
        """Return the boxes of each image (Boxes with m_i rows) padded.

        >>> padded = PaddedBoxes.from_boxes([Boxes([[0, 0, 2, 2]]), Boxes(torch.zeros(0, 4))])
        >>> padded.tensor.shape, padded.valid.tolist()
        (torch.Size([2, 1, 4]), [[True], [False]])
        """
        tensor = pad_rows([own.tensor for own in boxes])
        counts = tuple(len(own) for own in boxes)
        lengths = torch.tensor(counts).to(tensor.device, non_blocking=True)
        valid = torch.arange(tensor.shape[1], device=tensor.device) < lengths[:, None]
        return cls(tensor, valid, counts)

    def __len__(self) -> int:
        """N."""
        return len(self.tensor)

    def image(self, index: int) -> Boxes:
        """Return the boxes of one image, a view; without `counts` the CPU waits for the GPU."""
        count = int(self.valid[index].sum()) if self.counts is None else self.counts[index]
        return Boxes(self.tensor[index, :count])
