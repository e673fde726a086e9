"""Pictures of losses, gradients and the optimiser."""

from __future__ import annotations

from typing import Any

from lucidet.inspection.event import Event
from lucidet.inspection.page.draw import Block, number, table, text
from lucidet.inspection.page.page_data import PageData


def losses(page: PageData, event: Event) -> list[Block]:
    """All terms in one table: value = sum / normaliser x weight."""
    rows: list[list[Any]] = []
    total = 0.0
    for term in page.trace.all("loss.term"):
        value = float(term["value"])
        total += value
        row = [term["name"], float(term["sum"]), float(term["normalizer"])]
        rows.append([*row, float(term["weight"]), value])
    rows.append(["total", "", "", "", total])
    return [table(["term", "sum", "normaliser", "weight", "value"], rows)]


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
    largest = max((entry[1] for entry in modules.values()), default=0.0) ** 0.5
    summary = [
        [
            name,
            int(trained),
            weight**0.5,
            squared**0.5 if trained else "frozen",
            "█" * round(20 * squared**0.5 / largest) if largest else "",
        ]
        for name, (weight, squared, trained) in modules.items()
    ]
    head = ["module", "trained numbers", "weight norm", "gradient norm", ""]
    every = ["parameter", "numbers", "weight norm", "gradient norm", "gradient / weight"]
    return [
        table(head, summary, "By module"),
        table(every, rows, "Every parameter", filter=True, folded=True),
    ]


def optimizer(page: PageData, event: Event) -> list[Block]:
    """The groups and their settings."""
    groups = event["groups"]
    keys = list(dict.fromkeys(key for group in groups for key in group))
    rows = [[str(i), *[group.get(key) for key in keys]] for i, group in enumerate(groups)]
    return [text(event["name"]), table(["group", *keys], rows)]
