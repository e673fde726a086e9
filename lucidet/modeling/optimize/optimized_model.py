"""An optimized copy of a model: the same modules, except for those that have a faster form."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from lucidet.modeling.meta_arch.detector import Detector
from lucidet.modeling.optimize.cuda_graphs import Capture, CudaGraphCapture
from lucidet.modeling.optimize.fusing import fused
from lucidet.modeling.optimize.graphed_parts import GraphedParts
from lucidet.modeling.optimize.on_host import detections_on_host

__all__ = ["OptimizedModel"]

logger = logging.getLogger(__name__)


class OptimizedModel:
    """Calls a detector in a faster form: norms folded, channels last, additions and ReLUs fused.

    On a GPU backbone and head are CUDA graphs, one for each frequent size of the padded batch,
    weights are cast to autocast's type once, and detections come back in one copy: they are on the
    host. The model itself is not touched: its parameters, their names and its modules stay as they
    are, and what changes in it later (weights, thresholds, hooks, modules) counts from the next
    call. What the faster form can't do runs through the model itself: training, gradients, models
    that are no `Detector`.

    Args:
        model: in eval mode when called; a DistributedDataParallel wrapper is taken off.
        capture: makes what captures the graphs of one part; None: no graphs.
    """

    def __init__(
        self, model: Any, capture: Callable[[], Capture] | None = CudaGraphCapture
    ) -> None:
        self.model = model
        self.capture = capture
        self._graphs: GraphedParts | None = None
        self._dtype: torch.dtype | None = None  # that weights are cast to
        self._optimized: nn.Module | None = None
        self._watched: list[nn.Module] = []
        self._copied: list[tuple[nn.Module, nn.Module]] = []
        self._state: tuple[Any, ...] = ()
        self._said = ""

    def __call__(self, inputs: Any) -> Any:
        """Return what ``model(inputs)`` returns."""
        reason = self.why_not()
        if reason:
            if reason != self._said:
                logger.info(f"inference without optimisation: {reason}")
                self._said = reason
            return self.model(inputs)
        self._refresh()
        assert self._optimized is not None
        with self._graphs.in_use() if self._graphs else nullcontext():
            outputs = self._optimized(inputs)
        return outputs if self._unwrapped().device.type == "cpu" else detections_on_host(outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return OptimizedModel, (self.model, self.capture)  # a copy builds its own

    def why_not(self) -> str:
        """Return why the model runs in its own form; "" where the optimized copy does."""
        model = self._unwrapped()
        if not isinstance(model, Detector):
            return f"{type(model).__name__} is none of lucidet's detectors"
        if model.training:
            return "the model is in training mode"
        if torch.is_grad_enabled():
            return "gradients are asked for"
        if model.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return "autocast chooses the types"
        return ""

    def _unwrapped(self) -> Any:
        wrapper = nn.parallel.DistributedDataParallel
        return self.model.module if isinstance(self.model, wrapper) else self.model

    def _refresh(self) -> None:
        """Build the copy where the model's modules or weights changed; pass on its settings."""
        model = self._unwrapped()
        kind, before = model.device.type, self._dtype
        self._dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        modules = tuple(id(module) for module in model.modules())
        state = (modules, tuple(self._fingerprint()))
        if self._optimized is None or self._state != state or self._dtype != before:
            self._watched, self._copied = [], []
            self._optimized = self._counterpart(model)
            self._state = (modules, tuple(self._fingerprint()))
            self._graphs = None
            if kind == "cuda" and self.capture is not None:
                self._graphs = GraphedParts(self._optimized, training=False, capture=self.capture)
        for original, counterpart in self._copied:
            children = counterpart._modules
            counterpart.__dict__.update(original.__dict__)
            counterpart._modules = children

    def _fingerprint(self) -> Iterator[Any]:
        """Yield what the choice of modules rests on: tensors and their versions, hooks, modes."""
        for module in self._watched:
            for tensor in (*module.parameters(), *module.buffers()):
                yield id(tensor), tensor.data_ptr(), _version(tensor)
            for part in module.modules():
                yield _has_hooks(part)
                yield part.training

    def _counterpart(self, module: nn.Module) -> nn.Module:
        """Return the module's faster form, a copy around faster children, or the module."""
        replacement = None
        if not any(_has_hooks(part) for part in module.modules()):
            replacement = fused(module, self._dtype)
        if replacement is not None:
            self._watched.append(module)
            return replacement.eval()
        if _has_hooks(module):  # without them, it could be replaced
            self._watched.append(module)
        children = {
            name: None if child is None else self._counterpart(child)
            for name, child in module._modules.items()
        }
        if all(children[name] is child for name, child in module._modules.items()):
            return module
        around = copy.copy(module)
        around._modules = children
        self._copied.append((module, around))
        return around


def _has_hooks(module: nn.Module) -> bool:
    """Return whether somebody else's code runs with the module: hooks, or a forward of its own."""
    own_forward = "forward" in module.__dict__
    return bool(module._forward_hooks or module._forward_pre_hooks or own_forward)


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
