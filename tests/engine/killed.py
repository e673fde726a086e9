"""A tiny training that can be killed and resumed; run as ``python -m tests.engine.killed CONFIG``."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog
from lucidet.data.datasets import register_coco_instances
from lucidet.data.dataset_mapper import DatasetMapper
from lucidet.engine import DefaultTrainer, launch
from lucidet.utils.env import seed_all_rng

NAME = "killed_tests_tiny"
KINDS = ("GeneralizedRCNN", "RetinaNet", "ATSS", "FCOS")
#: values that differ between two runs of the same training
CLOCK = {"time", "data_time", "eta_seconds"}


def write_dataset(folder: Path, same_size: bool = False) -> None:
    """Write eight pictures, wide and high ones, with one or two boxes each."""
    drawn = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(1, 9):
        height, width = (48, 64) if same_size or i % 3 else (64, 48)
        pixels = drawn.integers(0, 80, (height, width, 3), dtype=np.uint8)
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for k in range(1 + i % 2):
            x, y = 3 * i + 4 * k, 4 + 10 * k
            pixels[y : y + 24, x : x + 20] = (220, 30, 30) if i % 2 else (30, 30, 220)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "bbox": [x, y, 20, 24]}
                | {"category_id": 1 + i % 2, "area": 480, "iscrowd": 0}
            )
        Image.fromarray(pixels).save(folder / f"{i}.png")
    categories = [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "tiny.json").write_text(json.dumps(content))


def config(folder: Path, kind: str, out: str = "out") -> Any:
    """Return the config of a tiny detector on the pictures in `folder`."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = False
    cfg.MODEL.META_ARCHITECTURE = kind
    levels = ["res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    if kind == "GeneralizedRCNN":
        levels = ["res2", *levels]
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 60
        cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 30
        cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 32
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
        cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
        cfg.SOLVER.AMP.ENABLED = True
        cfg.SOLVER.AMP.DTYPE = "bf16"
        cfg.SOLVER.EMA.ENABLED = True
    else:
        section = cfg.MODEL[kind.upper()]
        section.NUM_CLASSES = 2
        section.NUM_CONVS = 1
        section.NORM = ""
        section.SCORE_THRESH_TEST = 0.0
        section.TOPK_CANDIDATES_TEST = 30
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = levels
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.INPUT.MIN_SIZE_TRAIN = (40, 48)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.INPUT.CROP.ENABLED = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 0.01
    cfg.SOLVER.MAX_ITER = 14
    cfg.SOLVER.STEPS = (9,)
    cfg.SOLVER.WARMUP_ITERS = 3
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    cfg.SOLVER.CHECKPOINTS_KEPT = 2
    cfg.SOLVER.BEST_CHECKPOINT.METRIC = "bbox/AR"
    cfg.TEST.EVAL_PERIOD = 4
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    cfg.OUTPUT_DIR = str(folder / out)
    return cfg


class Jitter:
    """User code in a mapper that draws from all three generators."""

    def __init__(self, mapper: Any) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        mapped = self.mapper(record)
        drawn = random.random() + np.random.rand() + float(torch.rand(1))
        mapped["image"] = (mapped["image"] * (0.9 + 0.03 * drawn)).clamp(max=255).to(torch.uint8)
        return mapped
