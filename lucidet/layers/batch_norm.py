"""Normalisation layers, and `get_norm`, which makes one from its name in a config."""

# N images, C channels, H, W cells

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

BatchNorm2d = nn.BatchNorm2d
BATCH_NORM_TYPES = (nn.BatchNorm2d, nn.SyncBatchNorm)


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm2d whose statistics and affine parameters are fixed buffers.

    y = (x - running_mean) / sqrt(running_var + eps) * weight + bias, with all four of shape (C,).
    A new layer is the identity. Nothing in it is trained or updated.

    Version history of the state dict, as in detectron2: before 2 the statistics may be missing
    (files in which they were folded into weight and bias); before 3 ``running_var`` was used
    without ``eps``; 3 is the formula above.
    """

    #: where a `Conv2d` with this norm is one convolution at training: `layers.fast.frozen_norm`
    fold_on: tuple[str, ...] = ("cuda",)
    _version = 3
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        """Make the identity over ``num_features`` channels."""
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W); the output has the type of ``x``."""
        if x.requires_grad:
            # F.batch_norm would keep x for its backward; this keeps (C,) numbers
            scale, shift = (v.to(x.dtype).view(-1, 1, 1) for v in self.scale_and_shift())
            return (x * scale).add_(shift)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return (C,) a and (C,) b such that the layer is a * x + b; what folding needs."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        version = local_metadata.get("version")
        mean, var = prefix + "running_mean", prefix + "running_var"
        # only a BatchNorm counts batches; its own version number says nothing about this layer
        from_batch_norm = state_dict.pop(prefix + "num_batches_tracked", None) is not None
        if version is None or version < 2:
            state_dict.setdefault(mean, torch.zeros_like(self.running_mean))
            state_dict.setdefault(var, torch.ones_like(self.running_var))
        if version is not None and version < 3 and not from_batch_norm and var in state_dict:
            state_dict[var] = state_dict[var] - self.eps
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)

    def extra_repr(self) -> str:
        """Return what is printed between the brackets."""
        return f"num_features={self.num_features}, eps={self.eps}"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Freeze every BatchNorm2d and SyncBatchNorm in ``module``.

        Returns:
            the frozen layer where ``module`` itself is a batch norm, else ``module`` with its
            children replaced in place.
        """
        return _exchange_norms(module, BATCH_NORM_TYPES, cls)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Make every frozen layer in ``module`` a trainable BatchNorm2d: the way back."""
        return _exchange_norms(module, FrozenBatchNorm2d, BatchNorm2d)


def _exchange_norms(
    module: nn.Module, old: Any, new: Callable[[int, float], nn.Module]
) -> nn.Module:
    """Return `module` with each norm of type `old` in it made one of `new`, in place."""
    if isinstance(module, old):
        made = new(module.num_features, module.eps)
        _copy_norm(module, made)
        return made
    for name, child in module.named_children():
        made = _exchange_norms(child, old, new)
        if made is not child:
            setattr(module, name, made)
    return module


