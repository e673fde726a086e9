"""Residual networks: He et al. 2015 (arXiv 1512.03385); dilation in the last stage after Dai et al.
2017 (arXiv 1703.06211), section 3.2."""

# N images, stages res2..res5 at strides 4, 8, 16, 32

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.config import CfgNode
from lucidet.layers import CNNBlockBase, FrozenBatchNorm2d, ShapeSpec, get_norm
from lucidet.layers.fast.frozen_norm import frozen_norms_folded
from lucidet.modeling.backbone.backbone import Backbone, channels_of
from lucidet.modeling.backbone.build import BACKBONE_REGISTRY
from lucidet.modeling.backbone.checkpointing import checkpointed
from lucidet.modeling.backbone.resnet_blocks import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    Norm,
)

__all__ = [
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
]

ResNetBlockBase = CNNBlockBase

#: blocks of res2..res5 by depth (He et al. 2015, table 1)
BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
#: ResNets less deep than this are made of BasicBlocks
_FIRST_BOTTLENECK_DEPTH = 50


class ResNet(Backbone):
    """A stem, then stages of blocks; each stage's output is a feature map.

    >>> stages = ResNet.make_default_stages(18, norm="BN")
    >>> net = ResNet(BasicStem(norm="BN"), stages, out_features=["res2", "res5"])
    >>> {name: shape.stride for name, shape in net.output_shape().items()}
    {'res2': 4, 'res5': 32}

    Attributes:
        stage_names: "res2", "res3", …
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
        size_divisibility: int = 0,
        checkpoint_stages: Sequence[str] = (),
    ) -> None:
        """
        Args:
            stem: first layers, with `stride` and `out_channels`.
            stages: blocks of each stage; stages after the last wanted one aren't kept.
            num_classes: if given, a classifier is put on top; its output is called "linear".
            out_features: names of the wanted outputs among "stem", "res2", … and "linear";
                default: the last.
            freeze_at: see :meth:`freeze`.
            size_divisibility: images are padded to multiples of this; 0: not padded.
            checkpoint_stages: names of stages ("res2", …) whose activations are computed anew in
                the backward pass instead of kept; see :func:`checkpointed`.

        Raises:
            ValueError: an unknown name, or a stage without blocks.
        """
        super().__init__()
        known = ["stem", *(f"res{i}" for i in range(2, 2 + len(stages)))]
        if num_classes is not None:
            known.append("linear")
        wanted = [known[-1]] if out_features is None else list(out_features)
        if not wanted or not set(wanted) <= set(known):
            raise ValueError(f"out_features {wanted} of the ResNet must be some of {known}")
        deepest = max(known.index(name) for name in wanted)

        self.num_classes = num_classes
        self.stem = stem
        shapes = {"stem": (stem.out_channels, stem.stride)}
        channels, stride = shapes["stem"]
        built = []
        for name, blocks in zip(known[1:], stages[:deepest], strict=False):
            if len(blocks) == 0:
                raise ValueError(f"stage {name} of the ResNet has no blocks")
            stage = nn.Sequential(*blocks)
            stride *= math.prod(block.stride for block in blocks)
            channels = blocks[-1].out_channels
            shapes[name] = (channels, stride)
            self.add_module(name, stage)
            built.append(name)
        self.stage_names = tuple(built)
        if not set(checkpoint_stages) <= set(known[1 : 1 + len(stages)]):
            raise ValueError(
                f"MODEL.BACKBONE.CHECKPOINT_STAGES {list(checkpoint_stages)} must be some of the "
                f"ResNet's stages {known[1 : 1 + len(stages)]}"
            )
        self.checkpoint_stages = frozenset(checkpoint_stages)
        if "linear" in wanted:
            assert num_classes is not None  # else the name would be unknown
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(channels, num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)  # Goyal et al. 2017, section 5.1
            shapes["linear"] = (num_classes, 0)

        self._size_divisibility = size_divisibility
        self._out_features = wanted
        self._out_feature_channels = {name: shape[0] for name, shape in shapes.items()}
        self._out_feature_strides = {name: shape[1] for name, shape in shapes.items()}
        self.freeze(freeze_at)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of this; 0: not padded."""
        return self._size_divisibility

    @property
    def stages(self) -> list[nn.Module]:
        """The stages that were built; looked up by name, since tools may replace modules."""
        return [self.get_submodule(name) for name in self.stage_names]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the wanted outputs of images (N, C, H, W): name -> feature map.

        "linear" is (N, num_classes).
        """
        if x.dim() != 4:
            raise ValueError(f"the ResNet takes images (N, C, H, W), got shape {tuple(x.shape)}")
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for name in self.stage_names:
            stage = getattr(self, name)
            if self.training and name in self.checkpoint_stages:
                x = checkpointed(stage, x)
            elif self.training and x.device.type in FrozenBatchNorm2d.fold_on:
                with frozen_norms_folded(stage):
                    x = stage(x)
            else:
                x = stage(x)
            outputs[name] = x
        if "linear" in self._out_features:
            outputs["linear"] = self.linear(torch.flatten(self.avgpool(x), 1))
        # in the order of the net, finest first
        return {name: out for name, out in outputs.items() if name in self._out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return name -> channels and stride; "linear" has channels only."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name],
                stride=self._out_feature_strides[name] or None,
            )
            for name in self._out_features
        }

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Keep the first parts as they are: parameters without gradients, norms as FrozenBN.

        Fine-tuning keeps the early layers, whose features are general, and with small batches
        statistics could not be learnt anyway.

        Args:
            freeze_at: 0 nothing, 1 the stem, 2 the stem and res2, and so on.

        Returns:
            The net itself.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            for block in stage.children():
                assert isinstance(block, CNNBlockBase)
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        first_stride: int | None = None,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[CNNBlockBase]:
        """Return the blocks of one stage, each of which feeds the next.

        Args:
            block_class: a subclass of `CNNBlockBase`.
            num_blocks: how many.
            first_stride: the first block's stride, of which the others have 1; or give
                ``stride_per_block``.
            in_channels: of the first block; the others take `out_channels`.
            out_channels: of every block.
            kwargs: given to every block; under ``NAME_per_block`` stands a list with block i's
                value of ``NAME`` at i.

        Raises:
            ValueError: such a list has another length, or ``NAME`` is there as well.

        >>> stage = ResNet.make_stage(
        ...     BasicBlock, 2, in_channels=8, out_channels=16, stride_per_block=[2, 1]
        ... )
        >>> [(block.in_channels, block.stride) for block in stage]
        [(8, 2), (16, 1)]
        """
        suffix = "_per_block"
        if first_stride is not None:
            kwargs = {"stride_per_block": [first_stride] + [1] * (num_blocks - 1), **kwargs}
        shared = {key: value for key, value in kwargs.items() if not key.endswith(suffix)}
        own = {
            key.removesuffix(suffix): value for key, value in kwargs.items() if key not in shared
        }
        for name, values in own.items():
            if name in shared:
                raise ValueError(f"make_stage got both {name} and {name}{suffix}; give one of them")
            if len(values) != num_blocks:
                raise ValueError(
                    f"{name}{suffix} has {len(values)} values for {num_blocks} blocks: {values}"
                )
        return [
            block_class(
                in_channels if i == 0 else out_channels,
                out_channels,
                **shared,
                **{name: values[i] for name, values in own.items()},
            )
            for i in range(num_blocks)
        ]

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """Return res2..res5 as in the paper's table 1.

        Args:
            depth: 18, 34, 50, 101 or 152.
            block_class: default: BasicBlock below 50, BottleneckBlock from there.
            kwargs: given to every block; not those about channels or stride.

        Raises:
            ValueError: another depth.
        """
        blocks = _blocks_per_stage(depth)
        deep = depth >= _FIRST_BOTTLENECK_DEPTH
        stages = []
        in_channels = 64
        for i, num_blocks in enumerate(blocks):
            options = dict(kwargs)
            width = 64 * 2**i
            if deep:
                options["bottleneck_channels"] = width
            out_channels = 4 * width if deep else width
            stages.append(
                ResNet.make_stage(
                    block_class or (BottleneckBlock if deep else BasicBlock),
                    num_blocks,
                    in_channels=in_channels,
                    out_channels=out_channels,
                    stride_per_block=_strides(num_blocks, 1 if i == 0 else 2),
                    **options,
                )
            )
            in_channels = out_channels
        return stages


def _blocks_per_stage(depth: int) -> tuple[int, ...]:
    if depth not in BLOCKS_PER_STAGE:
        raise ValueError(
            f"ResNet depth {depth} (MODEL.RESNETS.DEPTH) is unknown; it is one of "
            f"{[*BLOCKS_PER_STAGE]}"
        )
    return BLOCKS_PER_STAGE[depth]


def _strides(num_blocks: int, first: int) -> list[int]:
    return [first] + [1] * (num_blocks - 1)


def make_stage(*args: Any, **kwargs: Any) -> list[CNNBlockBase]:
    """The same as :meth:`ResNet.make_stage`."""
    return ResNet.make_stage(*args, **kwargs)


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet or ResNeXt from ``MODEL.RESNETS`` and ``MODEL.BACKBONE.FREEZE_AT``.

    Raises:
        ValueError: keys that don't go together.
    """
    resnets = cfg.MODEL.RESNETS
    depth, norm = resnets.DEPTH, _norm(resnets)
    blocks = _blocks_per_stage(depth)
    if resnets.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION must be 1 or 2, got {resnets.RES5_DILATION}")
    if depth < _FIRST_BOTTLENECK_DEPTH:
        _require_basic(resnets)

    names = ["stem", "res2", "res3", "res4", "res5"]
    wanted = [names.index(name) for name in resnets.OUT_FEATURES if name in names]
    stem = BasicStem(channels_of(input_shape), resnets.STEM_OUT_CHANNELS, norm)
    stages = []
    in_channels = resnets.STEM_OUT_CHANNELS
    # stages that nobody asked for aren't made: C4 takes no res5
    for i in range(max(wanted, default=len(blocks))):
        out_channels = resnets.RES2_OUT_CHANNELS * 2**i
        dilation = resnets.RES5_DILATION if names[i + 1] == "res5" else 1
        # a dilated res5 sees as far without striding
        first_stride = 1 if i == 0 or dilation == 2 else 2
        block_class, options = _block(cfg, i, dilation)
        stages.append(
            ResNet.make_stage(
                block_class,
                blocks[i],
                in_channels=in_channels,
                out_channels=out_channels,
                stride_per_block=_strides(blocks[i], first_stride),
                norm=norm,
                **options,
            )
        )
        in_channels = out_channels
    return ResNet(
        stem,
        stages,
        out_features=resnets.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        size_divisibility=cfg.MODEL.BACKBONE.SIZE_DIVISIBILITY,
        checkpoint_stages=cfg.MODEL.BACKBONE.CHECKPOINT_STAGES,
    )


