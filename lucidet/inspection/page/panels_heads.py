"""Pictures of what heads return: scores and deltas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.pages.blocks import Block, figure, heat_layer, table
from lucidet.pages.charts import histogram


def dense_head(page: PageData, event: Event) -> list[Block]:
    """Highest score of each location as a map per level, and histograms."""
    key, size = page.resized()
    layers, blocks = [], []
    for i, value in enumerate(event["logits"]):
        logits = whole(value)[0]
        best = logits if logits.dim() == 1 else logits.amax(dim=1)
        grid = _as_grid(page, i, best.sigmoid())
        if grid is not None:
            layers.append(heat_layer(f"{page.level_name(i)}: score", *grid, on=i == 0))
        blocks.append(histogram(logits, f"{page.level_name(i)}: logits"))
        blocks.append(histogram(whole(event["deltas"][i])[0], f"{page.level_name(i)}: deltas"))
    for i, value in enumerate(event.get("centerness") or []):
        grid = _as_grid(page, i, whole(value)[0].sigmoid())
        if grid is not None:
            layers.append(heat_layer(f"{page.level_name(i)}: centerness", *grid))
    return [figure(key, size, layers, "Highest sigmoid of each location's logits"), *blocks]


def _as_grid(
    page: PageData, level: int, values: Tensor
) -> tuple[Tensor, tuple[float, float]] | None:
    """Return values of a level's anchors (HWA,) as a map of locations (H, W), and its extent."""
    if "anchors.grid" not in page.trace:
        return None
    grid = page.trace["anchors.grid"]
    per_cell = max(len(grid["cell_anchors"][level]), 1)
    anchors = whole(grid["anchors"][level])[::per_cell]
    columns = int((anchors[:, 1] == anchors[0, 1]).sum()) if len(anchors) else 0
    if columns == 0 or len(values) % (columns * per_cell):
        return None
    cells = values.view(-1, columns, per_cell).amax(dim=2)
    stride = float(grid["strides"][level])
    return cells, (cells.shape[1] * stride, cells.shape[0] * stride)


def roi_head(page: PageData, event: Event) -> list[Block]:
    """Scores and deltas as histograms, and the classes with the highest logit."""
    scores = whole(event["scores"]).float()
    blocks: list[Block] = []
    if len(scores):
        winners = scores.argmax(dim=1)
        background = scores.shape[1] - 1
        counts = torch.bincount(winners, minlength=scores.shape[1])
        order = counts.argsort(descending=True)[:10].tolist()
        rows: list[list[Any]] = [
            ["background" if c == background else page.own_class_name(c), int(counts[c])]
            for c in order
            if counts[c]
        ]
        blocks.append(table(["highest logit", "regions"], rows, "Classes by highest logit"))
        blocks += [histogram(scores, "logits"), histogram(whole(event["deltas"]), "deltas")]
    return blocks
