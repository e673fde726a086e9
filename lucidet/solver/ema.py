"""Exponential moving average of the weights (Polyak and Juditsky 1992).

The average is often a better detector than the last weights, and a steadier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["ModelEMA"]


def _plain(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel and the like."""
    inner = getattr(model, "module", None)
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    return inner if isinstance(model, wrappers) and isinstance(inner, nn.Module) else model


def _saved_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that belong to the model's state: constants (anchors) do not."""
    saved = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name in saved}


class ModelEMA:
    """Keeps ``average = decay * average + (1 - decay) * weights`` over the steps of a run.

    Early in a run the average follows faster: at update t the decay is
    ``min(decay, (1 + t) / (10 + t))``, or the random start would weigh for thousands of steps.
    Buffers (running means) are copied, not averaged.

    Example::

        ema = ModelEMA(model)
        ...                      # after each optimiser step:
        ema.update(model)
        with ema.applied(model):
            evaluate(model)      # runs with the averages

    Args:
        model: floating-point parameters that require a gradient are averaged; wrapping by
            DistributedDataParallel makes no difference.
        decay: in [0, 1); 0.9998 averages over about 5000 steps.

    Raises:
        ValueError: `decay` outside that range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9998) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self._applied = False
        plain = _plain(model)
        self._averages = {
            name: parameter.detach().clone()
            for name, parameter in plain.named_parameters()
            if parameter.requires_grad and parameter.is_floating_point()
        }
        self._buffers = {
            name: buffer.detach().clone() for name, buffer in _saved_buffers(plain).items()
        }

    def decay_at(self, update: int) -> float:
        """Return the decay of update number `update`, counted from 1."""
        return min(self.decay, (1 + update) / (10 + update))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the current weights into the average; call after each optimiser step."""
        self._refuse_while_applied("update")
        self.updates += 1
        averages, weights = self._pairs(model)
        if averages:
            torch._foreach_lerp_(averages, weights, 1 - self.decay_at(self.updates))
        for name, buffer in _saved_buffers(_plain(model)).items():
            self._buffers[name].copy_(buffer)

    def _pairs(self, model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the averages and the model's own tensors, in the same order."""
        parameters = dict(_plain(model).named_parameters())
        missing = [name for name in self._averages if name not in parameters]
        if missing:
            raise ValueError(
                f"the model lacks {len(missing)} averaged parameters, first {missing[0]!r}; "
                "pass the model that the average was made from"
            )
        weights = [parameters[name].detach() for name in self._averages]
        return list(self._averages.values()), weights

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """Run the block with averages and weights exchanged; exchange them back at its end.

        Values move, tensors stay where they are: optimisers, DDP and compiled graphs keep working.
        """
        self._refuse_while_applied("applied")
        self._swap(model)
        self._applied = True
        try:
            yield model
        finally:
            self._swap(model)
            self._applied = False

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        averages, weights = self._pairs(model)
        buffers = _saved_buffers(_plain(model))
        averages += [self._buffers[name] for name in buffers]
        weights += list(buffers.values())
        for average, weight in zip(averages, weights, strict=True):
            held = weight.clone()  # one tensor at a time: no second copy of the model
            weight.copy_(average)
            average.copy_(held)

    def _refuse_while_applied(self, what: str) -> None:
        if self._applied:
            raise RuntimeError(
                f"{what}() inside `with ema.applied(model)`: the averages are in use"
            )

    def model_state_dict(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return a state dict of `model` that holds the averages, to save as its weights."""
        self._refuse_while_applied("model_state_dict")
        replaced = {**self._averages, **self._buffers}
        return {
            name: replaced.get(name, value).detach().clone()
            for name, value in _plain(model).state_dict().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs."""
        self._refuse_while_applied("state_dict")
        return {
            "updates": self.updates,
            "averages": dict(self._averages),
            "buffers": dict(self._buffers),
        }

    def check_state_dict(self, state: dict[str, Any]) -> None:
        """Compare a `state_dict` with this object's tensors; nothing is changed.

        Raises:
            ValueError: it was made from another model.
        """
        for kind, own in (("averages", self._averages), ("buffers", self._buffers)):
            given = state[kind]
            differing = sorted(set(own) ^ set(given))
            if differing:
                raise ValueError(
                    f"the saved {kind} are of another model: {len(differing)} names differ, "
                    f"first {differing[0]!r}"
                )
            for name, tensor in own.items():
                if tensor.shape != given[name].shape:
                    raise ValueError(
                        f"saved {kind} {name!r}: expected shape {tuple(tensor.shape)}, "
                        f"got {tuple(given[name].shape)}"
                    )

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`; the decay stays this object's own.

        Raises:
            ValueError: see `check_state_dict`.
        """
        self._refuse_while_applied("load_state_dict")
        self.check_state_dict(state)
        for kind, own in (("averages", self._averages), ("buffers", self._buffers)):
            for name, tensor in own.items():
                tensor.copy_(state[kind][name])
        self.updates = int(state["updates"])
