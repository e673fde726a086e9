"""Configs in maskrcnn-benchmark's, FCOS' and ATSS' names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from lucidet.config import CfgNode, UnknownKeyError, get_cfg
from lucidet.config.checks import check_supported
from lucidet.config.dialect import is_dialect, translate
from lucidet.config.files import read_config
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
        ({"MODEL__ATSS__TOPK": "nine"}, r":\d+: MODEL.ATSS.TOPK must be a int"),
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


def test_what_is_not_built_is_refused_by_its_key(tmp_path: Path) -> None:
    cfg = load(tmp_path, edited(FASTER, MODEL__MASK_ON=True))
    with pytest.raises(ValueError, match=r"MODEL.MASK_ON True asks for masks \(.*theirs.yaml:\d+"):
        check_supported(cfg)


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
def test_recognised(values: dict[str, Any], expected: bool) -> None:
    assert is_dialect(values, get_cfg()._known()) is expected


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


def test_a_file_without_marks_is_recognised_by_most_of_its_keys(tmp_path: Path) -> None:
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
