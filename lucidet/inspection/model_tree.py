"""What each module of a model puts out, holds and costs in one pass."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor, nn

__all__ = ["ModuleWatcher"]

#: deeper modules are not listed, but count for those above them
DEPTH = 5


class ModuleWatcher:
    """Inside a ``with`` block, hooks look at every module's calls; outputs are left alone.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> with ModuleWatcher(model) as watcher:
    ...     _ = model(torch.zeros(3, 4))
    >>> [(row["name"], row["shape"], row["flops"]) for row in watcher.rows()]
    [('', '(3, 2)', 48), ('0', '(3, 2)', 48)]
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules = dict(model.named_modules())
        self._shapes: dict[str, str] = {}
        self._flops: dict[str, int] = {}
        self._times: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._starts: dict[str, float] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> ModuleWatcher:
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_pre_hook(self._before(name)))
            self._hooks.append(module.register_forward_hook(self._after(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _before(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._starts[name] = time.perf_counter()

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            spent = time.perf_counter() - self._starts[name]
            self._times[name] = self._times.get(name, 0.0) + spent
            self._calls[name] = self._calls.get(name, 0) + 1
            self._shapes.setdefault(name, describe_shape(output))
            self._flops[name] = self._flops.get(name, 0) + _own_flops(module, output)

        return hook

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a module down to a depth of 5, in the order of the model."""
        rows = []
        for name, module in self._modules.items():
            depth = name.count(".") + 1 if name else 0
            if depth > DEPTH:
                continue
            parameters = list(module.parameters())
            numbers = sum(p.numel() for p in parameters)
            trained = sum(p.numel() for p in parameters if p.requires_grad)
            prefix = f"{name}." if name else ""
            flops = sum(f for n, f in self._flops.items() if n == name or n.startswith(prefix))
            rows.append(
                {
                    "name": name,
                    "type": type(module).__name__,
                    "depth": depth,
                    "shape": self._shapes.get(name, ""),
                    "parameters": numbers,
                    "trained": trained,
                    "flops": flops,
                    "seconds": round(self._times.get(name, 0.0), 6),
                    "calls": self._calls.get(name, 0),
                }
            )
        return rows


def describe_shape(output: Any) -> str:
    """Return the shapes in a module's output in a few words.

    >>> import torch
    >>> describe_shape({"p3": torch.zeros(1, 2)})
    'p3 (1, 2)'
    """
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, dict):
        return ", ".join(f"{k} {describe_shape(v)}" for k, v in list(output.items())[:6])
    if isinstance(output, list | tuple):
        parts = [describe_shape(item) for item in output[:6]]
        return "[" + ", ".join(part for part in parts if part) + "]"
    return type(output).__name__ if output is not None else ""


def _own_flops(module: nn.Module, output: Any) -> int:
    """Return the operations of a convolution or linear layer: 2 for a multiply-add."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or not isinstance(output, Tensor) or weight.dim() < 2:
        return 0
    if isinstance(module, nn.ConvTranspose2d):
        return 2 * output.numel() * weight.shape[0] * weight[0, 0].numel() // module.stride[0] ** 2
    if weight.dim() in (2, 4):
        return 2 * output.numel() * weight[0].numel()
    return 0
