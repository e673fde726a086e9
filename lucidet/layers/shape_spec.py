"""What one module tells the next about a tensor it will produce."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """The known parts of a feature map's shape; None where unknown.

    Attributes:
        channels: number of channels.
        height, width: in cells.
        stride: pixels of the input image per cell.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
