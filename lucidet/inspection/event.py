"""One event of a trace: a probe's name with copies of its values, and what can be asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.structures import Boxes, RotatedBoxes

__all__ = ["Event", "Thinned", "kind_of", "shape_of", "snapshot", "statistics", "whole"]

#: bytes of one tensor that are kept; of a larger one its first rows, and numbers on the whole
LARGEST_TENSOR = 64 * 2**20


@dataclass
class Thinned:
    """The first rows of a tensor too large to keep, and what the whole was like.

    Attributes:
        rows: the first rows along dimension 0 (of a batch: of the first image).
        shape: of the whole.
        stats: of the whole; see :func:`statistics`.
    """

    rows: Tensor
    shape: tuple[int, ...]
    stats: dict[str, float]


@dataclass
class Event:
    """One probe's call: its name, and copies of its values on the CPU.

    ``event["labels"]`` is a field; tensors instead of Boxes and arrays.
    """

    name: str
    values: dict[str, Any]

    def __getitem__(self, field: str) -> Any:
        if field not in self.values:
            raise KeyError(f"{self.name} has no field {field!r}; it has {', '.join(self.values)}")
        return self.values[field]

    def get(self, field: str, default: Any = None) -> Any:
        """Return a field, or `default` where the event has none of that name."""
        return self.values.get(field, default)

    @property
    def image(self) -> int | None:
        """Number of the image in the batch, where the event concerns one image."""
        return self.values.get("image") if isinstance(self.values.get("image"), int) else None


def statistics(tensor: Tensor) -> dict[str, float]:
    """Return mean, deviation, extremes of the finite entries, and counts of the others.

    >>> statistics(torch.tensor([1.0, 3.0, float("nan")]))
    {'min': 1.0, 'max': 3.0, 'mean': 2.0, 'std': 1.0, 'nan': 1, 'inf': 0}
    """
    values = tensor.detach()
    if values.numel() == 0:
        return {"nan": 0, "inf": 0}
    if not values.is_floating_point():
        values = values.double()
        nan = inf = 0
    else:
        values = values.float()
        finite = values.isfinite()
        nan = inf = 0
        if not bool(finite.all()):
            nan = int(values.isnan().sum())
            inf = int(values.isinf().sum())
            values = values[finite]
    if values.numel() == 0:
        return {"nan": nan, "inf": inf}
    low, high = values.aminmax()
    std, mean = torch.std_mean(values, correction=0)
    return {
        "min": float(low),
        "max": float(high),
        "mean": float(mean),
        "std": float(std),
        "nan": nan,
        "inf": inf,
    }


def snapshot(value: Any, largest: int = LARGEST_TENSOR) -> Any:
    """Return a copy of a probe's value that nothing can change afterwards, on the CPU.

    Tensors, arrays and boxes become tensors; containers keep their form; plain values stay; of
    anything else there is its text.

    Args:
        value: of a probe.
        largest: bytes of one tensor that are kept; of a larger one its first rows.
    """
    if isinstance(value, Boxes | RotatedBoxes):
        value = value.tensor
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, torch.nn.Parameter):
        value = value.data
    if isinstance(value, Tensor):
        return _kept(value.detach(), largest)
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): snapshot(item, largest) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(item, largest) for item in value]
    return repr(value)


def _kept(tensor: Tensor, largest: int) -> Tensor | Thinned:
    size = tensor.numel() * tensor.element_size()
    if size <= largest:
        return tensor.to("cpu", copy=True).contiguous()
    rows = max(1, largest // (size // len(tensor)))
    return Thinned(tensor[:rows].to("cpu", copy=True), tuple(tensor.shape), statistics(tensor))


def whole(value: Any) -> Tensor:
    """Return a kept tensor; of a thinned one the rows that there are."""
    return value.rows if isinstance(value, Thinned) else value


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a kept value; of a number (); of what is no tensor None."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, Thinned):
        return value.shape
    if isinstance(value, bool | int | float):
        return ()
    return None


def kind_of(value: Any) -> str:
    """Return "float", "int", "bool", "text" or "any"."""
    if isinstance(value, Thinned):
        value = value.rows
    if isinstance(value, Tensor):
        if value.dtype.is_floating_point:
            return "float"
        return "bool" if str(value.dtype) == "torch.bool" else "int"
    if isinstance(value, bool):
        return "bool"
    return {int: "int", float: "float", str: "text"}.get(type(value), "any")
