"""The measurements of a training, as ``metrics.json`` has them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

__all__ = ["Series", "groups_of", "read_metrics"]


class Series(NamedTuple):
    """One measurement over the training: iterations, and its value at each of them."""

    iterations: list[int]
    values: list[float]


def read_metrics(path: Path) -> dict[str, Series]:
    """Return every numeric measurement of a ``metrics.json``, one JSON object a line.

    A line that a killed process left unfinished is skipped. Values that are not finite are left
    out of the series. Without the file there are no measurements.
    """
    found: dict[str, Series] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        iteration = row.pop("iteration", None) if isinstance(row, dict) else None
        if not isinstance(iteration, int):
            continue
        for name, value in row.items():
            if isinstance(value, int | float) and math.isfinite(value):
                series = found.setdefault(name, Series([], []))
                series.iterations.append(iteration)
                series.values.append(float(value))
    return found


def groups_of(metrics: dict[str, Series]) -> dict[str, dict[str, Series]]:
    """Return the measurements that are drawn together: losses, AP and the learning rate.

    >>> groups_of({"loss_cls": Series([0], [1.0]), "lr": Series([0], [0.1])}).keys()
    dict_keys(['Losses', 'Learning rate'])
    """
    losses = {n: s for n, s in metrics.items() if "loss" in n.rpartition("/")[2]}
    accuracy = {n: s for n, s in metrics.items() if _is_main_ap(n)}
    rates = {n: s for n, s in metrics.items() if n == "lr"}
    chosen = {"Losses": losses, "Validation AP": accuracy, "Learning rate": rates}
    return {title: series for title, series in chosen.items() if series}


def _is_main_ap(name: str) -> bool:
    """``bbox/AP50`` and ``voc_val/bbox/AP``, but not ``bbox/AP-person`` nor ``bbox/APs``."""
    return name.rpartition("/")[2] in ("AP", "AP50", "AP75") and "/" in name
