"""A tiny detector config and a data set of small pictures on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets import register_coco_instances

NAME = "engine_tests_tiny"


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Iterator[str]:
    """Six pictures of 64 x 48 with one box each, two classes; the registered name."""
    random = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, 7):
        pixels = random.integers(0, 80, (48, 64, 3), dtype=np.uint8)
        pixels[10:40, 5 * i : 5 * i + 28] = (220, 30, 30) if i % 2 else (30, 30, 220)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 48, "width": 64})
        box = [5 * i, 10, 28, 30]
        annotations.append(
            {"id": i, "image_id": i, "bbox": box, "category_id": 3 + i % 2, "area": 840}
            | {"iscrowd": 0}
        )
    categories = [{"id": 3, "name": "blue"}, {"id": 4, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "tiny.json").write_text(json.dumps(content))
    register_coco_instances(NAME, {}, str(tmp_path / "tiny.json"), str(tmp_path))
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.fixture
def tiny_cfg(tiny_dataset: str, tmp_path: Path) -> Any:
    """Faster R-CNN with ResNet-18-FPN, narrow, on the tiny data set."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = False
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 100
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.DATASETS.TRAIN = (tiny_dataset,)
    cfg.DATASETS.TEST = (tiny_dataset,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 0.001
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.CHECKPOINT_PERIOD = 2
    cfg.SEED = 5
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    return cfg
