"""Pictures of losses, gradients and the optimizer."""

from __future__ import annotations

from typing import Any

from lucidet.inspection.event import Event
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, number, table, text
from lucidet.pages.charts import bar_chart


def losses(page: PageData, event: Event) -> list[Block]:
    """All terms as bars and in one table: value = sum / normalizer x weight."""
    rows: list[list[Any]] = []
    total = 0.0
    for term in page.trace.all("loss.term"):
        value = float(term["value"])
        total += value
        row = [term["name"], float(term["sum"]), float(term["normalizer"])]
        rows.append([*row, float(term["weight"]), value])
    bars = bar_chart([(row[0], row[-1]) for row in rows], f"Terms; together {number(total)}")
    rows.append(["total", "", "", "", total])
    return [bars, table(["term", "sum", "normalizer", "weight", "value"], rows)]


def gradients(page: PageData, event: Event) -> list[Block]:
    """Norms by module, down to single parameters."""
    modules: dict[str, list[float]] = {}
    rows = []
    for name, numbers, weight, grad in event["rows"]:
        state = "frozen" if grad == -1 else "none" if grad is None else number(float(grad))
        ratio = number(grad / weight) if grad is not None and grad >= 0 and weight else ""
        rows.append([name, numbers, float(weight), state, ratio])
        parts = name.split(".")
        module = ".".join(parts[: 3 if parts[0] == "backbone" else 2])
        entry = modules.setdefault(module, [0.0, 0.0, 0.0])
        entry[0] += weight**2
        entry[1] += max(grad or 0.0, 0.0) ** 2
        entry[2] += numbers if grad != -1 else 0
    bars = [
        (name, squared**0.5, f"weight norm {number(weight**0.5)}, {int(trained):,} numbers")
        for name, (weight, squared, trained) in modules.items()
        if trained
    ]
    summary = [
        [name, int(trained), weight**0.5, squared**0.5 if trained else "frozen"]
        for name, (weight, squared, trained) in modules.items()
    ]
    head = ["module", "trained numbers", "weight norm", "gradient norm"]
    every = ["parameter", "numbers", "weight norm", "gradient norm", "gradient / weight"]
    return [
        bar_chart(bars, "By module; frozen modules have none", unit="gradient norm", log=True),
        table(head, summary, "By module", folded=True),
        table(every, rows, "Every parameter", filter=True, folded=True),
    ]


def optimizer(page: PageData, event: Event) -> list[Block]:
    """The groups and their settings."""
    groups = event["groups"]
    keys = list(dict.fromkeys(key for group in groups for key in group))
    rows = [[str(i), *[group.get(key) for key in keys]] for i, group in enumerate(groups)]
    return [text(event["name"]), table(["group", *keys], rows)]
