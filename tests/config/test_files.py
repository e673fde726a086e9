"""`_BASE_` chains."""

from __future__ import annotations

from pathlib import Path

import pytest

from lucidet.config import CfgNode, UnknownKeyError, get_cfg
from lucidet.config.files import read_config
from tests.config.test_config import write


def test_chain_of_relative_paths(tmp_path: Path) -> None:
    write(tmp_path, "root.yaml", "SOLVER:\n  BASE_LR: 0.1\n  GAMMA: 0.2\n  MAX_ITER: 5\n")
    write(tmp_path, "mid/mid.yaml", '_BASE_: "../root.yaml"\nSOLVER: {GAMMA: 0.3, MAX_ITER: 6}\n')
    file = write(tmp_path, "mid/deep/a.yaml", "_BASE_: ../mid.yaml\nSOLVER: {MAX_ITER: 7}\n")
    cfg = get_cfg()
    cfg.merge_from_file(file)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA, cfg.SOLVER.MAX_ITER) == (0.1, 0.3, 7)
    assert "_BASE_" not in cfg


def test_list_of_bases_later_wins(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "X: 1\nY: {Z: 1}\n")
    write(tmp_path, "b.yaml", "X: 2\n")
    file = write(tmp_path, "c.yaml", "_BASE_: [a.yaml, b.yaml]\nY: {W: 3}\n")
    assert CfgNode.load_yaml_with_base(file) == {"X": 2, "Y": {"Z": 1, "W": 3}}
    assert read_config(file).origins["Y.Z"] == f"{tmp_path / 'a.yaml'}:2"


def test_empty_file_and_empty_section(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "a.yaml", ""))
    cfg.merge_from_file(write(tmp_path, "b.yaml", "SOLVER:\n"))
    assert cfg == get_cfg()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("_BASE_: a.yaml", r"comes back to itself: a.yaml -> a.yaml"),
        ("_BASE_: 3", r"a.yaml:1: _BASE_ must be a path"),
        ("_BASE_: https://example.org/a.yaml", "file on this machine.*put a copy beside this file"),
        (
            "_BASE_: detectron2://COCO-Detection/retinanet_R_50_FPN_1x.yaml",
            r"a.yaml:1: .*lucidet has one of that name: .*COCO-Detection.retinanet_R_50_FPN_1x",
        ),
        ("_BASE_: https://example.org/Base-RCNN-FPN.yaml", "of that name: .*Base-RCNN-FPN.yaml"),
        ("_BASE_: base.yaml\nX: {Y: 1}", r"a.yaml:2: X is a section"),
        ("- 1", "expected `KEY: value`"),
        ("3: 1", r"a.yaml:1: a key must be a name, got 3"),
        ("VERSION: 3", r"a.yaml:1: VERSION is 3.*write VERSION: 2"),
        ("SEED: 1\nSEED: 2", r"a.yaml:2: key SEED again; it stands on line 1.*keep one"),
    ],
)
def test_refused_file(text: str, match: str, tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "X: 1\n")
    file = write(tmp_path, "a.yaml", text)
    with pytest.raises(ValueError, match=match):
        get_cfg().merge_from_file(file)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.yaml does not exist"):
        get_cfg().merge_from_file(str(tmp_path / "none.yaml"))
    file = write(tmp_path, "a.yaml", "_BASE_: gone.yaml")
    with pytest.raises(FileNotFoundError, match=r"gone.yaml, which .*a.yaml names as _BASE_"):
        get_cfg().merge_from_file(file)
    file = write(tmp_path, "b.yaml", "_BASE_: /gone/configs/Base-RetinaNet.yaml")
    with pytest.raises(FileNotFoundError, match=r"lucidet has one of that name: .*Base-RetinaNet"):
        get_cfg().merge_from_file(file)
    with pytest.raises(ValueError, match="is a folder"):
        get_cfg().merge_from_file(str(tmp_path))


def test_all_unknown_keys_are_named_at_once(tmp_path: Path) -> None:
    """A project's file with keys that its own code declares."""
    text = "SOLVER: {MAX_ITERS: 7, SEED: 1, GAMMA: 0.5}\nSEMISUPNET: {TRAINER: x}\n"
    file = write(tmp_path, "a.yaml", text)
    cfg = get_cfg()
    with pytest.raises(UnknownKeyError) as error:
        cfg.merge_from_file(file)
    message = str(error.value)
    assert f"{file} has 3 unknown config keys" in message
    assert f"{file}:1: SOLVER.MAX_ITERS (did you mean SOLVER.MAX_ITER?)" in message
    assert f"{file}:1: SOLVER.SEED (did you mean SEED?)" in message
    assert f"{file}:2: SEMISUPNET\n" in message
    assert "Keys of your own code are declared before the file is read" in message
    assert cfg == get_cfg()  # nothing was set
    cfg.set_new_allowed(True)
    cfg.merge_from_file(file)
    assert (cfg.SEMISUPNET.TRAINER, cfg.SOLVER.GAMMA) == ("x", 0.5)


def test_one_unknown_key(tmp_path: Path) -> None:
    file = write(tmp_path, "a.yaml", "DEVICE: cpu\n")
    match = r"a.yaml:1: unknown config key 'DEVICE'; did you mean 'MODEL.DEVICE'\?\nTake what"
    with pytest.raises(UnknownKeyError, match=match):
        get_cfg().merge_from_file(file)


def test_python_configs_are_not_run(tmp_path: Path) -> None:
    """detectron2's lazy configs, mmdetection's: the YAML of the same name is pointed at."""
    folder = tmp_path / "COCO-Detection"
    file = write(folder, "retinanet_R_50_FPN_1x.py", "model = None\n")
    match = r"1x.py: Python files are not run.*lucidet has one .*retinanet_R_50_FPN_1x.yaml"
    with pytest.raises(ValueError, match=match):
        get_cfg().merge_from_file(file)
    file = write(tmp_path, "mine.py", "model = None\n")
    with pytest.raises(ValueError, match=r"the same as YAML is needed$"):
        get_cfg().merge_from_file(file)
