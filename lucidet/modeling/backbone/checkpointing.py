"""Activation checkpointing: less memory at training, for a second forward pass.

Chen et al. 2016 (arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpointed"]


def checkpointed(stage: nn.Module, x: Tensor) -> Tensor:
    """Return ``stage(x)``, with the same gradients, keeping only `x` for the backward pass.

    There the stage runs once more. Running statistics are updated by the first run alone. The
    stage must not draw random numbers.
    """
    if torch.compiler.is_compiling():  # a compiled graph computes values anew, not updates
        return checkpoint(stage, x, use_reentrant=False, preserve_rng_state=False)
    return checkpoint(
        stage,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _statistics_kept(stage)),
    )


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Put the running statistics of norms in training back after the block."""
    norms = [m for m in stage.modules() if isinstance(m, _BatchNorm) and m.training]
    statistics = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    held = [buffer.clone() for buffer in statistics]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(statistics, held, strict=True):
                buffer.copy_(before)
