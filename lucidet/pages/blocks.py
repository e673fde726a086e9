"""Blocks of a page: pictures with layers of boxes and heat maps, tables, paragraphs. Plain data.

A block is a dict that the page's script (or a notebook, or a terminal) can show:
``table``, ``figure``, ``chart`` (:mod:`lucidet.pages.charts`) or ``text``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

from lucidet.pages.images import data_uri, heat_image

__all__ = ["Block", "box_layer", "figure", "heat_layer", "number", "table", "text"]

Block = dict[str, Any]

#: boxes of one layer; more would make the page slow
MOST_BOXES = 300
#: boxes that a layer shows until all are asked for; of a larger layer those that overlap least
FEW_BOXES = 40
#: IoU above which a box of a large layer is hidden behind one that is shown
_THIN_IOU = 0.5


def heat_layer(
    name: str, values: Tensor, extent: tuple[float, float], on: bool = False, note: str = ""
) -> Block:
    """Return a layer that spreads a map (h, w) over (width, height) pixels from the corner."""
    low, high = (float(v) for v in values.float().nan_to_num().aminmax())
    return {
        "name": name,
        "on": on,
        "heat": data_uri(heat_image(values), jpeg=False),
        "extent": list(extent),
        "note": note or f"{number(low)} dark to {number(high)} bright",
    }


def box_layer(
    name: str,
    boxes: Tensor,
    labels: Sequence[str],
    *,
    color: int | Sequence[int] = 0,
    groups: Sequence[int] | None = None,
    on: bool = True,
    dashed: bool = False,
    most: int = MOST_BOXES,
    few: int = FEW_BOXES,
) -> Block:
    """Return a layer of boxes (B, 4) XYXY; of more than `most` the first, and it says so.

    Args:
        labels: one a box: what hovering shows; the numbers of the box are added.
        color: number of a color, one for all or one a box.
        groups: rows of a table that the boxes belong to.
        few: a layer of more boxes shows about this many until all are asked for: those that
            overlap an earlier one least.
    """
    rows = []
    for i, box in enumerate(boxes[:most].tolist()):
        own = color if isinstance(color, int) else color[i]
        group = -1 if groups is None else int(groups[i])
        rows.append([*(_coordinate(v) for v in box), labels[i], int(own) % 8, group])
    total = len(boxes)
    layer = {"name": name, "on": on, "boxes": rows, "dashed": dashed}
    layer["note"] = f"{total:,}" if total <= most else f"first {most} of {total:,}"
    if len(rows) > few:
        layer["few"] = _spread_out(boxes[:most], few)
    return layer


def _spread_out(boxes: Tensor, few: int) -> list[int]:
    """Return indices of at most `few` boxes, each with a low IoU with those before it."""
    order = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
    return nms(boxes.float().nan_to_num(), order, _THIN_IOU)[:few].tolist()


def _coordinate(value: float) -> float:
    return round(value, 1) if math.isfinite(value) else 0.0


def figure(
    background: str, size: tuple[float, float], layers: Sequence[Block], caption: str = ""
) -> Block:
    """Return a picture: a background by its key, (width, height), and layers over it."""
    return {
        "type": "figure",
        "background": background,
        "size": [float(size[0]), float(size[1])],
        "layers": [layer for layer in layers if layer],
        "caption": caption,
    }


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = "",
    *,
    filter: bool = False,
    groups: Sequence[int] | None = None,
    follow: bool = False,
    folded: bool = False,
) -> Block:
    """Return a table.

    Args:
        groups: the boxes that a click on each row shows alone.
        follow: the groups are ground-truth boxes: a click follows one through all stages.
        filter: with a field that filters rows.
        folded: closed until it is opened.
    """
    cells = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    return {
        "type": "table",
        "head": list(head),
        "rows": cells,
        "caption": caption,
        "filter": filter,
        "groups": None if groups is None else [int(g) for g in groups],
        "follow": follow,
        "folded": folded,
    }


def text(content: str) -> Block:
    """Return a paragraph."""
    return {"type": "text", "text": content}


def number(value: Any) -> str:
    """Return a number in few digits.

    >>> [number(v) for v in (3, 0.000123456, 1234567, True, None)]
    ['3', '0.0001235', '1,234,567', 'yes', '–']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else str(value.tolist())
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
