"""Values that code sets: understood where they have one meaning, refused by key elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lucidet.config import CN, CfgNode, UnknownKeyError, get_cfg


def put(cfg: CfgNode, key: str, value: object) -> object:
    *sections, name = key.split(".")
    for section in sections:
        cfg = cfg[section]
    setattr(cfg, name, value)
    return cfg[name]


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("DATASETS.TRAIN", "cells", ("cells",)),
        ("DATASETS.TEST", ["a", "b"], ("a", "b")),
        ("DATASETS.TEST", "('a', 'b')", ("a", "b")),
        ("DATASETS.TEST", (), ()),
        ("SOLVER.STEPS", 300, (300,)),
        ("SOLVER.STEPS", [600, 800], (600, 800)),
        ("SOLVER.STEPS", ("600", "800"), (600, 800)),
        ("SOLVER.STEPS", (0.5, 1.5), (0.5, 1.5)),
        ("INPUT.MIN_SIZE_TRAIN", 800, (800,)),
        ("MODEL.ROI_HEADS.IN_FEATURES", "res4", ["res4"]),
        ("MODEL.PIXEL_MEAN", np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        ("SOLVER.MAX_ITER", 364 / 4 * 2, 182),
        ("SOLVER.MAX_ITER", np.int64(7), 7),
        ("SOLVER.MAX_ITER", "90000", 90000),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.BASE_LR", 1, 1.0),
        ("SOLVER.BASE_LR", np.float32(0.5), 0.5),
        ("MODEL.MASK_ON", 0, False),
        ("SOLVER.AMP.ENABLED", "True", True),
        ("MODEL.BACKBONE.FREEZE_AT", False, 0),
        ("OUTPUT_DIR", Path("runs/1"), "runs/1"),
        ("MODEL.DEVICE", torch.device("cpu"), "cpu"),
        ("MODEL.WEIGHTS", None, None),
    ],
)
def test_what_has_one_meaning(key, value, meant):
    got = put(get_cfg(), key, value)
    assert got == meant
    assert type(got) is type(meant)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.MAX_ITER", 2.5, "SOLVER.MAX_ITER must be an int such as 40000, got the float 2.5"),
        ("SOLVER.MAX_ITER", "many", "SOLVER.MAX_ITER must be an int"),
        ("SOLVER.BASE_LR", "fast", "SOLVER.BASE_LR must be a float such as 0.001"),
        ("SOLVER.BASE_LR", (0.1,), "SOLVER.BASE_LR must be a float .*got the tuple"),
        ("SOLVER.STEPS", "soon", "SOLVER.STEPS must be a tuple"),
        ("MODEL.PIXEL_MEAN", 128.0, r"MODEL.PIXEL_MEAN must be a list .*write \[128.0\]"),
        ("MODEL.PIXEL_MEAN", "grey", "MODEL.PIXEL_MEAN must be a list"),
        ("MODEL.MASK_ON", 2, "MODEL.MASK_ON must be a bool .*write True or False"),
        ("MODEL.MASK_ON", "no", "MODEL.MASK_ON must be a bool"),
        ("MODEL.WEIGHTS", 7, 'MODEL.WEIGHTS must be a str .*write "7"'),
        ("MODEL.WEIGHTS", {"a": 1}, "MODEL.WEIGHTS cannot hold a dict"),
        ("DATASETS.TRAIN", {"a"}, "DATASETS.TRAIN cannot hold a set"),
    ],
)
def test_what_has_none_is_refused_by_key(key, value, message):
    cfg = get_cfg()
    before = cfg.clone()
    with pytest.raises(ValueError, match=f"code: {message}"):
        put(cfg, key, value)
    assert cfg == before


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("MODEL_WEIGHTS", "MODEL.WEIGHTS"),
        ("model_weights", "MODEL.WEIGHTS"),
        ("SOLVER_BASE_LR", "SOLVER.BASE_LR"),
        ("MODEL.ROI_HEADS_NUM_CLASSES", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("OUTPUTDIR", "OUTPUT_DIR"),
    ],
)
def test_a_path_written_as_one_name(key, meant):
    with pytest.raises(UnknownKeyError, match=f"did you mean '{meant}'"):
        put(get_cfg(), key, "x")


def test_the_type_is_the_defaults_whatever_was_set_before():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.STEPS", "(60000, 80000)", "MODEL.WEIGHTS", "None"])
    assert put(cfg, "SOLVER.STEPS", 40) == (40,)
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS must be a str"):
        put(cfg.clone(), "MODEL.WEIGHTS", 3)


def add_mynet_config(cfg: CfgNode) -> None:
    cfg.SOLVER.BASE_LR = "auto"  # a project that gives the key another meaning
    cfg.MODEL.MYNET = CN({"DEPTH": None, "KIND": 3})


def test_keys_of_a_project_take_any_type():
    cfg = get_cfg()
    add_mynet_config(cfg)
    assert cfg.SOLVER.BASE_LR == "auto"
    for value in (3, "deep", [1], None):
        cfg.MODEL.MYNET.DEPTH = cfg.MODEL.MYNET.KIND = value
        assert value == cfg.MODEL.MYNET.KIND
    cfg.MY_OWN = 1
    cfg.MY_OWN = "text"
    mine = CN({"A": 1})
    mine.A = "text"
    assert mine.A == "text"
