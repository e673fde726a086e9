"""What the tests of moved code share: a small detector, and the start of a well-known tutorial.

Moved code is a program as people wrote it for detectron2 that runs when the import is renamed, and
only that. The snippets are short forms of what tutorials and projects do; ``shrink(cfg)`` makes the
detector tiny, which is the only thing added to them. The fixture ``run`` (conftest) runs them.
"""

from __future__ import annotations

from typing import Any


def shrink(cfg: Any) -> Any:
    """Make any detector of the zoo small enough for a test."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.NORM = "BN"  # without weights frozen statistics let values explode
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.STEPS = ()
    return cfg


BALLOONS = """
import os, random
import numpy as np
from PIL import Image
from detectron2.structures import BoxMode
from detectron2.data import DatasetCatalog, MetadataCatalog

def get_balloon_dicts(img_dir):
    dataset_dicts = []
    for idx in range(4):
        record = {}
        filename = os.path.join(img_dir, f"{idx}.jpg")
        width, height = Image.open(filename).size
        record["file_name"] = filename
        record["image_id"] = idx
        record["height"] = height
        record["width"] = width
        poly = [10.5, 10.5, 40.5, 10.5, 40.5, 40.5, 10.5, 40.5]
        obj = {
            "bbox": [np.min(poly[::2]), np.min(poly[1::2]), np.max(poly[::2]), np.max(poly[1::2])],
            "bbox_mode": BoxMode.XYXY_ABS,
            "segmentation": [poly],
            "category_id": 0,
        }
        record["annotations"] = [obj]
        dataset_dicts.append(record)
    return dataset_dicts

for d in ["train", "val"]:
    DatasetCatalog.register("balloon_" + d, lambda d=d: get_balloon_dicts("."))
    MetadataCatalog.get("balloon_" + d).set(thing_classes=["balloon"])
balloon_metadata = MetadataCatalog.get("balloon_train")
"""

CONFIG = """
from detectron2 import model_zoo
from detectron2.config import get_cfg
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
cfg.DATASETS.TRAIN = ("balloon_train",)
cfg.DATASETS.TEST = ()
cfg.DATALOADER.NUM_WORKERS = 2
cfg.SOLVER.IMS_PER_BATCH = 2
cfg.SOLVER.BASE_LR = 0.00025
cfg.SOLVER.MAX_ITER = 2
cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 128
cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
shrink(cfg)
"""
