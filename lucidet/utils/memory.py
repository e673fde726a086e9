"""Carrying on when the GPU's memory is full."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["retry_if_cuda_oom"]

P = ParamSpec("P")
R = TypeVar("R")


def _to_cpu(value: Any) -> Any:
    """Move a tensor, or anything with ``device`` and ``to`` (Boxes, Instances), off the GPU."""
    if isinstance(value, torch.Tensor) or (hasattr(value, "device") and hasattr(value, "to")):
        return value.to("cpu") if torch.device(value.device).type == "cuda" else value
    return value


def retry_if_cuda_oom(func: Callable[P, R]) -> Callable[P, R]:
    """Return `func` that, out of CUDA memory, is tried again with the cache emptied, then on CPU.

    The last try moves arguments that are tensors (or have ``.to``; those inside lists stay) to
    the CPU, so the result may be there as well. `func` must not change its arguments, since it
    can be called up to three times.

    >>> retry_if_cuda_oom(torch.add)(torch.ones(1), 2)
    tensor([3.])
    """

    @functools.wraps(func)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return func(*args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            pass  # retried outside: the exception would keep the failed call's tensors alive
        torch.cuda.empty_cache()
        try:
            return func(*args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            name = getattr(func, "__name__", repr(func))
            logging.getLogger(__name__).info("CUDA memory is full: %s runs on the CPU", name)
        on_cpu: Any = func
        return on_cpu(*map(_to_cpu, args), **{k: _to_cpu(v) for k, v in kwargs.items()})

    return wrapped
