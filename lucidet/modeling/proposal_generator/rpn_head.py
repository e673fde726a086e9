"""The RPN's head: objectness logits and box deltas from features."""

# N images, L levels, A anchors a location, R_l = HWA anchors of level l, B = box_dim, C channels,
# P sampled anchors of a level

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import Conv2d, ShapeSpec, conv2d_together
from lucidet.modeling.anchor_generator import build_anchor_generator
from lucidet.utils.registry import Registry

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
RPN_HEAD_REGISTRY.__doc__ = """RPN heads: features -> objectness logits and box deltas.

Each is called as ``cls(cfg, input_shape: list[ShapeSpec])`` and has the forward of
:class:`StandardRPNHead`.
"""


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build ``cfg.MODEL.RPN.HEAD_NAME`` for features of `input_shape`, one entry a level."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then one 1x1 convolution each for logits and deltas; same on all levels.

    After Ren et al. 2015, section 3.1: objectness is one logit (sigmoid), not two.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_anchors: int,
        box_dim: int = 4,
        conv_dims: Sequence[int] = (-1,),
    ) -> None:
        """
        Args:
            in_channels: channels of every level.
            num_anchors: A, anchors a cell.
            box_dim: B, numbers that describe a box.
            conv_dims: output channels of each 3x3 convolution; -1: as many as come in.
        """
        super().__init__()
        convs, channels = [], in_channels
        for dim in conv_dims:
            out_channels = channels if dim == -1 else dim
            if out_channels <= 0:
                raise ValueError(
                    f"MODEL.RPN.CONV_DIMS = {list(conv_dims)}: channels must be -1 or positive"
                )
            convs.append(
                Conv2d(channels, out_channels, kernel_size=3, padding=1, activation=nn.ReLU())
            )
            channels = out_channels
        # a single convolution has no number in its state-dict name
        self.conv: nn.Module = convs[0] if len(convs) == 1 else nn.Sequential()
        if len(convs) != 1:
            for i, conv in enumerate(convs):
                self.conv.add_module(f"conv{i}", conv)
        self.objectness_logits = nn.Conv2d(channels, num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * box_dim, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of ``__init__``; levels must agree in channels and anchors."""
        channels = {shape.channels or 0 for shape in input_shape}
        if len(channels) != 1:
            raise ValueError(
                f"the levels of MODEL.RPN.IN_FEATURES {cfg.MODEL.RPN.IN_FEATURES} have different "
                f"channels {sorted(channels)}; the RPN's head is shared, so they must be equal"
            )
        # the same generator as the RPN's own; here only its counts are of interest
        anchor_generator: Any = build_anchor_generator(cfg, input_shape)
        num_anchors = set(anchor_generator.num_anchors)
        if len(num_anchors) != 1:
            raise ValueError(
                f"the levels have different numbers of anchors a cell {sorted(num_anchors)}; give "
                "MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS as many entries on every level"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return per level the logits (N, A, H, W) and the deltas (N, A*B, H, W)."""
        logits, deltas = [], []
        for level in features:
            both = conv2d_together(self.conv(level), self.objectness_logits, self.anchor_deltas)
            logits.append(both[0])
            deltas.append(both[1])
        return logits, deltas

    def trains_on_samples(self, features: list[Tensor], most: int) -> bool:
        """Return whether :meth:`of_samples` can train this head, and needs less time and memory.

        Args:
            features: per level (N, C, H, W).
            most: anchors of the batch that are sampled, at most.
        """
        conv: Any = self.conv
        return (
            features[0].device.type == "cpu"
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and type(self) is StandardRPNHead
            and type(conv) is Conv2d
            and type(conv.activation) is nn.ReLU
            and conv.norm is None
            and not any(m._forward_hooks or m._forward_pre_hooks for m in self.modules())
            and most * conv.weight[0, 0].numel() <= sum(level[:, 0].numel() for level in features)
        )

    def of_samples(
        self, features: list[Tensor], sampled: Tensor, logits: list[Tensor], deltas: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return `logits` and `deltas` with gradients for the sampled anchors.

        The losses of 256 anchors an image have gradients at as many locations. So ``forward`` may
        run without gradients, and the samples are computed again, each from the 3x3 features around
        it: neither the backward pass nor what it keeps is as large as the maps.

        Args:
            features: per level (N, C, H, W).
            sampled: (N, R) bool, level after level.
            logits: per level (N, R_l).
            deltas: per level (N, R_l, B).
        """
        conv: Any = self.conv
        around = torch.arange(9)
        num_anchors = self.objectness_logits.out_channels
        results = []
        for level, own, *maps in zip(
            features,
            sampled.split([x.shape[1] for x in logits], dim=1),
            logits,
            deltas,
            strict=True,
        ):
            height, width = level.shape[2:]
            image, row = own.nonzero(as_tuple=True)  # (P,)
            place, anchor = row // num_anchors, row % num_anchors
            y = (place // width)[:, None] + around // 3 - 1  # (P, 9)
            x = (place % width)[:, None] + around % 3 - 1
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            near = level[image[:, None], :, y.clamp(0, height - 1), x.clamp(0, width - 1)]
            near = near.where(inside[..., None], 0.0).flatten(1)  # (P, 9C)
            hidden = F.linear(near, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias).relu()
            for i, layer in enumerate((self.objectness_logits, self.anchor_deltas)):
                rows = F.linear(hidden, layer.weight.flatten(1), layer.bias)  # (P, AB)
                rows = rows.unflatten(1, (num_anchors, -1))[torch.arange(len(row)), anchor]
                maps[i] = maps[i].index_put((image, row), rows.view(-1, *maps[i].shape[2:]))
            results.append(maps)
        return [level[0] for level in results], [level[1] for level in results]
