"""What every backbone is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

from torch import Tensor, nn

from lucidet.layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """Turns images into named feature maps.

    A subclass sets `_out_features` (names), `_out_feature_channels` and `_out_feature_strides`
    (name -> number), or overrides `output_shape`.
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return name -> (N, C, H / stride, W / stride), finest first, for images (N, 3, H, W)."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of this; 0: any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """More wishes for the padding: `square_size` pads every image to a square of that side.

        Absent or 0: no such wish. `size_divisibility` may stand here too.
        """
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return name -> channels and stride of each feature map, in the order of ``forward``."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }


def channels_of(shape: ShapeSpec) -> int:
    """Return the channels of `shape`.

    Raises:
        ValueError: it has none.
    """
    if shape.channels is None:
        raise ValueError(f"a backbone needs to know the channels that it gets, but has {shape}")
    return shape.channels
