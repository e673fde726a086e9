"""Config and weights against the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.doctor.material import Material, Split
from lucidet.doctor.settings import check_settings
from lucidet.doctor.weights import check_weights
from lucidet.structures import BoxMode


def _config(*overrides: object) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(find_config("faster_rcnn_R_18_FPN"))
    cfg.merge_from_list(
        [
            "MODEL.WEIGHTS",
            "",
            "MODEL.BACKBONE.FREEZE_AT",
            0,
            "MODEL.ROI_HEADS.NUM_CLASSES",
            2,
            "MODEL.DEVICE",
            "cpu",
            "SOLVER.OPTIMIZER",
            "SGD",
            "SOLVER.BASE_LR",
            0.01,
            "SOLVER.IMS_PER_BATCH",
            8,
            "SOLVER.MAX_ITER",
            100,
            "SOLVER.STEPS",
            (60, 80),
            "SOLVER.WARMUP_ITERS",
            10,
            *overrides,
        ]
    )
    return cfg


def _material(cfg: CfgNode, side: float = 90.0) -> Material:
    records = [
        {
            "file_name": f"{n}.jpg",
            "image_id": n,
            "width": 640,
            "height": 480,
            "annotations": [
                {
                    "bbox": [9, 9, 9 + side, 9 + side],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": n % 2,
                }
            ],
        }
        for n in range(8)
    ]
    return Material([Split("train", "toy", ["cat", "dog"], records)], cfg)


def _codes(*overrides: object, **options: float) -> set[str]:
    return {one.code for one in check_settings(_material(_config(*overrides), **options))}


def test_a_fitting_config_has_no_finding() -> None:
    assert _codes() == set()


@pytest.mark.parametrize(
    ("code", "overrides"),
    [
        ("num-classes", ["MODEL.ROI_HEADS.NUM_CLASSES", 80]),
        ("learning-rate", ["SOLVER.BASE_LR", 0.2]),
        ("learning-rate", ["SOLVER.BASE_LR", 0.0001]),
        ("learning-rate", ["SOLVER.OPTIMIZER", "ADAMW", "SOLVER.BASE_LR", 0.02]),
        ("schedule", ["SOLVER.MAX_ITER", 100_000, "SOLVER.STEPS", ()]),
        ("schedule", ["SOLVER.IMS_PER_BATCH", 1, "SOLVER.MAX_ITER", 4]),
        ("schedule", ["SOLVER.WARMUP_ITERS", 100]),
        ("schedule", ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", (60, 200)]),
        ("memory", ["SOLVER.IMS_PER_BATCH", 100_000]),
        ("config-unread", ["MODEL.RETINANET.NUM_CLASSES", 5]),
        ("config-refused", ["MODEL.META_ARCHITECTURE", "FasterRCNN"]),
        ("frozen-random", ["MODEL.BACKBONE.FREEZE_AT", 2]),
    ],
)
def test_an_odd_setting_is_found(code: str, overrides: list[object]) -> None:
    assert code in _codes(*overrides)


def test_anchors_that_fit_nothing() -> None:
    assert "anchors" in _codes(side=4.0)


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    from lucidet.modeling import build_model

    return build_model(_config()).state_dict()


def _save(
    path: Path, weights: dict[str, torch.Tensor], classes: tuple[str, ...] = (), **more: object
) -> str:
    from lucidet.checkpoint.description import KEY, Description

    pixels = {"format": "BGR", "mean": [103.5, 116.3, 123.7], "std": [57.4, 57.1, 58.4], **more}
    description = Description(_config().dump(), classes, pixels=pixels)
    torch.save({"model": weights, KEY: description.as_dict()}, path)
    return str(path)


def test_weights(tmp_path: Path, trained: dict[str, torch.Tensor]) -> None:
    def codes(path: str, *overrides: object) -> dict[str, str]:
        cfg = _config(*overrides, "MODEL.WEIGHTS", path)
        return {one.code: one.message for one in check_weights(_material(cfg))}

    whole = _save(tmp_path / "whole.pth", trained, ("cat", "dog"))
    assert codes(whole) == {}
    swapped = _save(tmp_path / "swapped.pth", trained, ("dog", "cat"))
    assert set(codes(swapped)) == {"weights-classes"}
    order = _save(tmp_path / "rgb.pth", trained, ("cat", "dog"), format="RGB")
    assert "INPUT.FORMAT RGB, not BGR" in codes(order)["weights-pixels"]
    unit = _save(tmp_path / "unit.pth", trained, (), mean=[0.41, 0.46, 0.48], std=[0.2, 0.2, 0.2])
    assert "PIXEL_MEAN" in codes(unit)["weights-pixels"]
    other = codes(whole, "MODEL.ROI_HEADS.NUM_CLASSES", 7)
    assert "as expected" in other["weights-partial"]
    half = {k: v for k, v in trained.items() if not k.startswith("roi_heads.box_head")}
    assert (
        "start from random values" in codes(_save(tmp_path / "half.pth", half))["weights-partial"]
    )
    assert set(
        codes(
            whole,
            "MODEL.META_ARCHITECTURE",
            "GeneralizedRCNN",
            "MODEL.RESNETS.DEPTH",
            50,
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            256,
        )
    ) == {"weights-architecture"}
    assert set(codes(str(tmp_path / "absent.pth"))) == {"weights-unreadable"}
    (tmp_path / "cut.pth").write_bytes(Path(whole).read_bytes()[:5000])
    assert set(codes(str(tmp_path / "cut.pth"))) == {"weights-unreadable"}
