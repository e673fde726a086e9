"""Holds a trace to the table of stages: every field, and one value for each symbol."""

from __future__ import annotations

import re
from typing import Any

from lucidet.inspection.event import Event, kind_of, shape_of
from lucidet.inspection.stages import STAGES, SYMBOLS, Field
from lucidet.inspection.trace import Trace

__all__ = ["Bindings", "check_trace"]

_DIM = re.compile(r"(?:(\d+)\*)?([A-Za-z](?:_[a-z])?)(?:\+(\d+))?")


class Bindings:
    """The values that symbols have at this point of a trace."""

    def __init__(self) -> None:
        self.values: dict[tuple[Any, ...], int] = {}

    def open(self, symbols: tuple[str, ...], image: int | None) -> None:
        """Forget symbols; of one image where they have one. "*": all."""
        if symbols == ("*",):
            self.values.clear()
        for symbol in symbols:
            key_image = image if SYMBOLS.get(symbol, ("",))[0] == "image" else None
            for key in [k for k in self.values if k[0] == symbol and k[1] == key_image]:
                del self.values[key]

    def close_event(self) -> None:
        """Forget the symbols of one event."""
        for key in [k for k in self.values if SYMBOLS[k[0]][0] == "event"]:
            del self.values[key]

    def bind(self, symbol: str, value: int, image: int | None, index: Any) -> str:
        """Give a symbol its value; return a complaint where it has another one already."""
        if symbol not in SYMBOLS:
            return f"the table uses the symbol {symbol}, which has no meaning"
        key_image = image if SYMBOLS[symbol][0] == "image" else None
        key = (symbol, key_image, index if "_" in symbol and symbol[-2] == "_" else None)
        known = self.values.setdefault(key, value)
        if known != value:
            return f"{symbol} is {value} here, but {known} before ({SYMBOLS[symbol][1]})"
        if symbol == "R" and "R_l" in {k[0] for k in self.values}:
            total = sum(v for k, v in self.values.items() if k[0] == "R_l")
            if total != value:
                return f"R is {value}, but the levels have {total} anchors together"
        return ""


def _check_tensor(
    spec: str, value: Any, bindings: Bindings, image: int | None, index: Any
) -> list[str]:
    shape, dims = shape_of(value), spec.split()
    if shape is None:
        return [f"expected a tensor ({spec}), got {type(value).__name__}"]
    if len(shape) != len(dims):
        return [f"expected ({', '.join(dims)}), got the shape {shape}"]
    complaints = []
    for dim, size in zip(dims, shape, strict=True):
        if dim.isdigit():
            problem = "" if size == int(dim) else f"expected {dim}, got {size} in {shape}"
        else:
            match = _DIM.fullmatch(dim)
            assert match is not None, dim
            factor, offset = int(match[1] or 1), int(match[3] or 0)
            if (size - offset) % factor:
                problem = f"{size} is not {dim} for any {match[2]}"
            else:
                problem = bindings.bind(match[2], (size - offset) // factor, image, index)
        complaints += [problem] if problem else []
    return complaints


def _check_field(field: Field, value: Any, bindings: Bindings, image: int | None) -> list[str]:
    if value is None:
        return [] if field.optional else ["is None"]
    if field.shape is None:
        if field.kind == "text" and not isinstance(value, str):
            return [f"expected text, got {type(value).__name__}"]
        return []
    container = re.match(r"(\[(\w+)\]|\{(\w+)\})\s*(.*)", field.shape)
    items: list[tuple[Any, Any]] = [(None, value)]
    spec, complaints = field.shape, []
    if container:
        spec = container[4]
        expected = list if container[2] else dict
        if not isinstance(value, expected):
            return [f"expected a {expected.__name__}, got {type(value).__name__}"]
        problem = bindings.bind(container[2] or container[3], len(value), None, None)
        complaints += [problem] if problem else []
        items = list(enumerate(value.values() if isinstance(value, dict) else value))
    for index, item in items:
        where = "" if index is None else f"[{index}] "
        if field.kind != "any" and kind_of(item) != field.kind:
            complaints.append(f"{where}holds {kind_of(item)}, expected {field.kind}")
        found = _check_tensor(spec, item, bindings, image, index)
        complaints += [where + text for text in found]
    return complaints


def check_event(event: Event, bindings: Bindings) -> list[str]:
    """Return what is wrong with one event, given those before it."""
    stage = STAGES.get(event.name)
    if stage is None:
        return [f"{event.name}: the table of stages has no such probe"]
    bindings.open(stage.opens, event.image)
    complaints = [
        f"{event.name}.{name}: the table has no such field"
        for name in event.values
        if name not in stage.fields
    ]
    for name, field in stage.fields.items():
        if name not in event.values:
            if not field.optional:
                complaints.append(f"{event.name}.{name}: missing")
            continue
        found = _check_field(field, event.values[name], bindings, event.image)
        complaints += [f"{event.name}.{name}: {text}" for text in found]
    bindings.close_event()
    return complaints


def check_trace(trace: Trace) -> list[str]:
    """Return every disagreement between a trace and the table; empty where there is none."""
    bindings = Bindings()
    return [text for event in trace for text in check_event(event, bindings)]
