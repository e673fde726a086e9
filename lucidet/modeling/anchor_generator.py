"""Anchors: boxes of fixed sizes and shapes, repeated at every cell of a feature map.

After Ren et al. 2015 (arXiv 1506.01497), section 3.1.1; one set of sizes a pyramid level after
Lin et al. 2017 (arXiv 1612.03144), section 4.1.
"""

# L levels, A anchors a cell, R_l = HWA anchors of level l, B numbers that describe a box

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import ShapeSpec
from lucidet.structures import Boxes, RotatedBoxes
from lucidet.utils.probe import probe
from lucidet.utils.registry import Registry

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BufferList",
    "DefaultAnchorGenerator",
    "RotatedAnchorGenerator",
    "build_anchor_generator",
]

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = """Anchor generators: list of feature maps -> list of boxes.

Each is called as ``cls(cfg, input_shape: list[ShapeSpec])``.
"""

#: sizes of feature maps whose anchors stay in a GPU's memory
_SIZES_KEPT = 8

PerLevel = Sequence[float] | Sequence[Sequence[float]]


class BufferList(nn.Module):
    """A list of tensors that follow the module to its device and stay out of its state dict.

    >>> len(BufferList([torch.zeros(3, 4), torch.zeros(1, 4)]))
    2
    """

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        super().__init__()
        for i, buffer in enumerate(buffers):
            # computed from the config: a checkpoint has nothing to say about them
            self.register_buffer(str(i), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Tensor:
        return self.get_buffer(str(range(len(self))[index]))


def _for_each_level(values: PerLevel, num_levels: int, name: str) -> list[list[float]]:
    """Return one list of numbers a level: a flat list or a single one serves all levels."""
    if len(values) == 0:
        raise ValueError(f"anchor {name} are empty: give at least one number")
    rows: list[Any] = list(values) if isinstance(values[0], Sequence) else [values]
    if len(rows) == 1:
        rows = rows * num_levels
    if len(rows) != num_levels:
        raise ValueError(
            f"anchor {name} {values} are for {len(rows)} levels, but there are {num_levels} "
            "feature maps; give one list a level, or a single list for all"
        )
    result: list[list[float]] = []
    for level, row in enumerate(rows):
        numbers = [float(number) for number in row]
        if not numbers:
            raise ValueError(f"anchor {name} of level {level} are empty: give at least one number")
        result.append(numbers)
    return result


def _cell_shapes(
    sizes: Sequence[float], aspect_ratios: Sequence[float]
) -> list[tuple[float, float]]:
    """Return (width, height) for every size (root of the area) and ratio (height / width)."""
    shapes = []
    for size, ratio in itertools.product(sizes, aspect_ratios):
        width = math.sqrt(size**2 / ratio)
        shapes.append((width, ratio * width))
    return shapes


class _GridAnchorGenerator(nn.Module):
    """The same cell of anchors at every place of each level's grid.

    Attributes:
        cell_anchors: per level (A, B), pixels, around the origin.
        strides: per level, pixels between cells.
        num_features: L.
        offset: where in its cell an anchor's centre lies, in strides.
    """

    #: B
    box_dim: int
    _boxes: type[Boxes]

    def __init__(
        self,
        strides: Sequence[int],
        offset: float,
        measure_strides: bool = False,
        **cell: PerLevel,
    ) -> None:
        """`cell` names what `generate_cell_anchors` takes, for each level or for all."""
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise ValueError(f"anchor offset must be in 0 <= offset < 1 strides, got {offset}")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        self.measure_strides = measure_strides
        rows = [_for_each_level(values, self.num_features, name) for name, values in cell.items()]
        for name, levels in zip(cell, rows, strict=True):
            if name != "angles" and any(min(level) <= 0 for level in levels):
                raise ValueError(f"anchor {name} must be positive, got {levels}")
        self.cell_anchors = BufferList(
            [self.generate_cell_anchors(*level) for level in zip(*rows, strict=True)]
        )
        self._grids: dict[str, tuple[list[Tensor], list[int]]] = {}

    @property
    def num_anchors(self) -> list[int]:
        """A of each level; equal on all levels in the usual models."""
        return [len(cell) for cell in self.cell_anchors]

    @property
    def num_cell_anchors(self) -> list[int]:
        """The same as `num_anchors`."""
        return self.num_anchors

    def generate_cell_anchors(self, *values: Sequence[float]) -> Tensor:
        """Return (A, B), pixels, around the origin."""
        raise NotImplementedError

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what moves anchors (A, B) to centres x and y (HW,): (HW, B)."""
        raise NotImplementedError

    def grid_anchors(self, grid_sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return per level the anchors (R_l, B) of a grid of (height, width) cells."""
        anchors = []
        for (height, width), stride, cell in zip(
            grid_sizes, self.strides, self.cell_anchors.buffers(), strict=True
        ):
            down, across = stride, stride
            if self.measure_strides:  # on an image of 800 pixels 13 cells lie 61 apart, not 64
                down = grid_sizes[0][0] * self.strides[0] // height
                across = grid_sizes[0][1] * self.strides[0] // width
            x = torch.arange(width, device=cell.device, dtype=torch.float32) + self.offset
            y = torch.arange(height, device=cell.device, dtype=torch.float32) + self.offset
            x, y = x * across, y * down
            moves = self.place(x.repeat(height), y.repeat_interleave(width))
            anchors.append((moves[:, None] + cell).flatten(0, 1))  # (HW, A, B) -> (HWA, B)
        return anchors

    def _kept_grids(self, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return `grid_anchors`, computed once for each of the last sizes: 9 launches a level.

        Computed again where they, or the cell anchors, were changed in place.
        """
        if torch.compiler.is_compiling():
            return self.grid_anchors(sizes)
        cells = [(c.data_ptr(), c.device, c.dtype, c._version) for c in self.cell_anchors.buffers()]
        made_of = (cells, self.strides, self.offset, torch.is_inference_mode_enabled())
        key = str((sizes, made_of))
        grids, versions = self._grids.get(key, ([], []))
        if not grids or versions != [0 if g.is_inference() else g._version for g in grids]:
            grids = self.grid_anchors(sizes)
            if len(self._grids) >= _SIZES_KEPT:
                self._grids.clear()
            self._grids[key] = grids, [0 if g.is_inference() else g._version for g in grids]
        return list(grids)

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """Return per level R_l anchors in pixels of the padded batch; some reach outside.

        Args:
            features: per level (N, C, H, W), of which only H and W are used.
        """
        sizes = [feature.shape[-2:] for feature in features]
        grids = (self._kept_grids if features[0].is_cuda else self.grid_anchors)(sizes)
        anchors = [self._boxes(grid) for grid in grids]
        cells = [*self.cell_anchors.buffers()]
        probe("anchors.grid", anchors=anchors, strides=self.strides, cell_anchors=cells)
        return anchors


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(_GridAnchorGenerator):
    """Axis-parallel anchors (XYXY) of every size and aspect ratio at every cell.

    The order is that of the heads' outputs: row by row, cell by cell, then size by size, and
    within a size ratio by ratio.
    """

    #: numbers that describe a box
    box_dim = 4
    _boxes = Boxes

    @configurable
    def __init__(
        self,
        *,
        sizes: PerLevel,
        aspect_ratios: PerLevel,
        strides: Sequence[int],
        offset: float = 0.5,
        round_corners: bool = False,
        measure_strides: bool = False,
    ) -> None:
        """
        Args:
            sizes: root of the area, pixels; a list a level, or one list for all levels.
            aspect_ratios: height / width; a list a level, or one list for all levels.
            strides: pixels between cells, a number a level.
            offset: of the centres from the cell's corner, in strides, 0 <= offset < 1.
            round_corners: the corners around the origin are whole pixels, as in torchvision.
            measure_strides: cells lie floor(image's side / cells along it) pixels apart, as in
                torchvision, with the image's side taken from the finest level.

        Raises:
            ValueError: lists for another number of levels, or numbers out of range.
        """
        self.round_corners = round_corners  # needed before the cells are made
        super().__init__(strides, offset, measure_strides, sizes=sizes, aspect_ratios=aspect_ratios)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of ``__init__``; `input_shape` gives the strides."""
        return {
            "sizes": cfg.MODEL.ANCHOR_GENERATOR.SIZES,
            "aspect_ratios": cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": cfg.MODEL.ANCHOR_GENERATOR.OFFSET,
            "round_corners": cfg.MODEL.ANCHOR_GENERATOR.ROUND,
            "measure_strides": cfg.MODEL.ANCHOR_GENERATOR.MEASURE_STRIDES,
        }

    def generate_cell_anchors(  # type: ignore[override]
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Return (A, 4) XYXY in pixels around the origin, rounded only with `round_corners`.

        >>> generator = DefaultAnchorGenerator(sizes=[16], aspect_ratios=[1.0], strides=[8])
        >>> generator.generate_cell_anchors([16], [0.25, 1.0]).tolist()
        [[-16.0, -4.0, 16.0, 4.0], [-8.0, -8.0, 8.0, 8.0]]
        """
        half = torch.tensor(_cell_shapes(sizes, aspect_ratios)) / 2
        if self.round_corners:
            half = half.round()
        return torch.cat([-half, half], dim=1)

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Return (HW, 4): both corners move alike."""
        return torch.stack([x, y, x, y], dim=1)


@ANCHOR_GENERATOR_REGISTRY.register()
class RotatedAnchorGenerator(_GridAnchorGenerator):
    """Anchors of every size, aspect ratio and angle at every cell (Ma et al. 2018, RRPN).

    A box is centre x and y, width, height, degrees counter-clockwise. The angle changes fastest.
    """

    #: numbers that describe a box
    box_dim = 5
    _boxes = RotatedBoxes

    @configurable
    def __init__(
        self,
        *,
        sizes: PerLevel,
        aspect_ratios: PerLevel,
        strides: Sequence[int],
        angles: PerLevel,
        offset: float = 0.5,
    ) -> None:
        """
        Args:
            sizes: root of the area, pixels; a list a level, or one list for all levels.
            aspect_ratios: height / width; a list a level, or one list for all levels.
            strides: pixels between cells, a number a level.
            angles: degrees counter-clockwise; a list a level, or one list for all levels.
            offset: of the centres from the cell's corner, in strides, 0 <= offset < 1.

        Raises:
            ValueError: lists for another number of levels, or numbers out of range.
        """
        super().__init__(strides, offset, sizes=sizes, aspect_ratios=aspect_ratios, angles=angles)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of ``__init__``; `input_shape` gives the strides."""
        shared = DefaultAnchorGenerator.from_config(cfg, input_shape)
        return {
            **{name: shared[name] for name in ("sizes", "aspect_ratios", "strides", "offset")},
            "angles": cfg.MODEL.ANCHOR_GENERATOR.ANGLES,
        }

    def generate_cell_anchors(  # type: ignore[override]
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
        angles: Sequence[float] = (-90, -60, -30, 0, 30, 60, 90),
    ) -> Tensor:
        """Return (A, 5): 0, 0, width, height, angle."""
        shapes = _cell_shapes(sizes, aspect_ratios)
        return torch.tensor([(0.0, 0.0, *shape, angle) for shape in shapes for angle in angles])

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Return (HW, 5): the centre moves, size and angle stay."""
        zero = torch.zeros_like(x)
        return torch.stack([x, y, zero, zero, zero], dim=1)


def build_anchor_generator(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build ``cfg.MODEL.ANCHOR_GENERATOR.NAME`` for features of `input_shape`, one a level."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