def _norm(resnets: CfgNode) -> Norm:
    """Return the name of the norm, or what makes it with another epsilon than its own."""
    name, eps = resnets.NORM, resnets.NORM_EPS
    if eps == 1e-5 or not name:
        return name
    return lambda channels: get_norm(name, channels, eps=eps)


def _block(cfg: CfgNode, stage: int, dilation: int) -> tuple[type[CNNBlockBase], dict[str, Any]]:
    """Return the class and the options of stage res2 + `stage`'s blocks."""
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH < _FIRST_BOTTLENECK_DEPTH:
        return BasicBlock, {}
    options = {
        "bottleneck_channels": resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 2**stage,
        "num_groups": resnets.NUM_GROUPS,
        "stride_in_1x1": resnets.STRIDE_IN_1X1,
        "dilation": dilation,
    }
    if not resnets.DEFORM_ON_PER_STAGE[stage]:
        return BottleneckBlock, options
    options["deform_modulated"] = resnets.DEFORM_MODULATED
    options["deform_num_groups"] = resnets.DEFORM_NUM_GROUPS
    return DeformBottleneckBlock, options


def _require_basic(resnets: CfgNode) -> None:
    """Raise ValueError for keys that ResNet-18 and -34, which have no bottlenecks, can't follow."""
    depth = resnets.DEPTH
    if resnets.RES2_OUT_CHANNELS > 64:
        raise ValueError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS {resnets.RES2_OUT_CHANNELS} is the width of "
            f"ResNet-50; set it to 64 (or less, for a narrow net) with DEPTH {depth}"
        )
    if any(resnets.DEFORM_ON_PER_STAGE):
        raise ValueError(f"DEFORM_ON_PER_STAGE needs DEPTH 50, 101 or 152, got DEPTH {depth}")
    if resnets.RES5_DILATION != 1:
        raise ValueError(f"RES5_DILATION 2 needs DEPTH 50, 101 or 152, got DEPTH {depth}")
    if resnets.NUM_GROUPS != 1:
        raise ValueError(f"NUM_GROUPS above 1 needs DEPTH 50, 101 or 152, got DEPTH {depth}")
