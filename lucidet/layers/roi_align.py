"""ROIAlign: features of fixed size for boxes of any size (He et al. 2017, section 3)."""

# N images, C channels, R boxes

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import roi_align as torchvision_roi_align

from lucidet.layers.fast.roi_align import fast_roi_align, prefers_embedding_bag

IMPLEMENTATIONS = ("auto", "torchvision", "embedding_bag")


def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    impl: str = "auto",
) -> Tensor:
    """Average bilinear samples of ``input`` over the bins of each box.

    Args:
        input: (N, C, H, W) features.
        boxes: (R, 5) rows (image, x1, y1, x2, y2), or a list over images of (R_i, 4) XYXY, in
            pixels of the image.
        output_size: bins (height, width).
        spatial_scale: cells of ``input`` per pixel, 1 / stride.
        sampling_ratio: samples per bin and axis; <= 0: as many as the bin has cells, rounded up.
        aligned: True shifts by half a cell, so that a cell's value lies at its centre.
        impl: "torchvision" is its compiled operator, "embedding_bag" the same numbers from
            `fast_roi_align`, "auto" the quicker one: the latter on a CPU in eager float32.

    Returns:
        (R, C, height, width) in the type of ``input``. Half-precision input is sampled in
        float32: a box side of 1333 pixels in float16 is off by up to a pixel.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}")
    if not isinstance(boxes, Tensor):
        boxes = _with_image_index(boxes)
    if boxes.dim() != 2 or boxes.shape[1] != 5:
        raise ValueError(
            "roi_align takes boxes as (R, 5) rows (image, x1, y1, x2, y2), "
            f"got shape {tuple(boxes.shape)}"
        )
    height, width = _pair(output_size)
    dtype = input.dtype
    if dtype in (torch.float16, torch.bfloat16):
        input = input.float()
    boxes = boxes.to(input.dtype)
    if impl == "auto":
        impl = "embedding_bag" if prefers_embedding_bag(input) else "torchvision"
    operator = fast_roi_align if impl == "embedding_bag" else torchvision_roi_align
    pooled = operator(input, boxes, (height, width), spatial_scale, sampling_ratio, aligned)
    return pooled.to(dtype)


def _with_image_index(boxes: list[Tensor]) -> Tensor:
    """Return (R, 5) rows from a list over images of (R_i, 4) boxes."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(boxes)])


class ROIAlign(nn.Module):
    """`roi_align` with its settings; see there for their meaning."""

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
        *,
        impl: str = "auto",
    ) -> None:
        """Keep the settings. ``aligned=False`` is for weights trained before 2019's correction."""
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.impl = impl

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool (R, 5) ``rois`` from (N, C, H, W) ``input`` to (R, C, height, width)."""
        return roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
            impl=self.impl,
        )

    def extra_repr(self) -> str:
        """Return what is printed between the brackets."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
