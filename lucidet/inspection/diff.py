"""Two traces side by side: where they part first, by how much, and where in the tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lucidet.inspection.event import Event, Thinned
from lucidet.inspection.trace import Trace

__all__ = ["Difference", "TraceDiff", "describe", "diff_traces"]

#: values that differ from run to run and mean nothing
TIMES = {"seconds"}


@dataclass(frozen=True)
class Difference:
    """One field that differs.

    Attributes:
        stage: name of the event.
        field: with the level or key: ``logits[2]``.
        message: how.
        largest: largest absolute difference; NaN where values can't be subtracted.
    """

    stage: str
    field: str
    message: str
    largest: float


@dataclass
class TraceDiff:
    """All differences, in the order in which the first trace saw them.

    Attributes:
        differences: of the values that flow; the first one is where the traces part.
        config: (key, value in the first, in the second).
        weights: names of modules or parameters whose norms differ.
        compared: number of fields that were compared.
    """

    differences: list[Difference] = field(default_factory=list)
    config: list[tuple[str, str, str]] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def first(self) -> Difference | None:
        """Return the first difference, or None."""
        return self.differences[0] if self.differences else None


def _key(event: Event, seen: Counter[tuple[str, Any]]) -> tuple[str, Any, int]:
    name = (event.name, event.image if event.name != "loss.term" else event["name"])
    seen[name] += 1
    return (*name, seen[name])


def diff_traces(first: Trace, second: Trace, tolerance: float = 0.0) -> TraceDiff:
    """Compare two traces, event by event in the order of the first.

    Events belong together by name, image and the how-manieth they are. Config, weights and times
    are reported apart: they are causes, not stages.

    Args:
        tolerance: absolute differences up to it count as none.
    """
    result = TraceDiff()
    seen_first: Counter[tuple[str, Any]] = Counter()
    seen_second: Counter[tuple[str, Any]] = Counter()
    others = {_key(event, seen_second): event for event in second}
    for event in first:
        key = _key(event, seen_first)
        other = others.pop(key, None)
        if event.name == "config.values":
            result.config = _config(event, other) if other else []
            continue
        if event.name == "model.tree":
            continue
        if event.name == "loss.gradients" and other:
            result.weights = _weights(event, other)
        if other is None:
            result.differences.append(
                Difference(event.name, "", "only in the first trace", float("nan"))
            )
            continue
        for path, a, b in _pairs(event.values, other.values, ""):
            result.compared += 1
            found = _compare(a, b, tolerance)
            if found:
                result.differences.append(Difference(event.name, path, *found))
    for key in others:
        result.differences.append(Difference(key[0], "", "only in the second trace", float("nan")))
    return result


def _config(first: Event, second: Event) -> list[tuple[str, str, str]]:
    values = {row[0]: row[1] for row in second["rows"]}
    return [
        (row[0], row[1], values.get(row[0], "absent"))
        for row in first["rows"]
        if row[1] != values.get(row[0])
    ]


def _weights(first: Event, second: Event) -> list[str]:
    norms = {row[0]: row[2] for row in second["rows"]}
    return [row[0] for row in first["rows"] if norms.get(row[0]) != row[2]]


def _pairs(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, value, value) of the leaves of two structures."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key not in TIMES:
                name = f"{path}[{key}]" if path else str(key)
                yield from _pairs(a.get(key, _Absent), b.get(key, _Absent), name)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _pairs(x, y, f"{path}[{i}]")
    else:
        yield path, a, b


class _Absent:
    """Stands for a field that one side lacks."""


def _compare(a: Any, b: Any, tolerance: float) -> tuple[str, float] | None:
    if isinstance(a, Thinned) and isinstance(b, Thinned):
        if a.shape != b.shape:
            return f"shape {a.shape} against {b.shape}", float("nan")
        a, b = a.rows, b.rows
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _compare_tensors(a, b, tolerance)
    if isinstance(a, float | int) and isinstance(b, float | int):
        if a == b or abs(a - b) <= tolerance or (a != a and b != b):
            return None
        return f"{a!r} against {b!r}", abs(float(a) - float(b))
    if type(a) is not type(b) or a != b:
        return f"{_short(a)} against {_short(b)}", float("nan")
    return None


def _short(value: Any) -> str:
    if value is _Absent:
        return "absent"
    text = repr(value) if not isinstance(value, Tensor) else f"a tensor {tuple(value.shape)}"
    return text if len(text) < 80 else text[:77] + "..."


def _compare_tensors(a: Tensor, b: Tensor, tolerance: float) -> tuple[str, float] | None:
    if a.shape != b.shape:
        return f"shape {tuple(a.shape)} against {tuple(b.shape)}", float("nan")
    if a.dtype != b.dtype:
        return f"type {a.dtype} against {b.dtype}", float("nan")
    if torch.equal(a, b):
        return None
    gap = (a.double() - b.double()).abs()
    gap[(a == b) | (a.isnan() & b.isnan())] = 0.0  # infinities and NaN in both
    gap = gap.nan_to_num(nan=float("inf"))
    largest = float(gap.max()) if gap.numel() else 0.0
    if largest <= tolerance:
        return None
    where = [int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)] if gap.dim() else []
    count = int((gap > tolerance).sum())
    scale = float(a.double().abs().nan_to_num().max())
    at = a[tuple(where)].item(), b[tuple(where)].item()
    return (
        f"{count:,} of {gap.numel():,} values differ, by {largest:.4g} at most "
        f"(largest value {scale:.4g}), at {where}: {at[0]:.6g} against {at[1]:.6g}",
        largest,
    )


def describe(result: TraceDiff, most: int = 20) -> str:
    """Return the differences as text: causes, the first stage that differs, the others."""
    lines = [f"config {key}: {a} against {b}" for key, a, b in result.config[:most]]
    if len(result.config) > most:
        lines.append(f"config: {len(result.config) - most} more keys differ")
    if result.weights:
        some = ", ".join(result.weights[:6])
        more = f" and {len(result.weights) - 6} more" if len(result.weights) > 6 else ""
        lines.append(f"weights: norms differ of {some}{more}")
    if result.first is None:
        return "\n".join([*lines, f"no difference in {result.compared} values"])
    name = f"{result.first.stage} {result.first.field}".strip()
    lines.append(f"first difference: {name}: {result.first.message}")
    stages: dict[str, list[Difference]] = {}
    for difference in result.differences:
        stages.setdefault(difference.stage, []).append(difference)
    for stage, found in list(stages.items())[:most]:
        worst = max((d.largest for d in found if d.largest == d.largest), default=float("nan"))
        lines.append(f"  {stage}: {len(found)} fields differ, by {worst:.4g} at most")
    return "\n".join(lines)
