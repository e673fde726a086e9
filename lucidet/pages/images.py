"""Images of a page: as addresses of bytes, as heat maps, as sheets of crops."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["contact_sheet", "data_uri", "heat_image", "to_rgb"]


def data_uri(image: np.ndarray, jpeg: bool = True, longest: int | None = None) -> str:
    """Return an image (H, W, 3 or 4) uint8 as a ``data:`` address.

    Args:
        jpeg: else PNG, without loss.
        longest: longer side in pixels at most; a larger image is reduced.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    if longest is not None and max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    if jpeg:
        picture.save(buffer, "JPEG", quality=82)
    else:
        picture.save(buffer, "PNG", optimize=True)
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
    """Return a map (h, w) as colors (h, w, 3) uint8 from its smallest to its largest value."""
    from matplotlib import colormaps

    finite = values.float().nan_to_num(0.0, 0.0, 0.0)
    low, high = (float(v) for v in finite.aminmax()) if finite.numel() else (0.0, 0.0)
    scaled = (finite - low) / max(high - low, 1e-12)
    return (colormaps["inferno"](scaled.numpy())[..., :3] * 255).astype(np.uint8)


def contact_sheet(
    image: np.ndarray, boxes: Tensor, side: int = 72, columns: int = 8
) -> tuple[np.ndarray, Tensor]:
    """Return crops of an image side by side, and where each is on the sheet (B, 4)."""
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
