"""Ten images of a dataset with their boxes, in one picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lucidet.data import transforms as T
from lucidet.data.catalog import Metadata
from lucidet.data.detection_utils import transform_instance_annotations
from lucidet.data.image_io import read_image
from lucidet.utils.canvas import VisImage
from lucidet.utils.visualizer import Visualizer

# h, w size of a cell in pixels

CELL = (300, 400)  # height, width
COLUMNS = 5
GAP = 6
CAPTION = 22
BACKGROUND = 245


def choose(records: Sequence[dict[str, Any]], number: int) -> list[int]:
    """Return the positions of images that show every class, the rarest first, and an empty one.

    >>> a, b = {"category_id": 0}, {"category_id": 1}
    >>> choose([{"annotations": [a]}, {"annotations": [a, b]}, {"annotations": []}], 2)
    [1, 2]
    """
    kinds = [{entry["category_id"] for entry in record["annotations"]} for record in records]
    frequency = Counter(k for own in kinds for k in own)
    chosen: list[int] = []
    shown: set[int] = set()
    for k in sorted(frequency, key=lambda k: (frequency[k], k)):
        if k not in shown:
            first = next(i for i, own in enumerate(kinds) if k in own)
            chosen.append(first)
            shown |= kinds[first]
    chosen = list(dict.fromkeys(chosen))[: max(1, number - 1)] if frequency else []
    chosen += [i for i, own in enumerate(kinds) if not own][:1]
    rest = [i for i in range(len(records)) if i not in chosen]
    lacking = number - len(chosen)
    if lacking > 0 and rest:  # spread over the dataset
        places = np.linspace(0, len(rest) - 1, lacking, dtype=int)
        chosen += [rest[i] for i in dict.fromkeys(places.tolist())]
    return sorted(chosen[:number])


def write_contact_sheet(
    records: Sequence[dict[str, Any]], classes: Sequence[str], path: Path, number: int = 10
) -> list[str]:
    """Draw images with their boxes into one PNG.

    Args:
        records: of a dataset, with sizes.
        classes: names of the classes.
        path: of the picture; its folder is made.
        number: of images.

    Returns:
        a sentence for each image that could not be read; its cell says so.
    """
    problems = []
    cells = []
    metadata = Metadata(name="sheet", thing_classes=list(classes))
    for position in choose(records, number):
        record = records[position]
        try:
            cells.append(_cell(record, metadata))
        except (OSError, ValueError) as error:
            problems.append(str(error))
            cells.append(_blank(f"{os.path.basename(record['file_name'])}: unreadable"))
    rows = -(-len(cells) // COLUMNS)
    columns = min(COLUMNS, len(cells))
    height, width = CELL[0] + CAPTION + GAP, CELL[1] + GAP
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), BACKGROUND, np.uint8)
    for i, cell in enumerate(cells):
        y, x = GAP + i // COLUMNS * height, GAP + i % COLUMNS * width
        sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
    return problems


def _cell(record: dict[str, Any], metadata: Metadata) -> np.ndarray:
    """Return an image with its annotations and a caption: (h + CAPTION, w, 3) uint8."""
    rgb = np.ascontiguousarray(read_image(record["file_name"], format="RGB"))
    height, width = rgb.shape[:2]
    scale = min(CELL[0] / height, CELL[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    smaller = T.ResizeTransform(height, width, *size)
    entries = [
        transform_instance_annotations(dict(entry), [smaller], size)
        for entry in record["annotations"]
    ]
    drawn = Visualizer(small, metadata).draw_dataset_dict({"annotations": entries}).get_image()
    count = len(entries)
    name = os.path.basename(record["file_name"])
    shown = name if len(name) <= 34 else "..." + name[-31:]
    cell = _blank(f"{shown}  {count} box{'es' * (count != 1)}")
    y, x = (CELL[0] - drawn.shape[0]) // 2, (CELL[1] - drawn.shape[1]) // 2
    cell[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn
    return cell


def _blank(caption: str) -> np.ndarray:
    """Return a white cell with a caption below."""
    canvas = VisImage(np.full((CELL[0] + CAPTION, CELL[1], 3), 255, np.uint8))
    canvas.text(caption, (4.0, CELL[0] + 3.0), (40, 40, 40), 13)
    return np.array(canvas.get_image())