@torch.no_grad()
def _copy_norm(source: nn.Module, target: nn.Module) -> None:
    """Copy what ``source`` has of weight, bias and statistics; the target moves to its device."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(source, name)
        if value is not None:
            target.to(value.device)
            getattr(target, name).copy_(value)
    target.train(source.training)


class NaiveSyncBatchNorm(BatchNorm2d):
    """BatchNorm2d over the batches of all processes, from plain differentiable reductions.

    Works on every device and backend (`torch.nn.SyncBatchNorm` needs CUDA) and with gradients of
    gradients, at the cost of speed. In one process, and in evaluation, it is BatchNorm2d.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        """Build the layer.

        Args:
            *args, **kwargs: as `torch.nn.BatchNorm2d`.
            stats_mode: "" weighs every process alike (right where all batches are equally large);
                "N" weighs each by its number of images, which may be 0.
        """
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise ValueError(f'stats_mode must be "" or "N", got {stats_mode!r}')
        self._stats_mode = stats_mode

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) with the statistics of all processes."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        if self._stats_mode == "" and x.shape[0] == 0:
            raise ValueError(
                'NaiveSyncBatchNorm got an empty batch; stats_mode="N" (NORM "naiveSyncBN_N") '
                "allows it"
            )
        wide = x.float()
        # the empty sum instead of the mean of nothing, which is NaN
        cells = max(wide.shape[0] * wide.shape[2] * wide.shape[3], 1)
        mean = wide.sum(dim=(0, 2, 3)) / cells
        mean_of_squares = (wide * wide).sum(dim=(0, 2, 3)) / cells
        share = float(wide.shape[0]) if self._stats_mode == "N" else 1.0
        summed = all_reduce(
            torch.cat([mean * share, mean_of_squares * share, mean.new_full((1,), share)])
        )
        total = summed[-1].detach()
        mean, mean_of_squares = (summed[:-1] / total.clamp(min=1)).chunk(2)
        var = mean_of_squares - mean * mean
        self._track(mean.detach(), var.detach(), total)
        scale = (var + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias
        return (wide * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, total: Tensor) -> None:
        """Update the running statistics; with no image in any process they stay as they are."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # torch's convention: the plain average over all batches
            momentum = 1.0 / float(self.num_batches_tracked)
        step = total.clamp(max=1) * momentum
        self.running_mean.add_(step * (mean - self.running_mean))
        self.running_var.add_(step * (var - self.running_var))


class CycleBatchNormList(nn.ModuleList):
    """One set of statistics for each of several inputs that share one head, used in turn.

    A head that runs over L feature levels calls the same layer L times; each level then has its
    own running statistics, while weight and bias are shared.
    """

    def __init__(self, length: int, bn_class: type[nn.Module] = nn.BatchNorm2d, **kwargs: Any):
        """Build the layers.

        Args:
            length: number of inputs that take turns.
            bn_class: kind of batch norm.
            **kwargs: for ``bn_class``; ``num_features`` among them.
        """
        self._affine = kwargs.pop("affine", True)
        super().__init__([bn_class(**kwargs, affine=False) for _ in range(length)])
        if self._affine:
            channels = kwargs["num_features"]
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        self._pos = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) with the statistics whose turn it is."""
        x = self[self._pos](x)
        self._pos = (self._pos + 1) % len(self)
        if not self._affine:
            return x
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)

    def extra_repr(self) -> str:
        """Return what is printed between the brackets."""
        return f"affine={self._affine}"


class LayerNorm(nn.Module):
    """Layer norm over the channels of each cell of an (N, C, H, W) tensor."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        """Build the layer over ``normalized_shape`` channels."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) over C."""
        last = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return last.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "BN": BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels, **kwargs: nn.GroupNorm(32, channels, **kwargs),
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": lambda channels, **kwargs: NaiveSyncBatchNorm(
        channels, stats_mode="N", **kwargs
    ),
    "LN": LayerNorm,
}


def get_norm(
    norm: str | Callable[[int], nn.Module | None] | None,
    out_channels: int,
    *,
    eps: float | None = None,
) -> nn.Module | None:
    """Make a normalisation layer.

    Args:
        norm: a name of `NORMS`, "" or None for no layer, or a callable that takes the number of
            channels.
        out_channels: number of channels; a multiple of 32 for "GN".
        eps: added to the variance; None leaves the layer's own default. For names only.

    Raises:
        ValueError: an unknown name.

    >>> get_norm("FrozenBN", 64)
    FrozenBatchNorm2d(num_features=64, eps=1e-05)
    """
    if norm is None or norm == "":
        return None
    if not isinstance(norm, str):
        return norm(out_channels)
    if norm not in NORMS:
        raise ValueError(f"unknown normalisation {norm!r}; known: {', '.join(NORMS)} and ''")
    return NORMS[norm](out_channels, **({} if eps is None else {"eps": eps}))
