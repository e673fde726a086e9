"""Configs in maskrcnn-benchmark's, FCOS' and ATSS' names: what is recognized, and what is said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from lucidet.config import CfgNode, UnknownKeyError, get_cfg
from lucidet.config.checks import check_supported
from lucidet.config.maskrcnn_benchmark.translate import is_maskrcnn_benchmark
from tests.config.maskrcnn_benchmark_files import ATSS, FASTER, edited, load, notes_of
from tests.config.test_config import write


def test_the_authors_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        cfg = load(tmp_path, ATSS)
    assert "was translated" in caplog.text
    assert "has no effect" not in caplog.text
    model, solver = cfg.MODEL, cfg.SOLVER
    assert model.META_ARCHITECTURE == "ATSS"
    assert model.WEIGHTS == "catalog://ImageNetPretrained/MSRA/R-50"
    assert model.LEGACY_PLUS_ONE is True
    assert model.BACKBONE.NAME == "build_retinanet_resnet_fpn_backbone"
    assert (model.RESNETS.DEPTH, model.FPN.OUT_CHANNELS) == (50, 256)
    assert model.FPN.IN_FEATURES == model.RESNETS.OUT_FEATURES == ["res3", "res4", "res5"]
    assert model.FPN.TOP_BLOCK_IN_FEATURE == "p5"
    assert (model.ATSS.NUM_CLASSES, model.ATSS.TOPK, model.ATSS.ASPECT_RATIOS) == (80, 9, (1.0,))
    assert (model.ATSS.NMS_THRESH_TEST, model.ATSS.SCORE_THRESH_TEST) == (0.6, 0.05)
    assert (solver.BASE_LR, solver.STEPS, solver.IMS_PER_BATCH) == (0.01, (60000, 80000), 4)
    assert cfg.DATASETS.TRAIN == ("coco_2017_train",)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (800,)
    # maskrcnn-benchmark's defaults, where they differ from detectron2's
    assert (solver.WARMUP_METHOD, solver.WARMUP_ITERS) == ("constant", 500)
    assert pytest.approx(1 / 3) == solver.WARMUP_FACTOR
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS) == (2.0, 0.0)
    assert solver.WEIGHT_DECAY_NORM == solver.WEIGHT_DECAY == 0.0001
    assert model.PIXEL_MEAN == [102.9801, 115.9465, 122.7717]
    assert cfg.INPUT.FORMAT == "BGR"
    check_supported(cfg)


def test_origins_are_those_of_the_file(tmp_path: Path) -> None:
    cfg = load(tmp_path, ATSS)
    file = tmp_path / "theirs.yaml"
    assert cfg.origin("MODEL.WEIGHTS") == f"{file}:3"
    assert cfg.origin("MODEL.FPN.TOP_BLOCK_IN_FEATURE") == f"{file}:11"
    assert cfg.origin("SOLVER.WARMUP_ITERS") == f"{file} (maskrcnn-benchmark's default)"
    assert cfg.origin("SOLVER.NESTEROV") == "default"


def test_overrides_come_after_the_translation(tmp_path: Path) -> None:
    cfg = load(tmp_path, ATSS)
    cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.ATSS.NUM_CLASSES", "3"])
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.ATSS.NUM_CLASSES) == ("", 3)


def test_unknown_keys_are_all_named(tmp_path: Path) -> None:
    text = ATSS.replace("TOPK: 9", "TOPKK: 9").replace("STEPS:", "STEP_SIZES:")
    file = tmp_path / "theirs.yaml"
    match = (
        rf"{file}:18: MODEL.ATSS.TOPKK \(did you mean MODEL.ATSS.TOPK\?\)(.|\n)*:33: SOLVER.STEP"
    )
    with pytest.raises(UnknownKeyError, match=match):
        load(tmp_path, text)


def test_keys_without_effect_are_named(tmp_path: Path) -> None:
    text = edited(
        ATSS,
        MODEL__ROI_HEADS={"USE_FPN": True, "BATCH_SIZE_PER_IMAGE": 256},
        TEST={"IMS_PER_BATCH": 8},
        MODEL__ROI_MASK_HEAD={"RESOLUTION": 28},
        DATALOADER={"SIZE_DIVISIBILITY": 64},
    )
    notes = notes_of(tmp_path, text)
    for key in (
        "MODEL.ROI_HEADS.USE_FPN",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
        "TEST.IMS_PER_BATCH",
        "MODEL.ROI_MASK_HEAD.RESOLUTION",
        "DATALOADER.SIZE_DIVISIBILITY 64",
    ):
        assert f"{key} has no effect here" in notes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"MODEL__BACKBONE__CONV_BODY": "MNV2-FPN-RETINANET"}, "CONV_BODY .*the forms are R-50-C4"),
        ({"MODEL__BACKBONE__CONV_BODY": "R-50-FPN"}, "must end in -FPN-RETINANET"),
        ({"MODEL__ATSS_ON": False}, "needs one of ATSS_ON"),
        ({"MODEL__FCOS_ON": True}, "ATSS_ON and FCOS_ON are both on"),
        ({"MODEL__RPN_ONLY": False}, "set RPN_ONLY: True"),
        ({"MODEL__META_ARCHITECTURE": "RetinaNet"}, "META_ARCHITECTURE 'RetinaNet'"),
        ({"MODEL__ATSS__NUM_CLASSES": 1}, "counts the background"),
        ({"MODEL__ATSS__TOPK": "nine"}, r":\d+: MODEL.ATSS.TOPK must be an int"),
        ({"MODEL__RESNETS__STEM_FUNC": "StemWithGN"}, "another norm"),
        ({"MODEL__RESNETS__TRANS_FUNC": "Odd"}, "TRANS_FUNC 'Odd': not built"),
        ({"MODEL__GROUP_NORM__EPSILON": 1e-3}, "EPSILON 0.001: only 1e-05"),
        ({"INPUT__HUE": 0.1}, "HUE 0.1"),
        ({"INPUT__VERTICAL_FLIP_PROB_TRAIN": 0.5}, "flip one way"),
        ({"DTYPE": "float8"}, "float32 or float16"),
        ({"SOLVER__DCONV_OFFSETS_LR_FACTOR": 0.1}, "only 1"),
    ],
)
def test_values_without_counterpart(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(tmp_path, edited(ATSS, **changes))


def test_masks_of_a_dense_detector_are_refused_by_their_key(tmp_path: Path) -> None:
    cfg = load(tmp_path, edited(ATSS, MODEL__MASK_ON=True))
    with pytest.raises(ValueError, match=r"MODEL.MASK_ON True \(.*theirs.yaml:\d+.*boxes only"):
        check_supported(cfg)


MASK_FPN = {"FEATURE_EXTRACTOR": "MaskRCNNFPNFeatureExtractor", "POOLER_SAMPLING_RATIO": 2}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({}, (0, 256, "")),  # res5 and the layer that doubles the side
        (MASK_FPN, (4, 256, "")),
        ({**MASK_FPN, "CONV_LAYERS": (64, 64), "USE_GN": True}, (2, 64, "GN")),
    ],
)
def test_mask_heads(tmp_path: Path, head: dict[str, Any], expected: tuple[int, int, str]) -> None:
    cfg = load(tmp_path, edited(FASTER, MODEL__MASK_ON=True, MODEL__ROI_MASK_HEAD=head))
    check_supported(cfg)
    found = cfg.MODEL.ROI_MASK_HEAD
    assert expected == (found.NUM_CONV, found.CONV_DIM, found.NORM)
    assert found.POOLER_TYPE == "ROIAlign"
    assert head.get("POOLER_SAMPLING_RATIO", 0) == found.POOLER_SAMPLING_RATIO


@pytest.mark.parametrize(
    ("head", "match"),
    [
        ({"FEATURE_EXTRACTOR": "Mine"}, "the forms are"),
        ({**MASK_FPN, "CONV_LAYERS": (64, 32)}, "the same channels"),
        ({"DILATION": 2}, "only 1"),
    ],
)
def test_mask_heads_without_counterpart(tmp_path: Path, head: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(tmp_path, edited(FASTER, MODEL__MASK_ON=True, MODEL__ROI_MASK_HEAD=head))


def test_keypoint_heads(tmp_path: Path) -> None:
    head = {"NUM_CLASSES": 5, "CONV_LAYERS": (64, 64)}
    cfg = load(tmp_path, edited(FASTER, MODEL__KEYPOINT_ON=True, MODEL__ROI_KEYPOINT_HEAD=head))
    check_supported(cfg)
    found = cfg.MODEL.ROI_KEYPOINT_HEAD
    assert (found.NUM_KEYPOINTS, found.CONV_DIMS) == (5, (64, 64))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"MODEL": {"WEIGHTS": "x"}}, False),
        ({"MODEL": {"WEIGHT": "x"}}, False),  # one slip in a file of ours
        ({"MODEL": {"WEIGHT": "x", "RPN": {"NMS_THRESHH": 1}}}, False),
        ({"MODEL": {"WEIGHT": "x", "RPN": {"USE_FPN": True}}}, True),
        ({"MODEL": {"BACKBONE": {"CONV_BODY": "R-50-C4"}}}, True),
        ({"DATALOADER": {"SIZE_DIVISIBILITY": 32}}, True),
    ],
)
def test_recognized(values: dict[str, Any], expected: bool) -> None:
    assert is_maskrcnn_benchmark(values, get_cfg()._known()) is expected


def test_a_users_own_tree_is_left_alone(tmp_path: Path) -> None:
    cfg = CfgNode({"MODEL": {"RPN_ONLY": False}})
    cfg.merge_from_file(write(tmp_path, "own.yaml", "MODEL: {RPN_ONLY: True}"))
    assert cfg.MODEL.RPN_ONLY is True


def test_testing_at_many_scales_that_is_off(tmp_path: Path) -> None:
    """The authors' X-101 files describe it and leave it off."""
    scales = {"ENABLED": False, "VOTE": True, "VOTE_TH": 0.66, "MERGE_TYPE": "soft-vote"}
    text = edited(ATSS, TEST__BBOX_AUG=scales | {"SCALES": "(400, 1800)"})
    assert load(tmp_path, text).TEST.AUG.ENABLED is False
    assert notes_of(tmp_path, text).count("has no effect here: TEST.BBOX_AUG.ENABLED is False") == 4
    text = edited(text, TEST__BBOX_AUG__ENABLED=True)
    assert load(tmp_path, text).TEST.AUG.FUSION == "vote"
    assert "MERGE_TYPE has no effect here: voting has one form" in notes_of(tmp_path, text)


