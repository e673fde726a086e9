"""Which modules the optimized copy replaces, and by what: by one that gives the same numbers.

A class is replaced only if it is exactly one of ours or torch's: a subclass may compute otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.layers import Conv2d
from lucidet.modeling.backbone.resnet_blocks import BasicBlock, BasicStem, BottleneckBlock
from lucidet.modeling.optimize.convolution import FusedConv
from lucidet.modeling.optimize.folding import fold_norm, is_fixed

__all__ = ["fused"]

_RELUS: tuple[Any, ...] = (F.relu, F.relu_)


def fused(module: nn.Module, dtype: torch.dtype | None = None) -> nn.Module | None:
    """Return what replaces `module`, children included; None where it has to stay.

    Args:
        module: not changed.
        dtype: autocast's type, to which the weights of convolutions and linear layers are cast
            once; None: they keep theirs.
    """
    if dtype is not None and type(module) is nn.Linear:
        return CastLinear(module, dtype)
    make = _MAKERS.get(type(module))
    replacement = make(module) if make is not None else None
    if replacement is not None and dtype is not None:
        for part in replacement.modules():
            if isinstance(part, FusedConv):
                part.cast(dtype)
    return replacement


class CastLinear(nn.Module):
    """A linear layer under autocast whose weights are already of autocast's type."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self._weight = linear.weight.detach().to(dtype)
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C_in) to (..., C_out)."""
        return F.linear(x, self._weight, self._bias)


def _conv(conv: nn.Module | None, relu: bool = False) -> FusedConv | None:
    """Return a convolution with its norm folded in; None where that can't be done."""
    if type(conv) not in (Conv2d, nn.Conv2d) or conv.padding_mode != "zeros":  # type: ignore[union-attr]
        return None
    assert isinstance(conv, nn.Conv2d)
    norm, activation = getattr(conv, "norm", None), getattr(conv, "activation", None)
    has_relu = activation in _RELUS or type(activation) is nn.ReLU
    if not is_fixed(norm) or isinstance(conv.padding, str):
        return None
    if activation is not None and not has_relu:
        return None
    weight, bias = fold_norm(conv.weight, conv.bias, norm)
    return FusedConv(conv, weight, bias, relu or has_relu)


class _Stem(nn.Module):
    def __init__(self, conv1: FusedConv) -> None:
        super().__init__()
        self.conv1 = conv1

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x), kernel_size=3, stride=2, padding=1)


class _Block(nn.Module):
    """A residual block: a chain of convolutions, the last of which adds the shortcut.

    The sum is written over what the shortcut gives: over the input itself, where that is the
    shortcut and `owns_input` says that nobody else wants it.
    """

    owns_input = False

    def __init__(self, convs: list[FusedConv], shortcut: FusedConv | None) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        *first, last = self.convs
        y = x
        for conv in first:
            y = conv(y)
        if self.shortcut is not None:
            return last(y, self.shortcut(x))
        return last(y, x if self.owns_input else x.clone())


def _stem(stem: Any) -> nn.Module | None:
    conv = _conv(stem.conv1, relu=True)
    return None if conv is None else _Stem(conv)


def _block(block: Any) -> nn.Module | None:
    names = ["conv1", "conv2", "conv3"] if type(block) is BottleneckBlock else ["conv1", "conv2"]
    convs = [_conv(getattr(block, name), relu=True) for name in names]
    shortcut = _conv(block.shortcut)
    if None in convs or (shortcut is None and block.shortcut is not None):
        return None
    return _Block(convs, shortcut)  # type: ignore[arg-type]


def _stage(blocks: list[nn.Module]) -> nn.Module | None:
    """Return a stage of residual blocks, each of which may write over its predecessor's output."""
    replaced = [_block(block) for block in blocks]
    if None in replaced:
        return None
    for block in replaced[1:]:
        block.owns_input = True  # type: ignore[union-attr, assignment]
    return nn.Sequential(*replaced)  # type: ignore[arg-type]


def _sequential(sequence: nn.Module) -> nn.Module | None:
    """Join each convolution of an nn.Sequential with a ReLU right behind it."""
    children = list(sequence.children())
    if not children:
        return None
    if all(type(child) in (BasicBlock, BottleneckBlock) for child in children):
        return _stage(children)
    layers: list[nn.Module] = []
    skip = False
    for child, following in zip(children, [*children[1:], None], strict=True):
        if skip:
            skip = False
            continue
        # layers with norms of their own between convolution and ReLU stay as they are
        skip = type(following) is nn.ReLU and type(child) in (nn.Conv2d, Conv2d)
        replacement = _conv(child, relu=skip)
        skip = skip and replacement is not None
        layers.append(child if replacement is None else replacement)
    if not any(isinstance(layer, FusedConv) for layer in layers):
        return None
    return nn.Sequential(*layers)


_MAKERS: dict[type, Callable[[Any], nn.Module | None]] = {
    nn.Conv2d: _conv,
    Conv2d: _conv,
    nn.Sequential: _sequential,
    BasicStem: _stem,
    BasicBlock: _block,
    BottleneckBlock: _block,
}
