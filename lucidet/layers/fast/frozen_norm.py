"""Frozen norms at training: the scale goes into the convolution's weight, the shift is its bias.

`conv(x, w) * scale + shift` equals `conv(x, w * scale) + shift`. The product is computed once a
step, from weights instead of feature maps, and the weight's gradient flows through it. The plain
form is the norm after the convolution, in `Conv2d.forward`; it runs on devices that are not in
`FrozenBatchNorm2d.fold_on`.
"""

# C channels of a convolution's output

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lucidet.layers.batch_norm import FrozenBatchNorm2d

__all__ = ["constants_in_use", "folded", "frozen_norms_folded"]

#: products of the step that is running, of the block `frozen_norms_folded`
_products: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor]] = WeakKeyDictionary()
#: what is computed once: (what it was made of, scale, shift, folded weight or None)
_constants: WeakKeyDictionary[nn.Module, tuple[Any, Tensor, Tensor, Tensor | None]] = (
    WeakKeyDictionary()
)


def folded(conv: Any) -> tuple[Tensor, Tensor] | None:
    """Return weight and bias of the convolution that does what `conv` and its norm do.

    Args:
        conv: a `Conv2d`.

    Returns:
        None where they have to stay two steps: at test, with another norm, or where the norm is
        watched by hooks.
    """
    if conv in _products:
        return _products[conv]
    if not _is_foldable(conv):
        return None
    scale, shift, weight = _constants_of(conv)
    weight = conv.weight * scale if weight is None else weight
    return weight, shift if conv.bias is None else conv.bias * scale.flatten(1)[:, 0] + shift


@contextmanager
def frozen_norms_folded(module: nn.Module) -> Iterator[None]:
    """Compute the products of all convolutions in `module` together, for one forward pass.

    Without it each has its own launch, and another for its gradient.
    """
    convs: list[Any] = [
        part
        for part in module.modules()
        if _is_foldable(part) and part.weight.requires_grad and part.bias is None
    ]
    if convs and not torch.compiler.is_compiling():
        constants = [_constants_of(conv) for conv in convs]
        dtype = _autocast_dtype(convs[0].weight)
        scales = [scale for scale, _, _ in constants]
        weights = _Scaled.apply(dtype, scales, *(conv.weight for conv in convs))
        for conv, weight, (_, shift, _) in zip(convs, weights, constants, strict=True):
            _products[conv] = weight, shift
    try:
        yield
    finally:
        for conv in convs:
            _products.pop(conv, None)


def _is_foldable(conv: Any) -> bool:
    norm = getattr(conv, "norm", None)
    return (
        conv.training
        and type(norm) is FrozenBatchNorm2d
        and conv.weight.device.type in norm.fold_on
        and isinstance(conv, nn.Conv2d)
        and type(conv)._conv_forward is nn.Conv2d._conv_forward
        and not (norm._forward_hooks or norm._forward_pre_hooks or "forward" in norm.__dict__)
    )


class _Scaled(torch.autograd.Function):
    """Weights times scales, for any number of layers in a few launches, as are the gradients."""

    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, scales: list[Tensor], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.scales, ctx.dtypes = scales, [weight.dtype for weight in weights]
        ctx.set_materialize_grads(False)
        return tuple(_in_type(torch._foreach_mul(weights, scales), [dtype] * len(weights)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        used = [index for index, grad in enumerate(grads) if grad is not None]
        wide = _in_type([grads[i] for i in used], [ctx.dtypes[i] for i in used])
        found: list[Tensor | None] = [None] * len(grads)
        if used:
            scaled = torch._foreach_mul(wide, [ctx.scales[i] for i in used])
            for index, grad in zip(used, scaled, strict=True):
                found[index] = grad
        return None, None, *found


def _in_type(tensors: Any, dtypes: list[torch.dtype]) -> list[Tensor]:
    """Return the tensors in other types, in one launch."""
    if all(tensor.dtype == dtype for tensor, dtype in zip(tensors, dtypes, strict=True)):
        return list(tensors)
    results = [torch.empty_like(t, dtype=dtype) for t, dtype in zip(tensors, dtypes, strict=True)]
    torch._foreach_copy_(results, tensors)
    return results


def _constants_of(conv: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return scale, shift and, of a frozen convolution, the product; computed again on changes."""
    norm = conv.norm
    if torch.compiler.is_compiling():
        scale, shift = norm.scale_and_shift()
        return scale.view(-1, 1, 1, 1).to(conv.weight.dtype), shift.to(conv.weight.dtype), None
    frozen = not conv.weight.requires_grad
    dtype = _autocast_dtype(conv.weight)
    sources = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    sources += [conv.weight] if frozen else []
    layout = (dtype, conv.weight.dtype, conv.weight.device, conv.weight.stride())
    made_of = (layout, [(id(t), t.data_ptr(), _version(t)) for t in sources])
    kept = _constants.get(conv)
    if kept is None or kept[0] != made_of:
        kept = _constants[conv] = (made_of, *_computed(conv, dtype, frozen))
    return kept[1:]


@torch.no_grad()
def _computed(conv: Any, dtype: torch.dtype, frozen: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    scale, shift = conv.norm.scale_and_shift()
    scale = scale.view(-1, 1, 1, 1).to(conv.weight.dtype)
    if frozen:
        return scale, shift.to(dtype), (conv.weight * scale).to(dtype)
    if conv.weight.device.type == "cuda":
        # of the weight's own size: only then a foreach operator is one launch
        scale = torch.empty_like(conv.weight).copy_(scale)
    return scale, shift.to(dtype), None


def _autocast_dtype(weight: Tensor) -> torch.dtype:
    """Return the type that a convolution computes in."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def constants_in_use(module: nn.Module) -> list[Any]:
    """Return what was computed once for the convolutions of `module`, to be kept in memory."""
    return [_constants[part] for part in module.modules() if part in _constants]
