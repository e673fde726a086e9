"""Charts of a page, as data: the page's script draws them with axes and ticks at any width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lucidet.pages.blocks import Block, number, text

__all__ = ["bar_chart", "curve_chart", "histogram", "line_chart"]


def histogram(values: Tensor, title: str, bins: int = 40) -> Block:
    """Return a histogram of the finite entries, counts on a logarithmic axis."""
    flat = values.detach().float().flatten()
    finite = flat[flat.isfinite()]
    if finite.numel() == 0:
        return text(f"{title}: no finite value")
    low, high = (float(v) for v in finite.aminmax())
    if high <= low:
        return text(f"{title}: all {finite.numel():,} values are {number(low)}")
    counts = [int(n) for n in torch.histc(finite, bins, low, high).tolist()]
    chart = {"type": "chart", "kind": "histogram", "title": title, "log": True}
    return {**chart, "low": low, "high": high, "counts": counts}


def line_chart(points: Sequence[Sequence[float]], title: str, x: str, y: str) -> Block:
    """Return a line through points (x, y); the axes start at 0 and bear the names `x` and `y`."""
    known = [[float(a), float(b)] for a, b in points if math.isfinite(a) and math.isfinite(b)]
    if len(known) < 2:
        return text(f"{title}: nothing to draw")
    chart = {"type": "chart", "kind": "line", "title": title, "wide": True}
    return {**chart, "points": known, "x": x, "y": y}


def curve_chart(
    curves: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    x: str,
    y: str,
    *,
    strong: Sequence[str] = (),
    dashed: Sequence[str] = (),
    few: int = 12,
) -> Block:
    """Return several curves of points (x, y) in 0..1, with a legend that turns each on and off.

    Args:
        curves: name -> points; those that are not finite are left out.
        title: of the chart.
        x: name of the axis.
        y: name of the axis.
        strong: names of thick curves.
        dashed: names of dashed curves, such as a reference.
        few: of more curves only `strong` and `dashed` ones are on at first.
    """
    series = []
    for name, points in curves.items():
        known = [[float(a), float(b)] for a, b in points if math.isfinite(a) and math.isfinite(b)]
        special = {"strong": name in strong, "dashed": name in dashed}
        on = len(curves) <= few or any(special.values())
        series.append({"name": name, "points": known, "on": on, **special})
    if not any(entry["points"] for entry in series):
        return text(f"{title}: nothing to draw")
    chart = {"type": "chart", "kind": "curves", "title": title, "wide": True}
    return {**chart, "series": series, "x": x, "y": y}


def bar_chart(
    rows: Sequence[tuple[str, float]] | Sequence[tuple[str, float, str]],
    title: str,
    *,
    unit: str = "",
    log: bool = False,
) -> Block:
    """Return horizontal bars, one a row: (label, value) or (label, value, what hovering adds).

    Args:
        unit: name of the axis.
        log: logarithmic axis; values of 0 have no bar then. Values that are not finite have none.
    """
    entries: list[dict[str, Any]] = []
    for label, value, *note in rows:
        finite = math.isfinite(value)
        entry: dict[str, Any] = {"label": label, "value": float(value) if finite else None}
        entry["shown"] = number(float(value))
        entry["note"] = note[0] if note else ""
        entries.append(entry)
    if not entries:
        return text(f"{title}: nothing to draw")
    chart = {"type": "chart", "kind": "bars", "title": title, "wide": True}
    return {**chart, "rows": entries, "unit": unit, "log": log}
