"""The model's classes against those of the data sets, with and without MODEL.CLASS_MAP."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from lucidet.config import get_cfg
from lucidet.data import MetadataCatalog
from lucidet.engine import DefaultTrainer
from lucidet.engine.checks import (
    check_classes_of_test_data,
    check_classes_of_training_data,
    check_schedule,
    check_test_datasets,
    warn_of_frozen_random_weights,
)

# the tiny data set has two classes: blue and red
CASES = [  # classes of the model, MODEL.CLASS_MAP, what training says, what evaluation says
    (2, [], "", ""),
    (2, [1, 0], "", ""),
    (4, [-1, 1, -1, 0], "", ""),
    (3, [], r"NUM_CLASSES is 3.*2 classes \(blue, red\).*set .*NUM_CLASSES 2", "NUM_CLASSES is 3"),
    (3, [0, 1, 1], r"CLASS_MAP names 2 .*has 2 classes .*once; set MODEL\.CLASS_MAP \[\]", ""),
    (1, [1], r"CLASS_MAP names 1 .*has 2 classes", ""),
    (1, [-1], r"CLASS_MAP names 0 .*has 2 classes", ""),
    (
        3,
        [0, 1, 2],
        r"CLASS_MAP names 3 .*has 2 classes",
        r"CLASS_MAP\[2\] is 2, .*in 0\.\.1, or -1",
    ),
]


@pytest.mark.parametrize(("count", "class_map", "training", "testing"), CASES)
def test_classes_against_data(
    tiny_cfg: Any, count: int, class_map: list[int], training: str, testing: str
) -> None:
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = count
    tiny_cfg.MODEL.CLASS_MAP = class_map
    name = tiny_cfg.DATASETS.TRAIN[0]
    DefaultTrainer.build_test_loader(tiny_cfg, name)  # names of classes come with the annotations
    for message, check in (
        (training, lambda: check_classes_of_training_data(tiny_cfg)),
        (testing, lambda: check_classes_of_test_data(tiny_cfg, name)),
    ):
        if message:
            with pytest.raises(ValueError, match=message):
                check()
        else:
            check()


def test_evaluation_names_too_many_and_too_few_classes(tiny_cfg: Any, caplog: Any) -> None:
    """Before the first image goes through the model."""
    logging.getLogger("lucidet").addHandler(caplog.handler)
    tiny_cfg.DATASETS.TEST = tiny_cfg.DATASETS.TRAIN
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 90
    model = DefaultTrainer.build_model(tiny_cfg)
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 90.*2 classes.*MODEL\.CLASS_MAP"):
        DefaultTrainer.test(tiny_cfg, model)
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    check_classes_of_test_data(tiny_cfg, tiny_cfg.DATASETS.TEST[0])
    assert "NUM_CLASSES is 1, but data set" in caplog.text


@pytest.mark.parametrize("architecture", ["ProposalNetwork", "SomebodysDetector"])
def test_architectures_without_known_classes_are_passed_over(
    tiny_cfg: Any, architecture: str
) -> None:
    tiny_cfg.MODEL.META_ARCHITECTURE = architecture
    check_classes_of_training_data(tiny_cfg)
    check_classes_of_test_data(tiny_cfg, tiny_cfg.DATASETS.TRAIN[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.MAX_ITER", "50", "SOLVER.WARMUP_ITERS", "1000"], "never reaches BASE_LR"),
        (["SOLVER.MAX_ITER", "50", "SOLVER.WARMUP_ITERS", "5"], ""),
    ],
)
def test_a_warm_up_longer_than_the_run_is_reported(caplog, words, message):
    cfg = get_cfg()
    cfg.merge_from_list(words)
    check_schedule(cfg)
    assert message in caplog.text
    assert bool(caplog.text) == bool(message)


def test_an_empty_run_is_an_error():
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 0
    with pytest.raises(ValueError, match=r"SOLVER.MAX_ITER must be positive, got 0"):
        check_schedule(cfg)


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ([], ["FREEZE_AT is 2", "MODEL.RESNETS.NORM is FrozenBN"]),
        (["MODEL.WEIGHTS", "w.pth"], []),
        (["MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "GN"], []),
        (["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"], []),
    ],
)
def test_frozen_random_weights_are_reported(caplog, words, messages):
    cfg = get_cfg()
    cfg.merge_from_list(words)
    warn_of_frozen_random_weights(cfg)
    assert all(message in caplog.text for message in messages)
    assert len(caplog.records) == len(messages)


def test_test_data_are_looked_at_before_the_training(tmp_path, monkeypatch):
    cfg = get_cfg()
    check_test_datasets(cfg)
    cfg.DATASETS.TEST = ("coco_2017_vall",)
    with pytest.raises(ValueError, match="coco_2017_val"):
        check_test_datasets(cfg)
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    cfg.DATASETS.TEST = ("coco_2017_val",)
    with pytest.raises(ValueError, match=r"coco_2017_val.* are not at .*instances_val2017.json"):
        check_test_datasets(cfg)


@pytest.mark.parametrize(
    ("key", "field"), [("MASK_ON", "segmentation"), ("KEYPOINT_ON", "keypoints")]
)
def test_masks_and_keypoints_to_evaluate_are_looked_for(
    tiny_cfg: Any, key: str, field: str
) -> None:
    tiny_cfg.DATASETS.TEST = tiny_cfg.DATASETS.TRAIN
    MetadataCatalog.get(tiny_cfg.DATASETS.TEST[0]).set(evaluator_type="coco")
    check_test_datasets(tiny_cfg)
    tiny_cfg.MODEL[key] = True
    with pytest.raises(
        ValueError, match=rf"annotation .*image_id.* has no {field}, as .*MODEL.{key}"
    ):
        check_test_datasets(tiny_cfg)
