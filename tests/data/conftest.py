"""Small annotation files and images, and names that leave the catalogs again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lucidet.data import DatasetCatalog, MetadataCatalog


def coco_content() -> dict[str, Any]:
    """Two images with objects, one without; ids with gaps; a crowd region; optional keys absent."""
    return {
        "images": [
            {"id": 30, "file_name": "c.jpg", "height": 40, "width": 60},
            {"id": 7, "file_name": "a.jpg", "height": 40, "width": 60},
            {"id": 9, "file_name": "b.jpg", "height": 60, "width": 40},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [10, 10, 20, 10]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5.5, 5], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 7.5},
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 3, "name": "car"}],
    }


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Write `coco_content`, changed by a function, and its images; return the JSON's path."""

    def write(change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
        content = coco_content()
        for image in content["images"]:
            save_image(tmp_path / image["file_name"], image["height"], image["width"])
        if change is not None:
            change(content)
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return write


def save_image(path: Path, height: int, width: int, **options: Any) -> np.ndarray:
    """Write a random picture; return its RGB values before encoding."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def name() -> Iterator[str]:
    """A data set name that is free, and is free again afterwards."""
    yield "tiny_for_test"
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "tiny_for_test" in catalog.list():
            catalog.remove("tiny_for_test")
