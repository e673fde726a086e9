"""A trace: what every probe of a run showed, copied at once, to look at, save and compare.

>>> from lucidet.utils.probe import probe
>>> with watch() as trace:
...     probe("roi.levels", levels=torch.tensor([0, 2]))
>>> trace["roi.levels"]["levels"]
tensor([0, 2])
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.structures import Boxes, RotatedBoxes
from lucidet.utils.probe import watching

__all__ = ["Event", "Reached", "Thinned", "Trace", "watch"]

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


class Reached(BaseException):
    """Ends a watched run at the stage asked for; not an error, so that nothing else catches it."""


@dataclass
class Trace:
    """Events in the order in which they happened, and what is known about the run.

    Attributes:
        events: one a probe call.
        context: plain data on the run: config, classes, limits; empty for ``watch()`` alone.
    """

    events: list[Event] = field(default_factory=list)
    context: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Event:
        """Return the last event called `name`; see :meth:`all` for every one."""
        found = self.all(name)
        if not found:
            seen = ", ".join(dict.fromkeys(event.name for event in self.events)) or "nothing"
            raise KeyError(f"no event {name!r} in this trace; it has {seen}")
        return found[-1]

    def __contains__(self, name: object) -> bool:
        return any(event.name == name for event in self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def all(self, pattern: str) -> list[Event]:
        """Return the events whose name matches `pattern`: ``rpn.assign``, ``rpn.*``."""
        return [e for e in self.events if fnmatch.fnmatchcase(e.name, pattern)]

    def add(self, name: str, values: dict[str, Any]) -> Event:
        """Append an event with copies of `values`."""
        event = Event(name, {key: snapshot(value) for key, value in values.items()})
        self.events.append(event)
        return event

    def save(self, path: Any) -> None:
        """Write ``PATH.safetensors`` and ``PATH.json``; see :mod:`lucidet.inspection.trace_io`."""
        from lucidet.inspection.trace_io import save_trace

        save_trace(self, path)

    @staticmethod
    def load(path: Any) -> Trace:
        """Return the trace that :meth:`save` wrote; nothing in the files is run."""
        from lucidet.inspection.trace_io import load_trace

        return load_trace(path)

    def _repr_html_(self) -> str:
        """Return the page of this trace, for notebooks."""
        from lucidet.inspection.report import embedded_page

        return embedded_page(self)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for event in self.events:
            counts[event.name] = counts.get(event.name, 0) + 1
        names = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in counts.items())
        return f"Trace({len(self.events)} events: {names})"


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


def snapshot(value: Any) -> Any:
    """Return a copy of a probe's value that nothing can change afterwards, on the CPU.

    Tensors, arrays and boxes become tensors; containers keep their form; plain values stay; of
    anything else there is its text.
    """
    if isinstance(value, Boxes | RotatedBoxes):
        value = value.tensor
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, torch.nn.Parameter):
        value = value.data
    if isinstance(value, Tensor):
        return _kept(value.detach())
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(item) for item in value]
    return repr(value)


def _kept(tensor: Tensor) -> Tensor | Thinned:
    size = tensor.numel() * tensor.element_size()
    if size <= LARGEST_TENSOR:
        return tensor.to("cpu", copy=True).contiguous()
    rows = max(1, LARGEST_TENSOR // (size // len(tensor)))
    return Thinned(tensor[:rows].to("cpu", copy=True), tuple(tensor.shape), statistics(tensor))


@contextlib.contextmanager
def watch(
    trace: Trace | None = None,
    *,
    until: str | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Iterator[Trace]:
    """Record every probe inside the ``with`` block.

    Args:
        trace: to append to; default: a new one.
        until: a name or pattern such as ``rpn.assign``: the block ends there, as if done.
        on_event: called with each event when it has been recorded.
    """
    trace = trace if trace is not None else Trace()
    reached = Reached()

    def watcher(name: str, values: dict[str, Any]) -> None:
        event = trace.add(name, values)
        if on_event is not None:
            on_event(event)
        if until is not None and fnmatch.fnmatchcase(name, until):
            raise reached

    with watching(watcher):
        try:
            yield trace
        except Reached as signal:
            if signal is not reached:
                raise
