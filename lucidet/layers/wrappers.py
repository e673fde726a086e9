"""torch's layers and functions with the small additions that detectors rely on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.layers.batch_norm import FrozenBatchNorm2d
from lucidet.layers.fast.frozen_norm import folded

ConvTranspose2d = nn.ConvTranspose2d
BatchNorm2d = nn.BatchNorm2d
Linear = nn.Linear
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """Convolution, then an optional normalisation, then an optional activation.

    State dict: ``weight``, ``bias`` and ``norm.*``.

    >>> layer = Conv2d(3, 8, 3, padding=1, bias=False, norm=nn.GroupNorm(4, 8), activation=F.relu)
    >>> tuple(layer(torch.zeros(0, 3, 16, 16)).shape)
    (0, 8, 16, 16)
    """

    def __init__(
        self,
        *args: Any,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the layer.

        Args:
            *args, **kwargs: as `torch.nn.Conv2d`. ``bias`` stays True unless said otherwise, also
                with a normalisation.
            norm: module applied to the convolution's output.
            activation: callable applied last.
        """
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W'); N may be 0.

        Raises:
            ValueError: training with SyncBatchNorm on an empty batch, which has no statistics and
                would leave the other processes waiting.
        """
        if (
            isinstance(self.norm, nn.SyncBatchNorm)
            and self.training
            and not torch.compiler.is_compiling()
            and x.numel() == 0
        ):
            raise ValueError(
                f"SyncBatchNorm can't train on an empty batch (input {tuple(x.shape)}); "
                'use NORM "GN" or "FrozenBN" where a batch may hold no boxes'
            )
        norm, joined = self.norm, None
        if type(norm) is FrozenBatchNorm2d and self.training and x.device.type in norm.fold_on:
            joined = folded(self)
        if joined is not None:
            x = self._conv_forward(x, *joined)
        else:
            x = super().forward(x)
            if norm is not None:
                x = norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x


def conv2d_together(x: Tensor, *convs: nn.Module) -> list[Tensor]:
    """Return ``[conv(x) for conv in convs]``, at training from one convolution with all channels.

    For predictors that read the same map: each pass over it, and each gradient of its size, would
    cost as much as the few channels that they compute. Layers that are more than a convolution
    (another class, hooks) or not of one form run one by one. At inference they do too: there each
    has its weights packed for it.

    >>> one, two = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 12, 1)
    >>> [tuple(y.shape) for y in conv2d_together(torch.zeros(2, 4, 5, 6), one, two)]
    [(2, 3, 5, 6), (2, 12, 5, 6)]
    """
    first = convs[0]
    if not (torch.is_grad_enabled() and all(_is_plain(conv) for conv in convs)):
        return [conv(x) for conv in convs]
    assert isinstance(first, nn.Conv2d)
    plain = [conv for conv in convs if isinstance(conv, nn.Conv2d) and _form(conv) == _form(first)]
    if len(plain) != len(convs):
        return [conv(x) for conv in convs]
    weight = torch.cat([conv.weight for conv in plain])
    biases = [conv.bias for conv in plain if conv.bias is not None]
    bias = torch.cat(biases) if biases else None
    y = F.conv2d(x, weight, bias, first.stride, first.padding, first.dilation)
    return list(y.split([conv.out_channels for conv in plain], dim=1))


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a convolution that nobody watches, and nothing else."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not any(hooks)
        and not module._backward_pre_hooks
    )


def _form(conv: nn.Conv2d) -> tuple[Any, ...]:
    """Return what convolutions must have in common to be computed together."""
    return conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.bias is None


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return `torch.cat`, and the tensor itself (no copy) where there is only one."""
    if not isinstance(tensors, (list, tuple)):
        raise ValueError(f"cat takes a list or tuple of tensors, got {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a loss with ``reduction="mean"`` be 0, with a gradient of zeros, where nothing is lost.

    torch returns NaN for the mean of nothing. The result still depends on the input, so that every
    process of a distributed run has a backward pass.
    """

    @functools.wraps(loss_func)
    def wrapped(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any) -> Tensor:
        if target.numel() == 0 and reduction == "mean":
            return input.sum() * 0.0
        return loss_func(input, target, reduction=reduction, **kwargs)

    return wrapped


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Return one index tensor for each dimension of ``x``; a single number counts as one entry."""
    return torch.atleast_1d(x).nonzero(as_tuple=True)


def shapes_to_tensor(x: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Return a shape (integers, or scalar tensors while tracing) as an int64 tensor."""
    if any(isinstance(size, Tensor) for size in x):
        # stacking keeps the sizes in the traced graph, where torch.as_tensor freezes them
        return torch.stack([torch.as_tensor(size, device=device) for size in x])
    return torch.as_tensor(list(x), dtype=torch.int64, device=device)


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """Return ``src`` on the device of ``dst``."""
    return src.to(dst.device)


def check_if_dynamo_compiling() -> bool:
    """Return whether torch.compile is tracing the caller."""
    return torch.compiler.is_dynamo_compiling()


def disable_torch_compiler(func: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function eagerly even inside a compiled one (decorator)."""
    return torch.compiler.disable(func)
