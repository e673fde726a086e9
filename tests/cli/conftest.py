from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

TINY = """
_BASE_: {base}
MODEL:
  DEVICE: cpu
  RESNETS: {{STEM_OUT_CHANNELS: 8, RES2_OUT_CHANNELS: 8}}
  FPN: {{OUT_CHANNELS: 8}}
  ROI_BOX_HEAD: {{FC_DIM: 16}}
  ROI_HEADS: {{SCORE_THRESH_TEST: 0.0}}
INPUT: {{MIN_SIZE_TEST: 64, MIN_SIZE_TRAIN: [64]}}
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 2, MAX_ITER: 2}}
OUTPUT_DIR: {out}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """A config of a tiny detector, random weights for it, and a folder with two images."""
    from lucidet.checkpoint import DetectionCheckpointer
    from lucidet.config import get_cfg
    from lucidet.modeling import build_model

    folder: Path = tmp_path_factory.mktemp("tiny")
    base = Path(__file__).parents[2] / "configs" / "shapes" / "faster_rcnn_R_18_FPN.yaml"
    config = folder / "tiny.yaml"
    config.write_text(TINY.format(base=base, out=folder / "run"))
    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    DetectionCheckpointer(build_model(cfg), save_dir=str(folder)).save("weights")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.png"):
        pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    return SimpleNamespace(
        folder=folder, config=config, weights=folder / "weights.pth", images=folder / "images"
    )


@pytest.fixture
def tiny_dataset(tmp_path, monkeypatch) -> Path:
    """The data set "shapes", a few images, where LUCIDET_DATASETS points."""
    from lucidet.data.datasets.shapes import write_shapes

    write_shapes(tmp_path / "shapes", 4, 2)
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    return tmp_path


def read_json(path: Path) -> list:
    return json.loads(path.read_text())
