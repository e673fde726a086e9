"""Files in maskrcnn-benchmark's, FCOS' and ATSS' names, and how tests change and load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lucidet.config import CfgNode, get_cfg
from lucidet.config.files import read_config
from lucidet.config.maskrcnn_benchmark.translate import translate
from tests.config.test_config import write

ATSS = """\
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  RPN_ONLY: True
  ATSS_ON: True
  BACKBONE:
    CONV_BODY: "R-50-FPN-RETINANET"
  RESNETS:
    BACKBONE_OUT_CHANNELS: 256
  RETINANET:
    USE_C5: False
  ATSS:
    ANCHOR_SIZES: (64, 128, 256, 512, 1024)
    ASPECT_RATIOS: (1.0,)
    SCALES_PER_OCTAVE: 1
    USE_DCN_IN_TOWER: False
    POSITIVE_TYPE: 'ATSS'
    TOPK: 9
    REGRESSION_TYPE: 'BOX'
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
INPUT:
  MIN_SIZE_TRAIN: (800,)
  MAX_SIZE_TRAIN: 1333
  MIN_SIZE_TEST: 800
  MAX_SIZE_TEST: 1333
DATALOADER:
  SIZE_DIVISIBILITY: 32
SOLVER:
  BASE_LR: 0.01
  WEIGHT_DECAY: 0.0001
  STEPS: (60000, 80000)
  MAX_ITER: 90000
  IMS_PER_BATCH: 4
  WARMUP_METHOD: "constant"
"""

FASTER = """\
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  BACKBONE:
    CONV_BODY: "R-50-FPN"
  RESNETS:
    BACKBONE_OUT_CHANNELS: 256
  RPN:
    USE_FPN: True
    ANCHOR_STRIDE: (4, 8, 16, 32, 64)
    PRE_NMS_TOP_N_TRAIN: 2000
    PRE_NMS_TOP_N_TEST: 1000
    POST_NMS_TOP_N_TEST: 1000
    FPN_POST_NMS_TOP_N_TEST: 1000
  ROI_HEADS:
    USE_FPN: True
  ROI_BOX_HEAD:
    POOLER_RESOLUTION: 7
    POOLER_SCALES: (0.25, 0.125, 0.0625, 0.03125)
    POOLER_SAMPLING_RATIO: 2
    FEATURE_EXTRACTOR: "FPN2MLPFeatureExtractor"
    PREDICTOR: "FPNPredictor"
    NUM_CLASSES: 21
DATALOADER:
  SIZE_DIVISIBILITY: 32
"""


def edited(text: str, **changes: Any) -> str:
    """Return YAML with values set: ``MODEL__RPN_ONLY=False``; None takes a key out."""
    values = yaml.safe_load(text)
    for path, value in changes.items():
        *sections, name = path.split("__")
        node = values
        for section in sections:
            node = node.setdefault(section, {})
        if value is None:
            del node[name]
        else:
            node[name] = value
    return yaml.safe_dump(values)


def load(tmp_path: Path, text: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "theirs.yaml", text))
    return cfg


def notes_of(tmp_path: Path, text: str) -> str:
    file = write(tmp_path, "theirs.yaml", text)
    return "\n".join(translate(read_config(file), file).notes)
