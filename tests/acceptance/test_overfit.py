"""A small Faster R-CNN, Mask R-CNN and Keypoint R-CNN overfit eight real images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets import register_coco_instances
from lucidet.data.datasets.builtin_meta import _get_builtin_metadata
from lucidet.engine import DefaultTrainer
from lucidet.utils.env import seed_all_rng

BASE = Path(__file__).parents[2] / "configs" / "shapes" / "faster_rcnn_R_18_FPN.yaml"
NAME = "acceptance_eight_images"
# of val2017: one to three objects each, none below 1/33 of its image, no crowd regions
IMAGE_IDS = (802, 22192, 165518, 357501, 377575, 407574, 519208, 549055)


# of val2017: one person each, large, with most of its keypoints labelled
PERSON_IDS = (368212, 406129, 153797, 109313, 343803, 181303, 549055, 165518)


@pytest.fixture
def eight_images(datasets_dir: Path, tmp_path: Path) -> Iterator[str]:
    """The name of a dataset of `IMAGE_IDS` with COCO's own 80 categories."""
    yield from _registered(datasets_dir, tmp_path, "instances", IMAGE_IDS, {})


@pytest.fixture
def eight_persons(datasets_dir: Path, tmp_path: Path) -> Iterator[str]:
    """The name of a dataset of `PERSON_IDS` with keypoints."""
    metadata = _get_builtin_metadata("coco_person")
    yield from _registered(datasets_dir, tmp_path, "person_keypoints", PERSON_IDS, metadata)


def _registered(
    folder: Path, out: Path, kind: str, ids: tuple[int, ...], metadata: dict[str, Any]
) -> Iterator[str]:
    """Register the chosen images of val2017 while the caller goes on; the dataset's name."""
    source = folder / "coco" / "annotations" / f"{kind}_val2017.json"
    content = json.loads(source.read_text(encoding="utf-8"))
    content["images"] = [i for i in content["images"] if i["id"] in ids]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    assert len(content["images"]) == len(ids)
    file = out / "eight.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    register_coco_instances(NAME, metadata, str(file), str(folder / "coco" / "val2017"))
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def small_config(name: str, out: Path) -> Any:
    """The demo's detector, for COCO's classes and the size of the objects in these images."""
    cfg = get_cfg()
    cfg.merge_from_file(str(BASE))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SOLVER.BASE_LR = 0.001
    cfg.SOLVER.MAX_ITER = 100
    cfg.SOLVER.WARMUP_ITERS = 10
    cfg.OUTPUT_DIR = str(out)
    return cfg


def trained(cfg: Any) -> dict[str, Any]:
    """Train from random weights; return the results on the training images."""
    seed_all_rng(cfg.SEED)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results is not None
    return results


@pytest.mark.slow
def test_faster_rcnn_learns_eight_images(eight_images: str, tmp_path: Path) -> None:
    results = trained(small_config(eight_images, tmp_path / "out"))
    assert results["bbox"]["AP50"] >= 80, results["bbox"]


@pytest.mark.slow
def test_mask_rcnn_overfits_eight_images(eight_images: str, tmp_path: Path) -> None:
    cfg = small_config(eight_images, tmp_path / "out")
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 64
    cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    cfg.SOLVER.MAX_ITER = 180
    cfg.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO = 2
    results = trained(cfg)
    assert results["segm"]["AP50"] >= 80, results["segm"]


@pytest.mark.slow
def test_keypoint_rcnn_overfits_eight_images(eight_persons: str, tmp_path: Path) -> None:
    cfg = small_config(eight_persons, tmp_path / "out")
    cfg.MODEL.KEYPOINT_ON = True
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (64, 64)
    cfg.MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO = 2
    cfg.SOLVER.BASE_LR = 0.002
    cfg.SOLVER.MAX_ITER = 150
    results = trained(cfg)
    assert results["keypoints"]["AP50"] >= 70, results["keypoints"]
