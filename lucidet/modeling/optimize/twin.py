"""The twin of a model: the same modules, except for those that have a quicker form."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lucidet.modeling.meta_arch.detector import Detector
from lucidet.modeling.optimize.fusing import fused

__all__ = ["InferenceTwin"]

logger = logging.getLogger(__name__)


class InferenceTwin:
    """Calls a detector in a quicker form: norms folded, channels last, additions and ReLUs fused.

    The model itself is not touched: its parameters, their names and its modules stay as they are,
    and what changes in it later (weights, thresholds, hooks, modules) counts from the next call.
    Whatever the quicker form can't stand for runs through the model itself: training, gradients,
    models that are no `Detector`.

    Args:
        model: in eval mode when called; a DistributedDataParallel wrapper is taken off.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._twin: nn.Module | None = None
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
        assert self._twin is not None
        return self._twin(inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return InferenceTwin, (self.model,)  # a copy builds its own twin

    def why_not(self) -> str:
        """Return why the model runs in its own form; "" where the twin does."""
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
        """Build the twin where the model's modules or weights changed; hand on its settings."""
        model = self._unwrapped()
        modules = tuple(id(module) for module in model.modules())
        if self._twin is None or self._state != (modules, tuple(self._fingerprint())):
            self._watched, self._copied = [], []
            self._twin = self._counterpart(model)
            self._state = (modules, tuple(self._fingerprint()))
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
        """Return the module's quicker form, a copy around quicker children, or the module."""
        replacement = None
        if not any(_has_hooks(part) for part in module.modules()):
            replacement = fused(module)
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
