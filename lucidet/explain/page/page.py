"""Explain's pages: one image with its fates, origins and settings; the funnel of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lucidet.explain.kinds import FATES, VERDICTS
from lucidet.pages.document import render_page
from lucidet.pages.images import data_uri, heat_image
from lucidet.pages.result import result_view

__all__ = ["TITLES", "funnel_page", "image_page", "thumbnail"]

#: titles of fates and verdicts
TITLES = {"fates": FATES, "verdicts": VERDICTS}

#: longer sides of a picture and of a thumbnail on the page, pixels
_LONGEST, _THUMBNAIL = 1200, 160


def image_page(document: dict[str, Any]) -> str:
    """Return the page of one explained image as HTML.

    Args:
        document: ``explanation`` (`Explanation.to_json`), ``picture`` ((h, w, 3) uint8 RGB, the
            file's pixels), ``heat`` (detection -> `HeatMap.to_json`; absent: none), ``back``
            (address of the dataset's page, or None).
    """
    explanation = document["explanation"]
    view = result_view(explanation, "picture", TITLES)
    images = {"picture": data_uri(document["picture"], longest=_LONGEST)}
    heat = {}
    for detection, content in (document.get("heat") or {}).items():
        values = torch.tensor(content["values"], dtype=torch.float32)
        # where it looked at nothing, the picture is seen
        alpha = (255 * values.clamp(0, 1).sqrt())[..., None].byte().numpy()
        pixels = np.concatenate([heat_image(values), alpha], axis=2)
        images[f"heat {detection}"] = data_uri(pixels, jpeg=False)
        heat[str(detection)] = {
            "image": f"heat {detection}",
            "extent": _extent(explanation["image"], values, content["stride"]),
            "note": f"{content['level']}, stride {content['stride']}",
        }
    # chains are in the view, with boxes in pixels of the file
    slim = {key: value for key, value in explanation.items() if key != "proposals"}
    slim["objects"] = [{k: v for k, v in o.items() if k != "chain"} for o in slim["objects"]]
    slim["detections"] = [{k: v for k, v in d.items() if k != "origin"} for d in slim["detections"]]
    file = Path(explanation["image"]["file_name"]).name or "image"
    title = f"{explanation['architecture']}: {file}"
    data = {
        "title": title,
        "subtitle": _subtitle(explanation),
        "titles": TITLES,
        "images": images,
        "explanation": slim,
        "view": view,
        "heat": heat,
        "back": document.get("back"),
    }
    scripts = ("result.js", "recompute.js", "explain.js")
    return render_page("lucidet.explain.page", "explain.html", title, data, scripts)


def funnel_page(funnel: dict[str, Any]) -> str:
    """Return the page of a dataset as HTML: fates and verdicts as bars that open examples.

    Args:
        funnel: as `Funnel.to_json` has it, with a ``title`` and a ``subtitle``; an example may
            have a ``page`` (its address) and a ``thumbnail`` (see :func:`thumbnail`).
    """
    title = str(funnel.get("title") or "explain")
    subtitle = str(funnel.get("subtitle") or "")
    data = {"title": title, "subtitle": subtitle, "titles": TITLES, "images": {}, "funnel": funnel}
    return render_page("lucidet.explain.page", "funnel.html", title, data, ("funnel.js",))


def thumbnail(picture: np.ndarray, box: list[float]) -> str:
    """Return a box with its surroundings as a ``data:`` address.

    Args:
        picture: (h, w, 3) uint8 RGB.
        box: XYXY, pixels of it.
    """
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1, 16.0) * 0.9
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    left, right = int(max(x - half, 0)), int(min(x + half, width))
    top, bottom = int(max(y - half, 0)), int(min(y + half, height))
    if right <= left or bottom <= top:  # a box outside of the image
        return data_uri(picture, longest=_THUMBNAIL)
    return data_uri(np.ascontiguousarray(picture[top:bottom, left:right]), longest=_THUMBNAIL)


def _subtitle(explanation: dict[str, Any]) -> str:
    missed = sum(o["fate"] not in ("detected", "ignored") for o in explanation["objects"])
    return f"{missed} of {len(explanation['objects'])} ground-truth boxes missed"


def _extent(file: dict[str, Any], values: Tensor, stride: int) -> list[float]:
    """Return (width, height) that a heat map (h, w) covers, in pixels of the file."""
    rows, columns = values.shape
    width = columns * stride * file["width"] / file["resized"][0]
    height = rows * stride * file["height"] / file["resized"][1]
    return [width, height]
