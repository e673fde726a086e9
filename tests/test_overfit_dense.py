"""The dense detectors learn eight real images by heart, through the trainer and the evaluator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lucidet.config import CfgNode, get_cfg
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets import register_coco_instances
from lucidet.engine import DefaultTrainer

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "COCO-Detection"
NAME = "overfit_dense"
NUM_IMAGES = 8

pytestmark = pytest.mark.slow

#: a ResNet-18 of a quarter of the width, images of 160 pixels, AdamW: 20 seconds on two cores
RECIPE: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 64,
    "MODEL.FPN.NORM": "GN",
    "MODEL.RETINANET.NUM_CONVS": 2,
    "MODEL.RETINANET.NORM": "GN",
    "MODEL.ATSS.NUM_CONVS": 2,
    "MODEL.FCOS.NUM_CONVS": 2,
    "INPUT.MIN_SIZE_TRAIN": (120,),
    "INPUT.MIN_SIZE_TEST": 120,
    "INPUT.MAX_SIZE_TRAIN": 160,
    "INPUT.MAX_SIZE_TEST": 160,
    "INPUT.RANDOM_FLIP": "none",
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": NUM_IMAGES,
    "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.BASE_LR": 0.003,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.WARMUP_ITERS": 10,
    "SOLVER.MAX_ITER": 60,
    "TEST.EVAL_PERIOD": 0,
}


def eight_images(coco: Path, out: Path) -> Path:
    """Write the annotations of the images whose smallest object is largest; return the file."""
    data = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    smallest: dict[int, float] = {}
    for annotation in data["annotations"]:
        side = 0.0 if annotation["iscrowd"] else min(annotation["bbox"][2:])
        image = annotation["image_id"]
        smallest[image] = min(side, smallest.get(image, side))
    longer = {image["id"]: max(image["height"], image["width"]) for image in data["images"]}
    clearest = sorted(smallest, key=lambda image: -smallest[image] / longer[image])[:NUM_IMAGES]
    data["images"] = [image for image in data["images"] if image["id"] in clearest]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in clearest]
    file = out / "eight.json"
    file.write_text(json.dumps(data))
    return file


@pytest.fixture(scope="module")
def eight(datasets_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Register the eight images; the data set's name."""
    coco = datasets_dir / "coco"
    file = eight_images(coco, tmp_path_factory.mktemp("eight"))
    register_coco_instances(NAME, {}, str(file), str(coco / "val2017"))
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def overfitting(file: str, folder: Path, **changes: Any) -> CfgNode:
    """Return one of the published configs, made small; keys of `changes` have __ for a dot."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / file))
    recipe = {**RECIPE, "DATASETS.TRAIN": (NAME,), "DATASETS.TEST": (NAME,)}
    recipe |= {"OUTPUT_DIR": str(folder)} | {k.replace("__", "."): v for k, v in changes.items()}
    cfg.merge_from_list([item for pair in recipe.items() for item in pair])
    return cfg


def ap50_of(cfg: CfgNode) -> float:
    """Train from random weights; return AP50 on the training images."""
    cfg.SEED = 1
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer.train()["bbox"]["AP50"]


CASES = {
    "RetinaNet": ("retinanet_R_50_FPN_1x.yaml", {}),
    "FCOS": ("fcos_R_50_FPN_1x.yaml", {}),
    **{
        f"ATSS-{positives}-{regression}": (
            "atss_R_50_FPN_1x.yaml",
            {
                "MODEL__ATSS__POSITIVE_TYPE": positives,
                "MODEL__ATSS__REGRESSION_TYPE": regression,
                # distances start at one stride, far from most objects' sizes
                "SOLVER__MAX_ITER": 100 if regression == "POINT" else 60,
            },
        )
        for positives, regression in product(("ATSS", "TOPK", "IoU", "SSC"), ("BOX", "POINT"))
    },
    "ATSS-DCN": (
        "atss_dcnv2_R_50_FPN_1x.yaml",
        # deformable convolutions stand in bottlenecks, which a ResNet-18 has none of, and are slow
        # on CPUs: without p3, the largest level, and in two stages instead of three
        {
            "MODEL__RESNETS__DEPTH": 50,
            "MODEL__RESNETS__RES2_OUT_CHANNELS": 32,
            "MODEL__RESNETS__WIDTH_PER_GROUP": 8,
            "MODEL__RESNETS__DEFORM_ON_PER_STAGE": [False, False, True, True],
            "MODEL__ATSS__IN_FEATURES": ["p4", "p5", "p6", "p7"],
            "MODEL__ATSS__ANCHOR_STRIDES": (16, 32, 64, 128),
            "MODEL__ATSS__ANCHOR_SIZES": (64, 128, 256, 512),
            "SOLVER__MAX_ITER": 220,
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_overfits(case: str, eight: str, tmp_path: Path) -> None:
    file, changes = CASES[case]
    assert ap50_of(overfitting(file, tmp_path, **changes)) >= 80
