"""Configs in maskrcnn-benchmark's, FCOS' and ATSS' names: the detectors that come of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lucidet.config.checks import check_supported
from tests.config.maskrcnn_benchmark_files import ATSS, FASTER, edited, load, notes_of


@pytest.mark.parametrize(
    ("body", "depth", "groups", "width", "in_1x1", "out", "builder"),
    [
        ("R-50-C4", 50, 1, 64, True, ["res4"], "build_resnet_backbone"),
        ("R-101-C4", 101, 1, 64, True, ["res4"], "build_resnet_backbone"),
        ("R-50-C5", 50, 1, 64, True, ["res5"], "build_resnet_backbone"),
        ("R-50-FPN", 50, 1, 64, True, "fpn", "build_resnet_fpn_backbone"),
        ("R-101-FPN", 101, 1, 64, True, "fpn", "build_resnet_fpn_backbone"),
        ("R-152-FPN", 152, 1, 64, True, "fpn", "build_resnet_fpn_backbone"),
        ("X-101-32x8d-FPN", 101, 32, 8, False, "fpn", "build_resnet_fpn_backbone"),
    ],
)
def test_backbone_forms_of_two_stage_detectors(
    tmp_path: Path,
    body: str,
    depth: int,
    groups: int,
    width: int,
    in_1x1: bool,
    out: Any,
    builder: str,
) -> None:
    text = FASTER
    if "FPN" not in body:
        extractor = "ResNet50Conv5ROIFeatureExtractor"
        text = edited(FASTER, MODEL__ROI_BOX_HEAD__FEATURE_EXTRACTOR=extractor)
    resnets = load(tmp_path, edited(text, MODEL__BACKBONE__CONV_BODY=body)).MODEL
    levels = ["res2", "res3", "res4", "res5"] if out == "fpn" else out
    assert builder == resnets.BACKBONE.NAME
    resnets = resnets.RESNETS
    assert (depth, groups, width) == (resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP)
    assert (in_1x1, levels) == (resnets.STRIDE_IN_1X1, resnets.OUT_FEATURES)


@pytest.mark.parametrize(
    ("body", "changes", "expected"),
    [
        ("R-50-FPN-RETINANET", {}, (50, 1, 64, True)),
        ("R-101-FPN-RETINANET", {}, (101, 1, 64, True)),
        ("X-101-32x8d-FPN-RETINANET", {}, (101, 32, 8, False)),
        ("X-101-64x4d-FPN-RETINANET", {}, (101, 64, 4, False)),
        # as in the authors' files: groups beside an R body
        (
            "R-101-FPN-RETINANET",
            {"NUM_GROUPS": 32, "WIDTH_PER_GROUP": 8, "STRIDE_IN_1X1": False},
            (101, 32, 8, False),
        ),
    ],
)
@pytest.mark.parametrize("flag", ["ATSS_ON", "FCOS_ON", "RETINANET_ON"])
def test_backbone_forms_of_dense_detectors(
    tmp_path: Path, body: str, changes: dict[str, Any], expected: tuple[Any, ...], flag: str
) -> None:
    settings: dict[str, Any] = {f"MODEL__RESNETS__{name}": value for name, value in changes.items()}
    settings |= {"MODEL__BACKBONE__CONV_BODY": body, "MODEL__ATSS_ON": False}
    text = edited(ATSS, **{**settings, f"MODEL__{flag}": True})
    cfg = load(tmp_path, text)
    resnets = cfg.MODEL.RESNETS
    assert expected == (
        resnets.DEPTH,
        resnets.NUM_GROUPS,
        resnets.WIDTH_PER_GROUP,
        resnets.STRIDE_IN_1X1,
    )
    names = {"ATSS_ON": "ATSS", "FCOS_ON": "FCOS", "RETINANET_ON": "RetinaNet"}
    assert names[flag] == cfg.MODEL.META_ARCHITECTURE
    check_supported(cfg)


def test_deformable_stages(tmp_path: Path) -> None:
    cfg = load(
        tmp_path,
        edited(
            ATSS,
            MODEL__RESNETS__STAGE_WITH_DCN="(False, True, True, True)",
            MODEL__RESNETS__WITH_MODULATED_DCN=True,
            MODEL__RESNETS__DEFORMABLE_GROUPS=1,
            MODEL__ATSS__USE_DCN_IN_TOWER=True,
        ),
    )
    assert cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE == [False, True, True, True]
    assert cfg.MODEL.RESNETS.DEFORM_MODULATED is True
    assert cfg.MODEL.ATSS.USE_DCN_IN_TOWER is True


def test_faster_rcnn(tmp_path: Path) -> None:
    cfg = load(tmp_path, FASTER)
    model = cfg.MODEL
    assert model.META_ARCHITECTURE == "GeneralizedRCNN"
    assert model.ROI_HEADS.NAME == "StandardROIHeads"
    assert model.ROI_HEADS.NUM_CLASSES == 20
    assert (model.ROI_BOX_HEAD.NAME, model.ROI_BOX_HEAD.NUM_FC) == ("FastRCNNConvFCHead", 2)
    assert model.ROI_BOX_HEAD.POOLER_TYPE == "ROIAlign"
    assert model.RPN.IN_FEATURES == ["p2", "p3", "p4", "p5", "p6"]
    assert model.ANCHOR_GENERATOR.SIZES == [[32], [64], [128], [256], [512]]
    assert (model.RPN.PRE_NMS_TOPK_TRAIN, model.RPN.POST_NMS_TOPK_TRAIN) == (2000, 1000)
    assert (model.RPN.PRE_NMS_TOPK_TEST, model.RPN.POST_NMS_TOPK_TEST) == (1000, 1000)
    assert model.RPN.BOUNDARY_THRESH == 0
    assert model.RPN.IOU_THRESHOLDS == [0.3, 0.7]


def test_c4_from_two_names_alone(tmp_path: Path) -> None:
    text = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  RPN:
    PRE_NMS_TOP_N_TEST: 6000
    POST_NMS_TOP_N_TEST: 300
    ANCHOR_SIZES: (128, 256, 512)
DATASETS:
  TRAIN: ("coco_2014_train", "coco_2014_valminusminival")
"""
    model = load(tmp_path, text).MODEL
    assert model.ROI_HEADS.NAME == "Res5ROIHeads"
    assert model.RPN.IN_FEATURES == model.ROI_HEADS.IN_FEATURES == ["res4"]
    assert model.ANCHOR_GENERATOR.SIZES == [[128, 256, 512]]
    assert model.RPN.POST_NMS_TOPK_TEST == 300


