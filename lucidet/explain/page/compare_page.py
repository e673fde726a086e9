"""The page of a comparison: detections gained, lost, moved and rescored, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucidet.explain.compare import (
    MOVED_IOU,
    RESCORED,
    ImageChange,
    counts,
    counts_by_threshold,
)
from lucidet.pages.document import render_page
from lucidet.pages.images import data_uri

__all__ = ["compare_page"]

#: images that are listed, those with the most changes first; of the others there are the counts
MOST_IMAGES = 400
#: images that are shown with their picture
MOST_PICTURES = 40
#: longer side of a picture, pixels: one alone, one of several
_LONGEST_ALONE, _LONGEST = 1200, 800


def compare_page(
    images: Sequence[ImageChange],
    titles: tuple[str, str],
    picture: Callable[[ImageChange], np.ndarray | None],
    *,
    threshold: float = 0.5,
    notes: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the page as HTML.

    Args:
        images: compared.
        titles: of the first and the second side.
        picture: returns (h, w, 3) uint8 RGB of an image; None: there is none.
        threshold: of the score, at which the page opens.
        notes: (title, text) of what else differs: configs, stages.
    """
    changed = [sum(list(counts([image], threshold).values())[:-1]) for image in images]
    order = sorted(range(len(images)), key=lambda i: (-changed[i], i))
    pictures: dict[str, str] = {}
    longest = _LONGEST_ALONE if len(images) == 1 else _LONGEST
    documents = []
    for place, i in enumerate(order[:MOST_IMAGES]):
        pixels = picture(images[i]) if place < MOST_PICTURES else None
        if pixels is not None:
            pictures[f"image {i}"] = data_uri(pixels, longest=longest)
        documents.append(_document(images[i], f"image {i}"))
    title = f"{titles[0]} → {titles[1]}"
    data: dict[str, Any] = {
        "title": title,
        "subtitle": f"{len(images)} image{'' if len(images) == 1 else 's'}: detections matched",
        "sides": list(titles),
        "threshold": threshold,
        "moved": MOVED_IOU,
        "rescored": RESCORED,
        "images": pictures,
        "documents": documents,
        "others": counts_by_threshold([images[i] for i in order[MOST_IMAGES:]]),
        "not_listed": max(len(images) - MOST_IMAGES, 0),
        "notes": [list(note) for note in notes],
    }
    return render_page("lucidet.explain.page", "diff.html", title, data, ("diff.js",))


def _document(image: ImageChange, key: str) -> dict[str, Any]:
    return {
        "file_name": image.file_name,
        "image": key,
        "size": [float(v) for v in image.size],
        "truth": [{"box": box, "name": name} for box, name in image.truth],
        "known": image.known,
        "rows": [
            {
                "name": row.name,
                "boxes": [side and side[0] for side in (row.first, row.second)],
                "scores": [side and side[1] for side in (row.first, row.second)],
                "iou": row.iou,
                "right": list(row.right),
            }
            for row in image.rows
        ],
    }
