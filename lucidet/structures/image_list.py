"""Images of different sizes in one padded tensor."""

# N images, C channels

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor


class ImageList:
    """N images, padded at the right and bottom to one size.

    Attributes:
        tensor: (N, H, W) or (N, C, H, W), the padded batch.
        image_sizes: (height, width) of each image before padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        """Hold an already padded batch and the sizes of its images."""
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Return image ``idx`` without its padding, (H, W) or (C, H, W)."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        """Return the batch on another device or in another type, as `torch.Tensor.to`."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Where the batch lives."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
        *,
        dtype: torch.dtype | None = None,
        pin_memory: bool = False,
    ) -> ImageList:
        """Pad images to the largest height and the largest width among them.

        Args:
            tensors: at least one image, each (H_i, W_i) or (C, H_i, W_i), C the same for all.
            size_divisibility: height and width of the batch are multiples of it where > 1.
            pad_value: fills the padding.
            padding_constraints: ``"size_divisibility"`` overrides the argument above;
                ``"square_size"`` > 0 makes every batch that many pixels high and wide.
            dtype: of the batch; default: that of the first image.
            pin_memory: the batch, on the host, is in memory that a GPU copies from directly.

        Raises:
            ValueError: no image, images that differ in more than height and width, or an image
                larger than ``square_size``.

        >>> batch = ImageList.from_tensors([torch.zeros(3, 30, 50), torch.zeros(3, 40, 20)], 32)
        >>> tuple(batch.tensor.shape), batch.image_sizes
        ((2, 3, 64, 64), [(30, 50), (40, 20)])
        """
        if not isinstance(tensors, (list, tuple)) or not tensors:
            _refuse(tensors)
        channels = {im.shape[:-2] if isinstance(im, Tensor) else None for im in tensors}
        if len(channels) > 1 or None in channels or tensors[0].dim() < 2:
            _refuse(tensors)
        constraints = padding_constraints or {}
        image_sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        height = max(h for h, _ in image_sizes)
        width = max(w for _, w in image_sizes)
        square = constraints.get("square_size", 0)
        if square > 0:
            if max(height, width) > square:
                raise ValueError(
                    f"an image of {height} x {width} (height x width) does not fit "
                    f"square_size = {square}; resize it, or raise square_size"
                )
            height = width = square
        multiple = constraints.get("size_divisibility", size_divisibility)
        if multiple > 1:
            height = -(-height // multiple) * multiple
            width = -(-width // multiple) * multiple
        # written once into the batch; padding and stacking would copy every image twice
        shape = (len(tensors), *tensors[0].shape[:-2], height, width)
        tensor = tensors[0].new_full(shape, pad_value, dtype=dtype, pin_memory=pin_memory)
        places = [own[..., :h, :w] for own, (h, w) in zip(tensor, image_sizes, strict=True)]
        torch._foreach_copy_(places, list(tensors))  # on a GPU one launch
        return ImageList(tensor, image_sizes)


def _refuse(tensors: Any) -> NoReturn:
    """Say what `from_tensors` needs and which image is otherwise."""
    if not isinstance(tensors, (list, tuple)) or len(tensors) == 0:
        raise ValueError(
            "ImageList.from_tensors takes a list of at least one image tensor, got "
            f"{'an empty list' if isinstance(tensors, (list, tuple)) else type(tensors).__name__}"
        )
    for i, image in enumerate(tensors):
        if not isinstance(image, Tensor):
            raise ValueError(f"image {i} must be a tensor, got {type(image).__name__}")
        if image.dim() < 2 or image.shape[:-2] != tensors[0].shape[:-2]:
            raise ValueError(
                f"image {i} has shape {tuple(image.shape)}, the first {tuple(tensors[0].shape)}: "
                "all must be (C, H, W) with the same C"
            )
    raise AssertionError("these images are alike")