def test_rpn_only(tmp_path: Path) -> None:
    cfg = load(tmp_path, edited(FASTER, MODEL__RPN_ONLY=True))
    assert cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork"


def test_retinanet(tmp_path: Path) -> None:
    text = edited(ATSS, MODEL__ATSS_ON=None, MODEL__ATSS=None, MODEL__RETINANET_ON=True)
    text = edited(text, MODEL__RETINANET={"USE_C5": True, "NUM_CLASSES": 4, "BBOX_REG_WEIGHT": 4.0})
    cfg = load(tmp_path, text)
    retinanet = cfg.MODEL.RETINANET
    assert retinanet.NUM_CLASSES == 3
    assert cfg.MODEL.FPN.TOP_BLOCK_IN_FEATURE == "res5"
    assert (retinanet.NMS_THRESH_TEST, retinanet.SMOOTH_L1_LOSS_BETA) == (0.4, 0.11)
    assert retinanet.BBOX_REG_WEIGHTS == (10.0, 10.0, 5.0, 5.0)
    sizes = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert sizes[1] == [64 * 2 ** (i / 3) for i in range(3)]
    assert "MODEL.RETINANET.BBOX_REG_WEIGHT has no effect here" in notes_of(tmp_path, text)


def test_fcos(tmp_path: Path) -> None:
    text = edited(ATSS, MODEL__ATSS_ON=None, MODEL__ATSS=None, MODEL__FCOS_ON=True)
    good = {
        "NORM_REG_TARGETS": True,
        "CENTERNESS_ON_REG": True,
        "CENTER_SAMPLING_RADIUS": 1.5,
        "IOU_LOSS_TYPE": "giou",
        "USE_DCN_IN_TOWER": True,
    }
    text = edited(text, MODEL__FCOS=good)
    cfg = load(tmp_path, text)
    assert cfg.MODEL.FCOS.CENTER_SAMPLING_RADIUS == 1.5
    assert cfg.MODEL.FCOS.USE_DCN_IN_TOWER is True
    assert "no counterpart" not in notes_of(tmp_path, text)
    text = edited(text, MODEL__FCOS__IOU_LOSS_TYPE="linear_iou")
    assert "IOU_LOSS_TYPE 'linear_iou' has no counterpart" in notes_of(tmp_path, text)


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"INPUT__MIN_SIZE_TRAIN": 600}, "INPUT.MIN_SIZE_TRAIN", (600,)),
        ({"INPUT__MIN_SIZE_RANGE_TRAIN": "(640, 800)"}, "INPUT.MIN_SIZE_TRAIN", (640, 800)),
        ({"INPUT__MIN_SIZE_RANGE_TRAIN": "(640, 800)"}, "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"),
        ({"INPUT__TO_BGR255": False}, "INPUT.FORMAT", "RGB"),
        (
            {"INPUT__TO_BGR255": False, "INPUT__PIXEL_MEAN": [0.5, 0.4, 0.2]},
            "MODEL.PIXEL_MEAN",
            [127.5, 102.0, 51.0],
        ),
        ({"INPUT__FLIP_PROB_TRAIN": 0.0}, "INPUT.RANDOM_FLIP", "none"),
        ({"DTYPE": "float16"}, "SOLVER.AMP.ENABLED", True),
        ({"TEST__DETECTIONS_PER_IMG": 300}, "TEST.DETECTIONS_PER_IMAGE", 300),
        ({"SOLVER__TEST_PERIOD": 50}, "TEST.EVAL_PERIOD", 50),
        ({"OUTPUT_DIR": "x"}, "OUTPUT_DIR", "x"),
        ({"MODEL__FPN__USE_GN": True}, "MODEL.FPN.NORM", "GN"),
        ({"MODEL__ATSS__POSITIVE_TYPE": "IoU"}, "MODEL.ATSS.IOU_THRESHOLDS", [0.4, 0.5]),
        ({"MODEL__BACKBONE__FREEZE_CONV_BODY_AT": 0}, "MODEL.BACKBONE.FREEZE_AT", 0),
        (
            {"TEST__BBOX_AUG": {"ENABLED": True, "SCALES": "(600, 1000)", "VOTE": True}},
            "TEST.AUG.MIN_SIZES",
            (800, 600, 1000),
        ),
    ],
)
def test_single_keys(tmp_path: Path, changes: dict[str, Any], key: str, value: object) -> None:
    node: Any = load(tmp_path, edited(ATSS, **changes))
    for name in key.split("."):
        node = node[name]
    assert node == (pytest.approx(value) if isinstance(value, list) else value)


