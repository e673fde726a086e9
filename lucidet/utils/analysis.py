"""Counting a model's parameters and floating-point operations."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import torch
from torch import nn

from lucidet.utils.logger import create_table

__all__ = [
    "FlopCountAnalysis",
    "find_unused_parameters",
    "flop_count",
    "flop_count_operators",
    "parameter_count",
    "parameter_count_table",
]


def parameter_count(model: nn.Module) -> dict[str, int]:
    """Return module or parameter name -> number of elements in it; "" is the whole model.

    A parameter that is shared inside a module counts once there.

    >>> parameter_count(nn.Linear(2, 3))
    {'': 9, 'weight': 6, 'bias': 3}
    """
    counts: dict[str, int] = {}
    for name, module in model.named_modules():
        counts[name] = sum(p.numel() for p in module.parameters())
    for name, parameter in model.named_parameters():
        counts[name] = parameter.numel()
    return counts


def _short(count: float) -> str:
    """Return a count with a unit: 44.4M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(int(count))


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """Return a table of modules and parameters down to `max_depth`, with sizes.

    Modules without parameters are left out; single parameters show their shape.

    >>> print(parameter_count_table(nn.Sequential(nn.Linear(2, 3))))
    | name       | parameters or shape |
    |:-----------|:--------------------|
    | model      | 9                   |
    |   0        | 9                   |
    |     weight | (3, 2)              |
    |     bias   | (3,)                |
    """
    rows: list[list[str]] = []

    def add(name: str, module: nn.Module, depth: int) -> None:
        count = sum(p.numel() for p in module.parameters())
        if count == 0 or depth > max_depth:
            return
        rows.append(["  " * depth + name, _short(count)])
        if depth < max_depth:
            for own_name, parameter in module.named_parameters(recurse=False):
                rows.append(["  " * (depth + 1) + own_name, str(tuple(parameter.shape))])
        for child_name, child in module.named_children():
            add(child_name, child, depth + 1)

    add("model", model, 0)
    return create_table(["name", "parameters or shape"], rows)


def find_unused_parameters(model: nn.Module, inputs: Any) -> list[str]:
    """Return the names of the parameters that the losses do not depend on.

    Args:
        model: in training mode; returns a loss or a dict of losses. Its gradients are deleted.
        inputs: of one call, ``model(inputs)``.

    Raises:
        ValueError: the model is in eval mode, or no loss depends on a parameter.

    >>> class OneOfTwo(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.used, self.idle = nn.Linear(2, 1), nn.Linear(2, 1)
    ...     def forward(self, x):
    ...         return {"loss": self.used(x).sum()}
    >>> find_unused_parameters(OneOfTwo(), torch.ones(1, 2))
    ['idle.weight', 'idle.bias']
    """
    if not model.training:
        raise ValueError("find_unused_parameters needs a model in training mode: model.train()")
    losses = model(inputs)
    total = sum(losses.values()) if isinstance(losses, dict) else losses
    if not isinstance(total, torch.Tensor) or not total.requires_grad:
        raise ValueError("the model's losses depend on no parameter")
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(total, [p for _, p in named], allow_unused=True)
    model.zero_grad(set_to_none=True)
    return [name for (name, _), gradient in zip(named, found, strict=True) if gradient is None]


class FlopCountAnalysis:
    """Counts floating-point operations of one call, by module and by operator.

    A multiplication with its addition counts as 2, as in `torch.utils.flop_counter` (papers often
    count it as 1). Convolutions, matrix products and attention are counted; element-wise work is
    not.

    >>> analysis = FlopCountAnalysis(nn.Linear(4, 8), torch.zeros(2, 4))
    >>> analysis.total()
    128

    Args:
        model: run once in the mode it is in, without gradients.
        inputs: its argument, or a tuple of its arguments.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self._model = model
        self._inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self._counts: dict[str, dict[Any, int]] | None = None

    def _count(self) -> dict[str, dict[Any, int]]:
        if self._counts is None:
            from torch.utils.flop_counter import FlopCounterMode

            counter = FlopCounterMode(display=False)
            with torch.no_grad(), counter:
                self._model(*self._inputs)
            self._counts = counter.get_flop_counts()
        return self._counts

    def total(self) -> int:
        """Return the operations of the whole call."""
        return sum(self.by_operator().values())

    def by_operator(self) -> Counter[str]:
        """Return operator name (``convolution``, ``addmm``) -> operations."""
        totals: Counter[str] = Counter()
        for operator, count in self._count().get("Global", {}).items():
            totals[str(operator).split(".")[-1]] += count
        return totals

    def by_module(self) -> dict[str, int]:
        """Return module name (as in ``named_modules``) -> operations inside it."""
        root = type(self._model).__name__
        totals: dict[str, int] = defaultdict(int)
        for name, operators in self._count().items():
            if name != "Global":
                own = name.removeprefix(root).removeprefix(".")
                totals[own] += sum(operators.values())
        totals[""] = self.total()
        return dict(totals)


def flop_count_operators(model: nn.Module, inputs: Any) -> dict[str, float]:
    """Return operator -> giga floating-point operations of ``model(inputs)``."""
    counts = FlopCountAnalysis(model, (inputs,)).by_operator()
    return {name: count / 1e9 for name, count in counts.items()}


def flop_count(model: nn.Module, inputs: Any) -> int:
    """Return the floating-point operations of ``model(inputs)``; see `FlopCountAnalysis`."""
    return FlopCountAnalysis(model, (inputs,)).total()
