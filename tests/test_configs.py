"""The files of configs/: they load, say what they give, and hold detectron2's values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lucidet import model_zoo
from lucidet.config import CfgNode, get_cfg
from lucidet.config.checks import check_supported

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
PUBLISHED = (
    "COCO-Detection/",
    "COCO-InstanceSegmentation/",
    "COCO-Keypoints/keypoint",
    "Cityscapes/",
    "Detectron1-Comparisons/",
    "LVISv0.5-InstanceSegmentation/",
    "LVISv1-InstanceSegmentation/",
    "Misc/",
    "PascalVOC-Detection/",
)
DETECTION = [name for name in FILES if name.startswith(PUBLISHED)]
# those that detectron2 has under the same names; fast_rcnn needs proposals from files
DETECTRON2 = [
    *(f"faster_rcnn_R_50_{neck}_{times}x" for neck in ("C4", "DC5", "FPN") for times in (1, 3)),
    *(f"faster_rcnn_R_101_{neck}_3x" for neck in ("C4", "DC5", "FPN")),
    *("faster_rcnn_X_101_32x8d_FPN_3x", "rpn_R_50_C4_1x", "rpn_R_50_FPN_1x"),
    *("retinanet_R_50_FPN_1x", "retinanet_R_50_FPN_3x", "retinanet_R_101_FPN_3x"),
]


# likewise, with masks and keypoints
FURTHER = {
    "COCO-InstanceSegmentation": [
        *(f"mask_rcnn_R_50_{neck}_{times}x" for neck in ("C4", "DC5", "FPN") for times in (1, 3)),
        *(f"mask_rcnn_R_101_{neck}_3x" for neck in ("C4", "DC5", "FPN")),
        "mask_rcnn_X_101_32x8d_FPN_3x",
    ],
    "COCO-Keypoints": [
        *(f"keypoint_rcnn_R_{name}" for name in ("50_FPN_1x", "50_FPN_3x", "101_FPN_3x")),
        "keypoint_rcnn_X_101_32x8d_FPN_3x",
    ],
    "Cityscapes": ["mask_rcnn_R_50_FPN"],
    "Detectron1-Comparisons": ["keypoint_rcnn_R_50_FPN_1x", "mask_rcnn_R_50_FPN_noaug_1x"],
    "LVISv0.5-InstanceSegmentation": [
        f"mask_rcnn_{name}_FPN_1x" for name in ("R_50", "R_101", "X_101_32x8d")
    ],
    "LVISv1-InstanceSegmentation": [
        f"mask_rcnn_{name}_FPN_1x" for name in ("R_50", "R_101", "X_101_32x8d")
    ],
    "Misc": [
        *(f"cascade_mask_rcnn_R_50_FPN_{times}x" for times in (1, 3)),
        "cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv",
        "mask_rcnn_R_50_FPN_1x_cls_agnostic",
        *(f"mask_rcnn_R_50_FPN_{times}x_dconv_c3-c5" for times in (1, 3)),
        *(f"mask_rcnn_R_50_FPN_3x_{norm}" for norm in ("gn", "syncbn")),
        "scratch_mask_rcnn_R_50_FPN_3x_gn",
        *(f"scratch_mask_rcnn_R_50_FPN_9x_{norm}" for norm in ("gn", "syncbn")),
    ],
}
NOT_PUBLISHED = ("LVISv1-InstanceSegmentation/", "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic")


def load(name: str) -> CfgNode:
    path = name if "/" in name else f"COCO-Detection/{name}.yaml"
    return model_zoo.get_config(path)


def value(cfg: CfgNode, key: str) -> object:
    node: object = cfg
    for name in key.split("."):
        node = node[name]  # type: ignore[index]
    return node


@pytest.mark.parametrize("name", FILES)
def test_loads(name: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    check_supported(cfg)
    again = get_cfg()
    again.merge_from_other_cfg(CfgNode.load_cfg(cfg.dump()))
    assert again == cfg


@pytest.mark.parametrize("name", DETECTION)
def test_header_states_result_cost_and_command(name: str) -> None:
    head = (CONFIGS / name).read_text(encoding="utf-8").split("\n_BASE_")[0]
    assert f"--config-file configs/{name}" in head
    if not re.search("no (published )?figure", head, re.IGNORECASE):
        assert re.search(r"\d\d\.\d (box AP|mask AP|recall)|not trained", head)
        assert "GPU" in head


@pytest.mark.parametrize("name", DETECTRON2)
def test_detectron2s_configs_are_here(name: str) -> None:
    cfg = load(name)
    assert cfg.MODEL.WEIGHTS.startswith("detectron2://ImageNetPretrained/")
    long = name.endswith("3x")
    assert (270000 if long else 90000) == cfg.SOLVER.MAX_ITER
    assert ((210000, 250000) if long else (60000, 80000)) == cfg.SOLVER.STEPS
    assert cfg.SOLVER.IMS_PER_BATCH == 16
    assert (0.01 if "retinanet" in name else 0.02) == cfg.SOLVER.BASE_LR
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 672, 704, 736, 768, 800)
    assert cfg.DATASETS.TRAIN == ("coco_2017_train",)
    assert f"/COCO-Detection/{name}/" in model_zoo.get_checkpoint_url(f"COCO-Detection/{name}.yaml")


@pytest.mark.parametrize("name", [f"{d}/{name}" for d, names in FURTHER.items() for name in names])
def test_detectron2s_configs_with_masks_and_keypoints_are_here(name: str) -> None:
    cfg = load(f"{name}.yaml")
    assert cfg.MODEL.MASK_ON is not ("keypoint" in name)
    assert cfg.MODEL.KEYPOINT_ON is ("keypoint" in name)
    if not name.startswith(NOT_PUBLISHED):
        assert f"/{name}/" in model_zoo.get_checkpoint_url(f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
            {
                "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
                "MODEL.ROI_MASK_HEAD.CONV_DIM": 256,
                "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
                "SOLVER.MAX_ITER": 90000,
                "INPUT.MASK_FORMAT": "polygon",
            },
        ),
        (
            "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x.yaml",
            {
                "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
                "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
                "SOLVER.MAX_ITER": 270000,
            },
        ),
        (
            "COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x.yaml",
            {
                "MODEL.ROI_HEADS.NUM_CLASSES": 1,
                "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
                "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1500,
                "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (512,) * 8,
                "DATASETS.TRAIN": ("keypoints_coco_2017_train",),
            },
        ),
        (
            "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv.yaml",
            {"MODEL.ROI_MASK_HEAD.NUM_CONV": 8, "MODEL.ROI_MASK_HEAD.NORM": "GN"},
        ),
        (
            "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
            {"MODEL.ROI_HEADS.NUM_CLASSES": 1203, "TEST.DETECTIONS_PER_IMAGE": 300},
        ),
        (
            "faster_rcnn_R_50_FPN_1x",
            {
                "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
                "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
                "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
                "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
                "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
                "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
            },
        ),
        (
            "faster_rcnn_R_50_C4_1x",
            {
                "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
                "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
                "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
                "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
            },
        ),
        (
            "faster_rcnn_R_101_DC5_3x",
            {"MODEL.RESNETS.RES5_DILATION": 2, "MODEL.RESNETS.DEPTH": 101},
        ),
        (
            "faster_rcnn_X_101_32x8d_FPN_3x",
            {
                "MODEL.RESNETS.NUM_GROUPS": 32,
                "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
                "MODEL.RESNETS.STRIDE_IN_1X1": False,
                "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
            },
        ),
        ("rpn_R_50_C4_1x", {"MODEL.RPN.PRE_NMS_TOPK_TEST": 12000}),
        ("rpn_R_50_FPN_1x", {"MODEL.RPN.POST_NMS_TOPK_TEST": 2000}),
        (
            "retinanet_R_50_FPN_1x",
            {
                "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
                "MODEL.FPN.TOP_BLOCK_IN_FEATURE": "res5",
                "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
            },
        ),
        (
            "atss_dcnv2_R_101_FPN_2x",
            {
                "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
                "MODEL.RESNETS.DEFORM_MODULATED": True,
                "MODEL.ATSS.USE_DCN_IN_TOWER": True,
                "MODEL.LEGACY_PLUS_ONE": False,
                "SOLVER.MAX_ITER": 180000,
                "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
            },
        ),
        ("fcos_R_50_FPN_1x", {"MODEL.FPN.TOP_BLOCK_IN_FEATURE": "p5"}),
    ],
)
def test_values(name: str, values: dict[str, object]) -> None:
    cfg = load(name)
    assert {key: value(cfg, key) for key in values} == values


def test_model_zoo_files() -> None:
    for name in FILES:
        file = Path(model_zoo.get_config_file(name))
        assert file.read_bytes() == (CONFIGS / name).read_bytes()
    match = r"no config COCO-Detection/faster_rcnn_R_50_FPN_2x.yaml; the nearest are .*R_50_FPN_"
    with pytest.raises(RuntimeError, match=match):
        model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_2x.yaml")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("faster_rcnn_R_50_C4_1x", "137257644/model_final_721ade"),
        ("faster_rcnn_R_50_DC5_1x", "137847829/model_final_51d356"),
        ("faster_rcnn_R_50_FPN_1x", "137257794/model_final_b275ba"),
        ("faster_rcnn_R_50_C4_3x", "137849393/model_final_f97cb7"),
        ("faster_rcnn_R_50_DC5_3x", "137849425/model_final_68d202"),
        ("faster_rcnn_R_50_FPN_3x", "137849458/model_final_280758"),
        ("faster_rcnn_R_101_C4_3x", "138204752/model_final_298dad"),
        ("faster_rcnn_R_101_DC5_3x", "138204841/model_final_3e0943"),
        ("faster_rcnn_R_101_FPN_3x", "137851257/model_final_f6e8b1"),
        ("faster_rcnn_X_101_32x8d_FPN_3x", "139173657/model_final_68b088"),
        ("retinanet_R_50_FPN_1x", "190397773/model_final_bfca0b"),
        ("retinanet_R_50_FPN_3x", "190397829/model_final_5bd44e"),
        ("retinanet_R_101_FPN_3x", "190397697/model_final_971ab9"),
        ("rpn_R_50_C4_1x", "137258005/model_final_450694"),
        ("rpn_R_50_FPN_1x", "137258492/model_final_02ce48"),
        ("fast_rcnn_R_50_FPN_1x", "137635226/model_final_e5f7ce"),
        ("PascalVOC-Detection/faster_rcnn_R_50_C4", "142202221/model_final_b1acc2"),
        (
            "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x",
            "137781054/model_final_7ab50c",
        ),
    ],
)
def test_model_zoo_has_every_box_detector_of_detectron2s(name: str, file: str) -> None:
    """Against the list that detectron2 publishes."""
    name = name if "/" in name else f"COCO-Detection/{name}"
    url = f"https://dl.fbaipublicfiles.com/detectron2/{name}/{file}.pkl"
    assert model_zoo.get_checkpoint_url(f"{name}.yaml") == url


def test_pascal_voc_configs() -> None:
    for neck in ("C4", "FPN"):
        cfg = model_zoo.get_config(f"PascalVOC-Detection/faster_rcnn_R_50_{neck}.yaml")
        assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 20
        assert cfg.DATASETS.TRAIN == ("voc_2007_trainval", "voc_2012_trainval")
        assert tuple(range(480, 801, 32)) == cfg.INPUT.MIN_SIZE_TRAIN
        assert (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER) == ((12000, 16000), 18000)
        assert cfg.SOLVER.WARMUP_ITERS == 100


def test_model_zoo_weights() -> None:
    name = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
    address = "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_1x/"
    assert model_zoo.get_checkpoint_url(name) == address + "137257794/model_final_b275ba.pkl"
    assert model_zoo.get_config(name, trained=True).MODEL.WEIGHTS.startswith(address)
    assert model_zoo.get_config(name).MODEL.WEIGHTS.endswith("MSRA/R-50.pkl")
    with pytest.raises(RuntimeError, match="no published weights for COCO-Detection/atss_R_50"):
        model_zoo.get_checkpoint_url("COCO-Detection/atss_R_50_FPN_1x.yaml")
