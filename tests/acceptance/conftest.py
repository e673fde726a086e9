"""What the acceptance tests share: data sets of a few small pictures, and programs run on them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets import register_coco_instances
from tests.acceptance.moved_code import shrink

BASE = Path(__file__).parents[2] / "configs" / "shapes" / "faster_rcnn_R_18_FPN.yaml"
NAME = "acceptance_tiny"

TINY = """
_BASE_: {base}
MODEL:
  DEVICE: cpu
  RESNETS: {{STEM_OUT_CHANNELS: 8, RES2_OUT_CHANNELS: 8}}
  FPN: {{OUT_CHANNELS: 8}}
  ROI_BOX_HEAD: {{FC_DIM: 16}}
  ROI_HEADS: {{NUM_CLASSES: 2}}
INPUT: {{MIN_SIZE_TEST: 48, MIN_SIZE_TRAIN: [48]}}
DATASETS: {{TRAIN: [{name}], TEST: []}}
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 3, MAX_ITER: 1, WARMUP_ITERS: 0}}
"""


def tiny_content() -> dict[str, Any]:
    """Three images of 64 x 48, one object in each, category ids 5 and 7."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (1, 2, 3)
        ],
        "annotations": [
            {"id": 10 + i, "image_id": i, "category_id": 5 + 2 * (i % 2), "bbox": [5, 5, 20, 30]}
            for i in (1, 2, 3)
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}],
    }


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """Programs run here set up logging for a whole process; other tests must not see that."""
    loggers = [logging.getLogger(name) for name in (None, "lucidet")]
    before = [(x, x.level, x.propagate, list(x.handlers)) for x in loggers]
    yield
    for logger, level, propagate, handlers in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.format(base=BASE, name=NAME), encoding="utf-8")
    return file


@pytest.fixture
def tiny_data(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Write and register the data set as `NAME`; ``change(content, folder)`` spoils it."""

    def write(change: Callable[[dict[str, Any], Path], Any] | None = None, name: str = "d") -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        for i in (1, 2, 3):
            pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")
        content = tiny_content()
        text = change(content, folder) if change else None
        file = folder / "tiny.json"
        file.write_text(text if isinstance(text, str) else json.dumps(content), encoding="utf-8")
        register_coco_instances(NAME, {}, str(file), str(folder))
        return folder

    yield write
    forget({NAME})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a program written for detectron2 in a folder with images 0.jpg .. 3.jpg.

    It returns the program's variables; `shrink` is one of them from the start.
    """
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for i in range(4):
        pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{i}.jpg")
    known = set(DatasetCatalog.list())

    def execute(code: str) -> dict[str, Any]:
        code = code.replace("detectron2", "lucidet")
        space = {"__name__": "moved", "shrink": shrink}
        exec(compile(code, "moved.py", "exec"), space)
        return space

    yield execute
    forget(set(DatasetCatalog.list()) - known)


def forget(names: set[str]) -> None:
    """Remove data sets from both catalogs."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in names & set(catalog.list()):
            catalog.remove(name)