def test_width_of_the_pyramid(tmp_path: Path) -> None:
    bare = edited(FASTER, MODEL__RESNETS=None)
    assert load(tmp_path, bare).MODEL.FPN.OUT_CHANNELS == 1024  # their default
    assert "BACKBONE_OUT_CHANNELS isn't given" in notes_of(tmp_path, bare)
    older = edited(bare, MODEL__BACKBONE__OUT_CHANNELS=128)
    assert load(tmp_path, older).MODEL.FPN.OUT_CHANNELS == 128
    both = edited(older, MODEL__RESNETS__BACKBONE_OUT_CHANNELS=256)
    assert load(tmp_path, both).MODEL.FPN.OUT_CHANNELS == 256


def test_what_is_built_into_their_detectors(tmp_path: Path) -> None:
    text = edited(ATSS, MODEL__ATSS_ON=None, MODEL__ATSS=None, MODEL__FCOS_ON=True)
    fcos = load(tmp_path, text).MODEL.FCOS
    assert (fcos.LEARN_SCALES, fcos.LOSS_NORMALIZER) == (True, "batch")
    text = edited(text, MODEL__FCOS_ON=None, MODEL__RETINANET_ON=True)
    assert load(tmp_path, text).MODEL.RETINANET.LOSS_NORMALIZER == "batch"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FASTER, True),
        (edited(FASTER, MODEL__RPN_ONLY=True), True),
        (edited(ATSS, MODEL__ATSS_ON=None, MODEL__ATSS=None, MODEL__FCOS_ON=True), True),
        (ATSS, False),
    ],
)
def test_who_has_no_legacy_boxes_is_told(text: str, told: bool, tmp_path: Path) -> None:
    assert ("boxes differ by up to a pixel" in notes_of(tmp_path, text)) == told
