"""What makes training steps faster on some machines: compiled parts, CUDA graphs, memory format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lucidet.modeling.optimize.graphed_parts import BUCKET, CONVOLUTIONAL_PARTS, GraphedParts

__all__ = ["CompiledParts", "GraphedParts", "faster_parts", "wants_channels_last"]

logger = logging.getLogger(__name__)


def wants_channels_last(setting: str, device: torch.device, mixed_precision: bool) -> bool:
    """Return whether a model is to be trained with its feature maps channels-last.

    Tensor cores work in that layout; on a CPU R50-FPN's backbone took 1.2 times as long to train.

    Args:
        setting: SOLVER.CHANNELS_LAST: "auto", "on" or "off".
        device: of the model.
        mixed_precision: the forward pass runs in 16 bits.

    >>> wants_channels_last("auto", torch.device("cuda"), True)
    True

    Raises:
        ValueError: another `setting`.
    """
    if setting not in ("auto", "on", "off"):
        raise ValueError(f"SOLVER.CHANNELS_LAST must be 'auto', 'on' or 'off', got {setting!r}")
    if setting == "auto":
        return device.type == "cuda" and mixed_precision
    return setting == "on"


def faster_parts(
    model: nn.Module, device: torch.device, compile: bool, cuda_graphs: str
) -> CompiledParts | GraphedParts | None:
    """Return what runs in place of a detector's convolutional parts at training; None: nothing.

    Args:
        model: a detector, or a DistributedDataParallel around one.
        device: of the model.
        compile: SOLVER.COMPILE.
        cuda_graphs: SOLVER.CUDA_GRAPHS: "auto", "on" or "off". Where it is not possible, the log
            says why.

    Raises:
        ValueError: another `cuda_graphs`.

    >>> faster_parts(nn.Linear(1, 1), torch.device("cpu"), compile=False, cuda_graphs="auto")
    """
    if cuda_graphs not in ("auto", "on", "off"):
        raise ValueError(f"SOLVER.CUDA_GRAPHS must be 'auto', 'on' or 'off', got {cuda_graphs!r}")
    if compile:
        return CompiledParts(model)
    if cuda_graphs == "off":
        return None
    distributed = isinstance(model, DistributedDataParallel)
    reason = ""
    if device.type != "cuda":
        reason = f"the model is on {device.type!r}"
    elif distributed and cuda_graphs == "auto":
        # a graph hands its gradients over at its end, so that exchanging them overlaps nothing
        reason = "there are several processes; SOLVER.CUDA_GRAPHS 'on' uses them there too"
    if not reason:
        inner = model.module if isinstance(model, DistributedDataParallel) else model
        return GraphedParts(inner, training=True, bucket=BUCKET)
    if cuda_graphs == "on" or device.type == "cuda":
        logger.info("training without CUDA graphs: %s", reason)
    return None


class CompiledParts:
    """The convolutional parts of a detector, compiled for training steps only.

    The model stays as it is: outside of `in_use` its modules run their own forward, and its state
    dict and its copies know nothing of this. A part that can't be compiled runs as it is, and the
    log says why.
    """

    def __init__(self, model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
        """
        Args:
            model: a detector, or a DistributedDataParallel around one.
            backend: for `torch.compile`.
        """
        inner = model.module if isinstance(model, DistributedDataParallel) else model
        modules = dict(inner.named_modules())
        self.parts = [_Part(n, modules[n], backend) for n in CONVOLUTIONAL_PARTS if n in modules]
        if not self.parts:
            logger.warning(
                "SOLVER.COMPILE: %s has none of %s, nothing is compiled",
                type(inner).__name__,
                ", ".join(CONVOLUTIONAL_PARTS),
            )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the compiled parts run in the block."""
        for part in self.parts:
            part.module.forward = part  # found before the class's; hooks run around it as ever
        try:
            yield
        finally:
            for part in self.parts:
                del part.module.forward


class _Part:
    """Called like the forward of `module`."""

    def __init__(self, name: str, module: nn.Module, backend: str | Callable[..., Any]) -> None:
        self.name = name
        self.module = module
        self.plain = module.forward
        self.compiled: Callable[..., Any] | None = None
        try:
            # dynamic: images differ in size, and each new size would be compiled anew
            self.compiled = torch.compile(self.plain, backend=backend, dynamic=True)
        except RuntimeError as error:  # Python or the system is one that torch doesn't compile for
            self._say_why_not(error)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.compiled is not None:
            try:
                return self.compiled(*args, **kwargs)
            except Exception as error:
                # an error of the model's own comes back below, from its plain form
                if not _is_of_compiler(error):
                    raise
                self.compiled = None
                self._say_why_not(error)
        return self.plain(*args, **kwargs)

    def _say_why_not(self, error: Exception) -> None:
        reason = " ".join(str(error).split())[:300]
        logger.warning(
            "SOLVER.COMPILE: %s is not compiled, but runs as it is: %s: %s",
            self.name,
            type(error).__name__,
            reason,
        )


def _is_of_compiler(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
