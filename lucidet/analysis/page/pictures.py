"""The pictures of a page: which images are in it, and what their boxes are."""

# D detections, G ground-truth boxes

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.analysis.judged import Judged
from lucidet.data.detection_utils import read_image
from lucidet.pages.images import data_uri

__all__ = ["Pictures", "image_view", "views_of"]

logger = logging.getLogger(__name__)

#: longer side of a picture in the page, pixels
_LONGEST = 800


class Pictures:
    """Collects the images that a page shows; each is in it once, whatever shows it.

    Args:
        judged: the results whose images they are.
        most: images in the page at most; of others it has the names only.
    """

    def __init__(self, judged: Judged, most: int) -> None:
        self._judged, self._most = judged, most
        self._sizes: dict[int, tuple[int, int]] = {}
        self._unreadable: set[int] = set()
        #: key -> ``data:`` address
        self.images: dict[str, str] = {}

    @property
    def positions(self) -> list[int]:
        """Positions of the images in the page."""
        return list(self._sizes)

    def size(self, position: int) -> tuple[int, int]:
        """Return (width, height) of the image file, pixels."""
        return self._sizes[position]

    def add(self, position: int) -> str | None:
        """Return the key of an image, None where the page has no room for it, or it has no file."""
        key = f"image {position}"
        if key in self.images:
            return key
        name = self._judged.files[position]
        if not name or position in self._unreadable or len(self.images) >= self._most:
            return None
        try:
            pixels = read_image(name, format="RGB")
        except (OSError, ValueError, SyntaxError) as error:  # Pillow: a broken PNG
            logger.warning("%s is not on the page: %s", name, error)
            self._unreadable.add(position)
            return None
        self._sizes[position] = (pixels.shape[1], pixels.shape[0])
        self.images[key] = data_uri(pixels, longest=_LONGEST)
        return key

    def add_examples(self, lists: Iterable[list[dict[str, Any]]]) -> None:
        """Set ``picture`` of examples to a key or None: the first of every list, then the second.

        Args:
            lists: of examples (`lucidet.analysis.cells`); they are changed.
        """
        position_of = self._judged.truth.image_index
        waiting = list(lists)
        for rank in range(max(map(len, waiting), default=0)):
            for examples in waiting:
                if rank < len(examples):
                    example = examples[rank]
                    example["picture"] = self.add(position_of[example["image_id"]])


def views_of(
    judged: Judged, pictures: Pictures, examples: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the views of all pictures by their key, and set ``pick`` of examples.

    Args:
        judged: the results.
        pictures: of the page.
        examples: with ``picture``; ``pick`` says which box of the view an example is about.
    """
    views, places = {}, {}
    for position in pictures.positions:
        key = f"image {position}"
        views[key], *places[key] = image_view(judged, position, pictures.size(position), key)
    for example in examples:
        if example["picture"] is not None:
            boxes, detections = places[example["picture"]]
            found, box = example["detection"], example["ground_truth"]
            if found is not None:
                example["pick"] = {"kind": "detection", "index": detections[found["index"]]}
            else:
                example["pick"] = {"kind": "truth", "index": boxes[box["index"]]}
    return views


def image_view(
    judged: Judged, position: int, size: tuple[int, int], key: str
) -> tuple[dict[str, Any], dict[int, int], dict[int, int]]:
    """Return the view of an image for the result view of a page.

    Args:
        judged: the results.
        position: of the image.
        size: (width, height) of its file.
        key: of its picture.

    Returns:
        ``image``, ``size``, ``truth``, ``detections`` and ``tiles``; where each ground-truth box
        and each detection of `judged` is in those lists.
    """
    own = np.flatnonzero((judged.rows[:, 0] == position) & (judged.rows[:, 5] >= judged.threshold))
    own = own[np.argsort(-judged.rows[own, 5], kind="stable")]
    mine = np.flatnonzero(judged.truth.image == position)
    place_of_box = {int(box): i for i, box in enumerate(mine)}
    place_of_detection = {int(d): i for i, d in enumerate(own)}
    across = {int(d): int(b) for d, b in judged.pairs[np.isin(judged.pairs[:, 0], own)]}
    truth = [_box_entry(judged, int(box), place_of_detection) for box in mine]
    detections = [_detection_entry(judged, int(d), across, place_of_box) for d in own]
    counts = {
        "found": sum(t["state"] == "found" for t in truth),
        "missed": sum(t["state"] == "missed" for t in truth),
        "wrong": sum(d["state"] == "wrong" for d in detections),
    }
    tiles = [{"value": str(n), "label": name, "state": name} for name, n in counts.items()]
    name = Path(judged.files[position]).name
    view = {
        "image": key,
        "name": name,
        "size": list(size),
        "truth": truth,
        "detections": detections,
        "tiles": tiles,
    }
    return view, place_of_box, place_of_detection


def _box_entry(judged: Judged, box: int, places: dict[int, int]) -> dict[str, Any]:
    detection = int(judged.matches.detection[box])
    state = "ignored" if judged.truth.crowd[box] else "missed" if judged.missed[box] else "found"
    reason = ""
    if state == "missed":
        reason = f"No {judged.classes[judged.truth.category[box]]} with IoU 0.5 and a score of "
        reason += f"{judged.threshold:.2f} or more."
        if detection >= 0:
            reason += f" One has {judged.rows[detection, 5]:.3f}."
    titles = {"ignored": "crowd: not counted", "missed": "missed", "found": "found"}
    return {
        "box": np.round(judged.objects[box, :4], 1).tolist(),
        "name": judged.classes[int(judged.truth.category[box])],
        "state": state,
        "title": titles[state],
        "reason": reason,
        "partner": places.get(detection) if state == "found" else None,
    }


def _detection_entry(
    judged: Judged, detection: int, across: dict[int, int], places: dict[int, int]
) -> dict[str, Any]:
    matched = int(judged.matches.box[detection])
    box = matched if matched >= 0 else across.get(detection, -1)
    own = judged.detections[detection]
    name = judged.classes[int(own[5])]
    if judged.matches.ignored[detection]:
        state, title = "ignored", "in a crowd: not counted"
    elif matched >= 0:
        state, title = "found", "right"
    elif box >= 0 and judged.truth.category[box] != int(own[5]):
        state = "wrong"
        title = f"wrong: {judged.classes[judged.truth.category[box]]} taken for {name}"
    else:
        state, title = "wrong", "wrong: no free box there with IoU 0.5"
    return {
        "box": np.round(own[:4], 1).tolist(),
        "name": name,
        "score": round(float(own[4]), 4),
        "state": state,
        "title": title,
        "reason": "",
        "partner": places.get(box),
    }
