"""CfgNode: merging, unknown keys, origins, reads, copies, dumps."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from lucidet.config import CN, CfgNode, UnknownKeyError, get_cfg, set_global_cfg
from lucidet.config import config as config_module


def write(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)


# ---- overrides and types ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.BASE_LR", "1", 1.0),  # an int where a float is wanted
        ("SOLVER.MAX_ITER", "2", 2),
        ("INPUT.MIN_SIZE_TRAIN", "(600, 800)", (600, 800)),
        ("INPUT.MIN_SIZE_TRAIN", "[600]", (600,)),  # list -> tuple
        ("MODEL.PIXEL_STD", "(1.0, 2.0, 3.0)", [1.0, 2.0, 3.0]),  # tuple -> list
        ("DATASETS.TRAIN", "('coco_2017_val',)", ("coco_2017_val",)),
        ("DATASETS.TRAIN", "()", ()),
        ("MODEL.WEIGHTS", "", ""),
        ("MODEL.WEIGHTS", '""', ""),
        ("MODEL.WEIGHTS", "detectron2://ImageNetPretrained/MSRA/R-50.pkl", None),
        ("OUTPUT_DIR", "2024", "2024"),  # a folder whose name is a number
        ("MODEL.MASK_ON", "False", False),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0.0", 0.0),  # the default is None
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "None", None),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 38.5, 0.2]]", [["bbox", "AP", 38.5, 0.2]]),
    ],
)
def test_override(key: str, text: str, expected: object) -> None:
    cfg = get_cfg()
    cfg.merge_from_list([key, text])
    node: object = cfg
    for name in key.split("."):
        node = getattr(node, name)
    wanted = text if expected is None and text.startswith("detectron2") else expected
    assert node == wanted
    assert type(node) is type(wanted)
    assert cfg.origin(key) == "command line"


@pytest.mark.parametrize(
    ("opts", "match"),
    [
        (["SOLVER.BASE_LR", "fast"], r"SOLVER.BASE_LR must be a float such as 0.001, got .*'fast'"),
        (["SOLVER.MAX_ITER", "9e4"], r"SOLVER.MAX_ITER must be an int .*write 90000"),
        (["SOLVER.MAX_ITER", "True"], "got the bool True"),
        (["MODEL.MASK_ON", "1"], "write True or False"),
        (["INPUT.MIN_SIZE_TRAIN", "800"], r"write \(800,\)"),
        (["SOLVER.STEPS"], "pairs KEY VALUE"),
        (["SOLVER", "1"], "SOLVER is a section"),
        (["_BASE_", "a.yaml"], "files only"),
        (["SOLVER.BASE_LR.X", "1"], "SOLVER.BASE_LR is a value"),
    ],
)
def test_refused_override(opts: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        get_cfg().merge_from_list(opts)


def test_values_that_are_not_text_merge_from_a_list() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.BASE_LR", 0.5, "DATASETS.TRAIN", ["a", "b"]])
    assert (cfg.SOLVER.BASE_LR, cfg.DATASETS.TRAIN) == (0.5, ("a", "b"))


# ---- unknown keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("BASE_LR", "SOLVER.BASE_LR"),
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER"),
        ("SOLVER.base_lr", "SOLVER.BASE_LR"),
        ("MODEL.WEIGHT", "MODEL.WEIGHTS"),
        ("MODEL.BASE_LR", "SOLVER.BASE_LR"),
        ("MODEL.ROI_HEADS.NUM_CLASS", "MODEL.ROI_HEADS.NUM_CLASSES"),
        ("SOLVER.NUM_WORKERS", "DATALOADER.NUM_WORKERS"),
        ("INPUT.IMS_PER_BATCH", "SOLVER.IMS_PER_BATCH"),
        ("OUTPUTDIR", "OUTPUT_DIR"),
    ],
)
def test_wrong_key_names_the_right_one(wrong: str, meant: str) -> None:
    match = rf"{wrong}.*did you mean.*'{meant}'"
    cfg = get_cfg()
    before = cfg.clone()
    with pytest.raises(UnknownKeyError, match=match):
        cfg.merge_from_list([wrong, "1"])
    *sections, name = wrong.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    with pytest.raises(UnknownKeyError, match=match):
        setattr(node, name, 1)
    with pytest.raises(UnknownKeyError, match=match):
        node[name] = 1
    with pytest.raises(AttributeError, match="did you mean"):
        getattr(node, name)
    with pytest.raises(KeyError, match="did you mean"):
        node[name]
    assert cfg == before


def test_wrong_section_names_the_right_key() -> None:
    with pytest.raises(KeyError, match=r"'SOLVR'; did you mean 'SOLVER'"):
        get_cfg().merge_from_other_cfg(CN({"SOLVR": {"BASE_LR": 1.0}}))


def test_error_of_a_file_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path, "a.yaml", "SOLVER:\n  MAX_ITER: 3\n  BASE_LRR: 0.1\n")
    with pytest.raises(KeyError, match=rf"{file}:3: .*'SOLVER.BASE_LRR'.*'SOLVER.BASE_LR'"):
        get_cfg().merge_from_file(file)
    file = write(tmp_path, "b.yaml", "SOLVER:\n  BASE_LR: [1]\n")
    with pytest.raises(ValueError, match=rf"{file}:2: SOLVER.BASE_LR must be a float"):
        get_cfg().merge_from_file(file)


def test_a_section_is_not_replaced_by_a_value() -> None:
    with pytest.raises(ValueError, match="SOLVER is a section"):
        get_cfg().SOLVER = 3
    with pytest.raises(ValueError, match=r"MODEL.WEIGHTS cannot hold a set"):
        get_cfg().MODEL.WEIGHTS = {"a"}


# ---- keys of a user's project -------------------------------------------------------------------


def add_mynet_config(cfg: CfgNode) -> None:
    """As projects on detectron2 do it."""
    cfg.MODEL.MYNET = CN()
    cfg.MODEL.MYNET.DEPTH = 3
    cfg.MODEL.MYNET.NUM_CLASSES = 20
    cfg.MODEL.ROI_BOX_HEAD.PRIOR_PROB = 0.01  # other sections have a key of this name
    cfg.MODEL.RESNETS.RES4_DILATION = 1  # like RES5_DILATION
    cfg.INPUT.CUSTOM_AUG = ""


def test_a_project_adds_keys() -> None:
    cfg = get_cfg()
    add_mynet_config(cfg)
    cfg.merge_from_list(["MODEL.MYNET.DEPTH", "4", "MODEL.RESNETS.RES4_DILATION", "2"])
    assert (cfg.MODEL.MYNET.DEPTH, cfg.MODEL.RESNETS.RES4_DILATION) == (4, 2)
    assert cfg.origin("MODEL.MYNET.NUM_CLASSES") == "code"
    assert cfg.unread_keys() == []  # its own defaults are nobody's setting
    with pytest.raises(KeyError, match=r"MODEL.MYNET.DEPHT.*MODEL.MYNET.DEPTH"):
        cfg.merge_from_list(["MODEL.MYNET.DEPHT", "4"])


def test_a_new_name_far_from_all_others_is_allowed_and_reported() -> None:
    cfg = get_cfg()
    cfg.FIND_UNUSED_PARAM = True
    assert cfg.FIND_UNUSED_PARAM is True
    cfg.MY_SECRET_FLAG = 1
    assert cfg.unread_keys() == ["MY_SECRET_FLAG"]


def test_new_allowed() -> None:
    cfg = get_cfg()
    cfg.set_new_allowed(True)
    cfg.BASE_LR = 0.1
    cfg.merge_from_other_cfg(CN({"SOLVER": {"NEW": {"DEEP": 1}}}))
    assert (cfg.BASE_LR, cfg.SOLVER.NEW.DEEP) == (0.1, 1)


def test_keys_added_to_the_defaults_reach_new_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    from lucidet.config import defaults

    monkeypatch.setattr(defaults, "_C", defaults._C.clone())
    defaults._C.MODEL.BIFPN_ON = False
    cfg = get_cfg()
    assert cfg.MODEL.BIFPN_ON is False
    assert cfg.origin("MODEL.BIFPN_ON") == "default"


def test_deprecated_and_renamed_keys() -> None:
    cfg = get_cfg()
    cfg.register_deprecated_key("SOLVER.OLD")
    cfg.register_renamed_key("SOLVER.LR", "SOLVER.BASE_LR")
    cfg.merge_from_list(["SOLVER.OLD", "1"])
    with pytest.raises(KeyError, match=r"SOLVER.LR was renamed to SOLVER.BASE_LR"):
        cfg.merge_from_list(["SOLVER.LR", "1"])


# ---- origins and reads --------------------------------------------------------------------------


def test_origins(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "SOLVER:\n  BASE_LR: 0.3\n  MAX_ITER: 7\n")
    file = write(tmp_path, "a.yaml", "_BASE_: base.yaml\nSOLVER:\n\n  MAX_ITER: 9\n")
    cfg = get_cfg()
    cfg.merge_from_file(file)
    cfg.merge_from_list(["SOLVER.GAMMA", "0.5"])
    cfg.SOLVER.MOMENTUM = 0.8
    assert cfg.origin("SOLVER.BASE_LR") == f"{tmp_path / 'base.yaml'}:2"
    assert cfg.origin("SOLVER.MAX_ITER") == f"{file}:4"
    assert cfg.origin("SOLVER.GAMMA") == "command line"
    assert cfg.origin("SOLVER.MOMENTUM") == cfg.SOLVER.origin("MOMENTUM") == "code"
    assert cfg.origin("SOLVER.NESTEROV") == "default"
    assert cfg.origin("DATALOADER") == "default"  # a section
    assert cfg.origin("SOLVER.CLIP_GRADIENTS.ENABLED") == "default"
    with pytest.raises(KeyError, match=r"SOLVER.BASE_LRR.*SOLVER.BASE_LR"):
        cfg.origin("SOLVER.BASE_LRR")


def test_origins_come_along_with_another_config() -> None:
    other = get_cfg()
    other.merge_from_list(["SOLVER.GAMMA", "0.5"])
    cfg = get_cfg()
    cfg.merge_from_other_cfg(other)
    assert cfg.origin("SOLVER.GAMMA") == "command line"
    assert cfg.origin("SOLVER.MOMENTUM") == "code"


def test_unread_keys() -> None:
    cfg = get_cfg()
    assert cfg.unread_keys() == []
    cfg.merge_from_list(["SOLVER.GAMMA", "0.5", "MODEL.WEIGHTS", "w", "SOLVER.MOMENTUM", "0.8"])
    cfg.dump(), str(cfg), cfg.clone(), cfg == get_cfg(), cfg.origin("SOLVER.GAMMA")
    assert cfg.unread_keys() == ["MODEL.WEIGHTS", "SOLVER.GAMMA", "SOLVER.MOMENTUM"]
    assert cfg.SOLVER["GAMMA"] == cfg.clone().SOLVER.get("MOMENTUM") - 0.3
    assert cfg.unread_keys() == ["MODEL.WEIGHTS"]  # reading a clone is reading
    cfg.SOLVER.GAMMA = 0.1
    assert cfg.unread_keys() == ["MODEL.WEIGHTS", "SOLVER.GAMMA"]  # nobody saw this value
    cfg.mark_read("SOLVER")
    cfg.mark_read("MODEL.WEIGHTS")
    assert cfg.unread_keys() == []


def test_reading_one_config_leaves_others_alone() -> None:
    cfg, other = get_cfg(), get_cfg()
    clone = cfg.clone()
    for c in (cfg, other, clone):
        c.merge_from_list(["SOLVER.GAMMA", "0.5"])
    assert cfg.SOLVER.GAMMA == 0.5
    assert other.unread_keys() == clone.unread_keys() == ["SOLVER.GAMMA"]


# ---- copies, freezing, dumping ------------------------------------------------------------------


@pytest.mark.parametrize("copied", [CfgNode.clone, copy.deepcopy, copy.copy])
def test_copies(copied) -> None:
    check_copy(copied)


def test_pickle() -> None:
    check_copy(lambda cfg: pickle.loads(pickle.dumps(cfg)))


def check_copy(copied) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.GAMMA", "0.5"])
    cfg.freeze()
    other = copied(cfg)
    assert other == cfg
    assert type(other) is CfgNode
    assert other.is_frozen()
    assert other.SOLVER.is_frozen()
    assert other.origin("SOLVER.GAMMA") == "command line"
    other.defrost()
    other.SOLVER.STEPS = (1,)
    assert cfg.SOLVER.STEPS == (30000,)
    with pytest.raises(KeyError, match=r"SOLVER.BASE_LRR"):  # it still knows its place
        other.SOLVER.BASE_LRR = 1.0


def test_frozen() -> None:
    cfg = get_cfg()
    cfg.freeze()
    for change in (
        lambda: setattr(cfg.SOLVER, "BASE_LR", 1.0),
        lambda: cfg.SOLVER.__setitem__("BASE_LR", 1.0),
        lambda: cfg.merge_from_list(["SOLVER.BASE_LR", "1.0"]),
        lambda: setattr(cfg, "MINE", CN()),
    ):
        with pytest.raises(AttributeError, match=r"frozen; call cfg.defrost\(\) first"):
            change()
    cfg.COMPUTED_SIZE = 3  # derived values may be kept
    with pytest.raises(KeyError, match="COMPUTED_SIZE"):
        cfg.COMPUTED_SIZE = 4
    cfg.defrost()
    cfg.SOLVER.BASE_LR = 1.0


@pytest.mark.parametrize(
    "opts",
    [
        [],
        ["OUTPUT_DIR", "2024"],
        ["MODEL.WEIGHTS", "None"],
        ["MODEL.WEIGHTS", "(1,"],
        ["MODEL.WEIGHTS", "a: b # c"],
        ["TEST.EXPECTED_RESULTS", "[('bbox', 'AP', 1.0, 2)]"],
        ["INPUT.MIN_SIZE_TRAIN", "()"],
        ["SOLVER.CLIP_GRADIENTS.NORM_TYPE", "1e999"],
        ["MODEL.PIXEL_MEAN", "[1e-05, 1e+22, 0.1]"],
        ["SOLVER.WEIGHT_DECAY_BIAS", "0.5"],
    ],
)
def test_dump_round_trip(opts: list[str], tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(opts)
    loaded = get_cfg()
    loaded.merge_from_file(write(tmp_path, "c.yaml", cfg.dump()))
    assert loaded == cfg
    assert repr(loaded) == repr(cfg)  # types too
    assert CfgNode.load_cfg(cfg.dump()).keys() == cfg.keys()


def test_detectron2s_dump_loads(tmp_path: Path) -> None:
    """Its dumps hold tuples as lists, aliases and python/tuple tags."""
    text = "MODEL:\n  RPN:\n    BBOX_REG_WEIGHTS: &w [1.0, 1.0, 1.0, 1.0]\n"
    text += "  RETINANET:\n    BBOX_REG_WEIGHTS: *w\n"
    text += "  ROI_BOX_CASCADE_HEAD:\n    IOUS: !!python/tuple [0.5, 0.6, 0.7]\n"
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "config.yaml", text))
    assert cfg == get_cfg()


def test_global_cfg() -> None:
    cfg = get_cfg()
    cfg.GLOBAL.HACK = 2.5
    set_global_cfg(cfg)
    assert config_module.global_cfg.GLOBAL.HACK == 2.5


def test_python_files_are_not_run(tmp_path: Path) -> None:
    file = write(tmp_path, "c.py", "raise SystemExit('ran')")
    with open(file) as stream, pytest.raises(ValueError, match="not run"):
        CfgNode.load_cfg(stream)
