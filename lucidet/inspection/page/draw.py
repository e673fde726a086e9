"""Building blocks of the page: images, heat maps, boxes, tables, charts. Plain data and text.

A block is a dict that the page's script (or a notebook, or a terminal) can show:
``table``, ``figure``, ``chart`` or ``text``.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["box_layer", "data_uri", "figure", "heat_layer", "histogram", "line_chart", "table"]

Block = dict[str, Any]

#: boxes of one layer; more would make the page slow and the picture a blot
MOST_BOXES = 300


def data_uri(image: np.ndarray, jpeg: bool = True) -> str:
    """Return an image (H, W, 3 or 4) uint8 as a ``data:`` address."""
    buffer = io.BytesIO()
    if jpeg:
        Image.fromarray(image).save(buffer, "JPEG", quality=82)
    else:
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
    kind = "jpeg" if jpeg else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def to_rgb(image: Tensor, channels: str = "BGR") -> np.ndarray:
    """Return an image (h, w, c) of any range as (h, w, 3) uint8, RGB.

    >>> to_rgb(torch.tensor([[[255, 0, 0]]]), "BGR").tolist()
    [[[0, 0, 255]]]
    """
    values = image.float()
    if values.dim() == 2:
        values = values[..., None]
    values = values.nan_to_num()
    if values.numel() and (values.min() < 0 or values.max() <= 1.5):
        low, high = values.min(), values.max()
        values = (values - low) / (high - low).clamp(min=1e-6) * 255
    values = values[..., :3] if values.shape[2] >= 3 else values[..., :1].expand(-1, -1, 3)
    if channels == "BGR":
        values = values.flip(2)
    return values.clamp(0, 255).byte().numpy().copy()


def heat_image(values: Tensor) -> np.ndarray:
    """Return a map (h, w) as colours (h, w, 3) uint8 from its smallest to its largest value."""
    from matplotlib import colormaps

    finite = values.float().nan_to_num(0.0, 0.0, 0.0)
    low, high = (float(v) for v in finite.aminmax()) if finite.numel() else (0.0, 0.0)
    scaled = (finite - low) / max(high - low, 1e-12)
    return (colormaps["inferno"](scaled.numpy())[..., :3] * 255).astype(np.uint8)


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
) -> Block:
    """Return a layer of boxes (B, 4) XYXY; of more than `most` the first, and it says so.

    Args:
        labels: one a box: what hovering shows; the numbers of the box are added.
        color: number of a colour, one for all or one a box.
        groups: rows of a table that the boxes belong to.
    """
    rows = []
    for i, box in enumerate(boxes[:most].tolist()):
        own = color if isinstance(color, int) else color[i]
        group = -1 if groups is None else int(groups[i])
        rows.append([*(_coordinate(v) for v in box), labels[i], int(own) % 8, group])
    total = len(boxes)
    note = f"{total}" if total <= most else f"first {most} of {total}"
    return {"name": name, "on": on, "boxes": rows, "dashed": dashed, "note": note}


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
    folded: bool = False,
) -> Block:
    """Return a table; `groups`: the boxes that a click on each row singles out."""
    cells = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    return {
        "type": "table",
        "head": list(head),
        "rows": cells,
        "caption": caption,
        "filter": filter,
        "groups": None if groups is None else [int(g) for g in groups],
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


def histogram(values: Tensor, title: str, bins: int = 40) -> Block:
    """Return a histogram of the finite entries, counts on a logarithmic scale."""
    flat = values.detach().float().flatten()
    finite = flat[flat.isfinite()]
    if finite.numel() == 0:
        return text(f"{title}: no finite value")
    low, high = (float(v) for v in finite.aminmax())
    if high <= low:
        return text(f"{title}: all {finite.numel():,} values are {number(low)}")
    counts = torch.histc(finite, bins, low, high)
    top = math.log10(float(counts.max()) + 1)
    width, height = 320.0, 120.0
    step = width / bins
    bars = []
    for i, count in enumerate(counts.tolist()):
        tall = math.log10(count + 1) / top * height
        start = low + (high - low) * i / bins
        bars.append(
            f'<rect class="bar" x="{i * step:.1f}" y="{height - tall:.1f}" width="{step - 1:.1f}" '
            f'height="{tall:.1f}"><title>from {number(start)}: {int(count):,}</title></rect>'
        )
    axis = (
        f'<text x="0" y="{height + 14}">{number(low)}</text>'
        f'<text x="{width}" y="{height + 14}" text-anchor="end">{number(high)}</text>'
    )
    svg = f'<svg viewBox="0 0 {width} {height + 18}">{"".join(bars)}{axis}</svg>'
    return {"type": "chart", "title": f"{title} (log count)", "svg": svg}


def line_chart(points: Sequence[Sequence[float]], title: str, x: str, y: str) -> Block:
    """Return a line through points (x, y), from 0 upwards."""
    if len(points) < 2:
        return text(f"{title}: nothing to draw")
    width, height, left = 640.0, 180.0, 8.0
    most_x = max(p[0] for p in points) or 1
    most_y = max(p[1] for p in points) or 1
    across, up = (width - 2 * left) / most_x, (height - 20) / most_y
    path = " ".join(f"{left + p[0] * across:.1f},{height - p[1] * up:.1f}" for p in points)
    labels = (
        f'<text x="{left}" y="12">{y}: up to {number(float(most_y))}</text>'
        f'<text x="{left}" y="{height + 15}">0</text>'
        f'<text x="{width - left}" y="{height + 15}" text-anchor="end">{x} {most_x:,.0f}</text>'
    )
    svg = (
        f'<svg viewBox="0 0 {width} {height + 20}"><line class="axis" x1="{left}" y1="{height}" '
        f'x2="{width - left}" y2="{height}"/><polyline class="line" points="{path}"/>{labels}</svg>'
    )
    return {"type": "chart", "title": title, "svg": svg, "wide": True}


def contact_sheet(
    image: np.ndarray, boxes: Tensor, side: int = 72, columns: int = 8
) -> tuple[np.ndarray, Tensor]:
    """Return crops of an image side by side, and where each stands (B, 4) on the sheet."""
    rows = max(1, -(-len(boxes) // columns))
    sheet = Image.new("RGB", (columns * side, rows * side), (128, 128, 128))
    picture, places = Image.fromarray(image), []
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        x, y = i % columns * side, i // columns * side
        box = (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
        crop = picture.transform(
            (side - 4, side - 4), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR
        )
        sheet.paste(crop, (x + 2, y + 2))
        places.append([x + 2.0, y + 2.0, x + side - 2.0, y + side - 2.0])
    return np.asarray(sheet), torch.tensor(places).reshape(-1, 4)