def test_a_file_without_marks_is_recognized_by_most_of_its_keys(tmp_path: Path) -> None:
    """Forks add keys of their own: they are named, the rest isn't."""
    text = """\
MODEL:
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  ROTATED: True
  RPN: {PRE_NMS_TOP_N_TEST: 6000, POST_NMS_TOP_N_TEST: 1000}
"""
    with pytest.raises(UnknownKeyError, match=r"theirs.yaml:3: MODEL.ROTATED") as error:
        load(tmp_path, text)
    assert "WEIGHT" not in str(error.value)
    slips = "MODEL: {WEIGHT: a.pkl, RPN: {NMS_TRESH: 0.5, HEADNAME: x}}\n"
    with pytest.raises(UnknownKeyError, match=r"MODEL.WEIGHT .did you mean MODEL.WEIGHTS"):
        load(tmp_path, slips)


def test_two_of_their_names_in_a_file_of_detectron2s_names(tmp_path: Path) -> None:
    """Two slips; only detectron2 has the rest."""
    text = "VERSION: 2\nMODEL: {WEIGHT: a.pkl, RESNETS: {DEPTH: 50}, ROI_HEADS: {NMS: 0.3}}\n"
    match = r"(?s)2 unknown config keys.*MODEL.WEIGHTS.*MODEL.ROI_HEADS.NMS"
    with pytest.raises(UnknownKeyError, match=match):
        load(tmp_path, text)
