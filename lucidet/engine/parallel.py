"""Distribute a model over the processes of a run."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lucidet.utils import comm

__all__ = ["create_ddp_model"]


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> Any:
    """Return `model` in a `DistributedDataParallel`; itself where there is one process.

    Args:
        model: on its device already.
        fp16_compression: exchange gradients in float16.
        kwargs: for `DistributedDataParallel`; ``device_ids`` is this process's GPU by default.
    """
    if comm.get_world_size() == 1:
        return model
    if "device_ids" not in kwargs and next(model.parameters()).is_cuda:
        kwargs["device_ids"] = [torch.cuda.current_device()]
    with warnings.catch_warnings():
        # torch 2.15 renames broadcast_buffers; 2.6 has no other name for it
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        ddp = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks import default as comm_hooks

        ddp.register_comm_hook(state=None, hook=comm_hooks.fp16_compress_hook)
    return ddp


def has_unused_features(model: nn.Module) -> bool:
    """Whether the backbone computes feature maps that no part of `model` takes.

    Their layers get no gradient, for which `DistributedDataParallel` would wait in vain: it needs
    ``find_unused_parameters`` then. Models whose parts do not tell what they take count as False.
    """
    computed = set(getattr(getattr(model, "backbone", None), "_out_features", None) or ())
    taken: set[str] = set(getattr(model, "head_in_features", ()))
    for part in ("proposal_generator", "roi_heads"):
        taken |= set(getattr(getattr(model, part, None), "in_features", None) or ())
    return bool(computed) and bool(taken) and not computed <= taken
