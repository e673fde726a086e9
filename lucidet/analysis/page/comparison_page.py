"""The page of a comparison: differences, and the boxes that were won and lost, in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lucidet.analysis.judged import Judged
from lucidet.analysis.page.pictures import Pictures, image_view
from lucidet.pages.document import render_page

__all__ = ["comparison_page"]

#: images in a page at most
MOST_PICTURES = 100
SCRIPTS = ("result.js", "gallery.js", "tables.js", "compare.js")


def comparison_page(a: Judged, b: Judged, found: dict[str, Any]) -> str:
    """Return the page as HTML; it holds its pictures.

    Args:
        a: results of the first run.
        b: of the second, on the same dataset.
        found: what `lucidet.analysis.compare.comparison` says of them.
    """
    lists = {
        kind: [
            {**e, "file_name": Path(e["file_name"]).name or str(e["image_id"]), "picture": None}
            for e in found[kind]["examples"]
        ]
        for kind in ("won", "lost")
    }
    pictures = Pictures(a, MOST_PICTURES)
    pictures.add_examples(lists.values())
    views: dict[str, list[dict[str, Any]]] = {}
    places: dict[str, dict[int, int]] = {}
    for position in pictures.positions:
        key = f"image {position}"
        both = [image_view(judged, position, pictures.size(position), key) for judged in (a, b)]
        views[key] = [view for view, _, _ in both]
        places[key] = both[0][1]
    for examples in lists.values():
        for example in examples:
            if example["picture"] is not None:
                index = places[example["picture"]][example["ground_truth"]["index"]]
                example["pick"] = {"kind": "truth", "index": index}
    first, second = found["names"]
    data = {
        "title": f"{first} and {second}",
        "subtitle": f"{found['dataset']}: {found['images']:,} images",
        "images": pictures.images,
        "views": views,
        **{key: found[key] for key in ("names", "metrics", "classes", "thresholds", "wrong")},
        "bootstrap": found["bootstrap"],
        "counts": {kind: found[kind]["count"] for kind in lists},
        "lists": lists,
    }
    return render_page("lucidet.analysis.page", "analysis.html", data["title"], data, SCRIPTS)
