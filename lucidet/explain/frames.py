"""Between the pixels of the resized image and those of the file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lucidet.structures import Boxes, clip_padded, pairwise_iou

__all__ = ["Frame", "overlaps", "short"]


@dataclass(frozen=True)
class Frame:
    """The sizes of one image.

    Attributes:
        resized: (height, width) that the model saw, without padding.
        file: (height, width) that detections are scaled to.
    """

    resized: tuple[int, int]
    file: tuple[int, int]

    @property
    def factors(self) -> Tensor:
        """(4,) by which a box is multiplied from the resized image to the file's."""
        width, height = self.file[1] / self.resized[1], self.file[0] / self.resized[0]
        return torch.tensor([width, height, width, height])

    def to_file(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) in pixels of the file, clipped."""
        return clip_padded((boxes * self.factors)[None], [self.file])[0]

    def to_resized(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) of the file in pixels of the resized image."""
        return boxes.float() / self.factors


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoUs (n, m) of boxes (n, 4) and (m, 4); 0 where a box is not finite."""
    return pairwise_iou(Boxes(first), Boxes(second)).nan_to_num(0.0, 0.0, 0.0)


def short(values: Tensor) -> list:
    """Return floats that read back as the same float32, in the fewest digits.

    >>> short(torch.tensor([0.1, 2.5]))
    [0.1, 2.5]
    """
    array = values.detach().float().cpu().numpy()
    texts = array.astype("U32") if array.size else array
    return texts.astype(float).tolist()
