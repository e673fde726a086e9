"""`lucidet config show | check | translate`, and a config package without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lucidet import model_zoo
from lucidet.cli.main import main
from lucidet.config import get_cfg
from tests.config.maskrcnn_benchmark_files import ATSS, load
from tests.config.test_config import write

RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    file = model_zoo.get_config_file(RETINANET)
    assert main(["config", "show", "--config-file", file, "SOLVER.BASE_LR", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("SOLVER.BASE_LR: 0.5 ") and "# command line" in line for line in lines
    )
    assert any(line.startswith("SEED: -1 ") and line.endswith("# default") for line in lines)
    weights = next(line for line in lines if line.startswith("MODEL.WEIGHTS: "))
    assert RETINANET in weights
    assert len(lines) == sum(1 for _ in get_cfg()._leaves())


def test_show_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--changed", "SEED", "3"]) == 0
    assert capsys.readouterr().out.split() == ["SEED:", "3", "#", "command", "line"]


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert main(["config", "check", "MODEL.LOAD_PROPOSALS", "True"]) == 1
    assert "MODEL.LOAD_PROPOSALS True asks for proposals from files" in capsys.readouterr().err


def test_check_builds_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    file = model_zoo.get_config_file(RETINANET)
    wrong_section = ["MODEL.ROI_HEADS.NUM_CLASSES", "3"]
    assert main(["config", "check", "--config-file", file, *wrong_section]) == 0
    out = capsys.readouterr()
    assert "MODEL.META_ARCHITECTURE RetinaNet: is built, 37,9" in out.out
    assert out.err == (
        "note: MODEL.ROI_HEADS.NUM_CLASSES has no effect in this RetinaNet (command line)\n"
    )
    assert main(["config", "check", "MODEL.BACKBONE.NAME", "build_resnet_backbon"]) == 1
    assert "did you mean 'build_resnet_backbone'? (MODEL.BACKBONE.NAME" in capsys.readouterr().err


def test_translate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "atss.yaml", ATSS.replace("DIVISIBILITY: 32", "DIVISIBILITY: 64"))
    assert main(["config", "translate", file]) == 0
    out = capsys.readouterr()
    assert "DATALOADER.SIZE_DIVISIBILITY 64 has no effect" in out.err
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "ours.yaml", out.out))
    assert cfg == load(tmp_path, ATSS)  # the printed file is the translation


def test_translate_of_our_own_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "translate", model_zoo.get_config_file(RETINANET)]) == 2
    assert "is not in maskrcnn-benchmark's names" in capsys.readouterr().err


def test_misspelt_override(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "SOLVER.BASE_LRR", "1"]) == 2
    assert "did you mean 'SOLVER.BASE_LR'?" in capsys.readouterr().err


def test_the_config_package_needs_no_torch() -> None:
    code = (
        "import sys, lucidet.config, lucidet.model_zoo, lucidet.cli.config, lucidet.config.checks"
    )
    code += "; lucidet.config.get_cfg(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
