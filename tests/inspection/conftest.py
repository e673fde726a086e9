"""One small image with objects, and detectors that look at it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from lucidet.inspection.run import inspect_image
from lucidet.inspection.trace import Trace
from tests.modeling.tiny import FPN, tiny_config

SIZES = [("INPUT.MIN_SIZE_TRAIN", (96,)), ("INPUT.MIN_SIZE_TEST", 96)]


@pytest.fixture(scope="session")
def image_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("images") / "noise.jpg"
    pixels = np.random.default_rng(0).integers(60, 200, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def make_record(file: str, boxes=None, classes=None) -> dict[str, Any]:
    boxes = [[10, 10, 60, 70], [70, 5, 120, 60]] if boxes is None else boxes
    classes = classes or [0] * len(boxes)
    return {
        "file_name": file,
        "image_id": 1,
        "height": 96,
        "width": 128,
        "annotations": [
            {"bbox": box, "bbox_mode": 0, "category_id": label, "iscrowd": 0}
            for box, label in zip(boxes, classes, strict=True)
        ],
    }


@pytest.fixture
def look(image_file):
    """Return a function that walks the image through a tiny detector and returns the trace."""

    def run(parts=FPN, training=True, overrides=(), boxes=None, classes=None, **more) -> Trace:
        cfg = tiny_config(parts, SIZES, list(overrides))
        record = make_record(image_file, boxes, classes)
        return inspect_image(cfg, record, training=training, **more)

    return run
