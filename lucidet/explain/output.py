"""What `lucidet explain` writes: pages that open offline, and the same as JSON beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data.detection_utils import read_image
from lucidet.explain.explainer import Explainer
from lucidet.explain.heat_map import HeatMap
from lucidet.explain.page.page import funnel_page, image_page, thumbnail
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
        "picture": read_image(record["file_name"], format="RGB"),
        "heat": {i: found.to_json() for i, found in maps.items()},
        "back": back,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(image_page(document), encoding="utf-8")
    _write_json(document["explanation"], path.with_suffix(".json"))
    return explanation


def write_funnel(funnel: dict[str, Any], path: Path) -> None:
    """Write the page of a dataset, and its JSON beside it; see `Funnel.to_json`.

    Args:
        funnel: with `title` and `subtitle`, and the `page` of each example.
        path: of the page.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_json(funnel, path.with_suffix(".json"))
    pictures: dict[str, np.ndarray] = {}
    shown = {**funnel, "examples": {}}
    for what, of_kind in funnel["examples"].items():
        shown["examples"][what] = {
            kind: [{**own, "thumbnail": _thumbnail(own, pictures)} for own in examples]
            for kind, examples in of_kind.items()
        }
    path.write_text(funnel_page(shown), encoding="utf-8")


def _thumbnail(example: dict[str, Any], pictures: dict[str, np.ndarray]) -> str:
    file = example["file_name"]
    if file not in pictures:
        pictures[file] = read_image(file, format="RGB")
    return thumbnail(pictures[file], example["box"])


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
