"""What `lucidet explain` writes: pages that open offline, and the same as JSON beside them."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data.detection_utils import read_image
from lucidet.explain.explainer import Explainer
from lucidet.explain.heat_map import HeatMap
from lucidet.explain.kinds import FATES, VERDICTS
from lucidet.explain.record import Explanation

__all__ = ["page_name", "write_funnel", "write_image"]

PAGE = "explain.html"
IMAGES = "images"
#: heat maps of an image are made for this many detections, the best ones
HEAT_MAPS = 20


def page_name(record: dict[str, Any]) -> str:
    """Return the file name of an image's page.

    >>> page_name({"image_id": "a b/7"})
    'a_b_7.html'
    """
    text = str(record.get("image_id", Path(str(record.get("file_name", "image"))).stem))
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text) + ".html"


def write_image(
    explainer: Explainer,
    record: dict[str, Any],
    path: Path,
    *,
    explanation: Explanation | None = None,
    heat: bool = False,
    back: str | None = None,
) -> Explanation:
    """Write the page of one image, and its JSON beside it.

    Args:
        explainer: the model.
        record: of the dataset.
        path: of the page.
        explanation: of the record, with details, where there is one already.
        heat: heat maps of the best detections too.
        back: address of the dataset's page.

    Returns:
        The explanation.
    """
    if explanation is None:
        explanation = explainer.explain(record)
    maps: dict[int, HeatMap] = {}
    if heat:
        count = min(HEAT_MAPS, len(explanation.detections))
        maps = {i: explainer.heat_map(record, explanation, i) for i in range(count)}
    document: dict[str, Any] = {
        "explanation": explanation.to_json(),
        "picture": _picture(record),
        "heat": {i: found.to_json() for i, found in maps.items()},
        "back": back,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_image_page(document), encoding="utf-8")
    _write_json(document["explanation"], path.with_suffix(".json"))
    return explanation


def write_funnel(funnel: dict[str, Any], path: Path) -> None:
    """Write the page of a dataset, and its JSON beside it; see `Funnel.to_json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_funnel_page(funnel), encoding="utf-8")
    _write_json(funnel, path.with_suffix(".json"))


def _picture(record: dict[str, Any]) -> np.ndarray:
    return read_image(record["file_name"], format="RGB")


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _image_page(document: dict[str, Any]) -> str:
    found = document["explanation"]
    rows = [(f"box {o['index']}", o["name"], FATES[o["fate"]], o["text"]) for o in found["objects"]]
    rows += [
        (f"detection {d['index']}", d["name"], VERDICTS[d["verdict"]], d["text"])
        for d in found["detections"]
    ]
    return _plain_page(str(found["image"]["file_name"]), rows)


def _funnel_page(funnel: dict[str, Any]) -> str:
    rows = [(FATES[fate], str(count)) for fate, count in funnel["fates"].items()]
    return _plain_page(str(funnel.get("title", "")), rows)


def _plain_page(title: str, rows: list[Any]) -> str:
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<h1>{html.escape(title)}</h1><table>{cells}</table></html>"
    )
