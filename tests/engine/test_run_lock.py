"""One training in a folder; others wait, go elsewhere, or are told who it is."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lucidet.config import get_cfg
from lucidet.engine.run import folder_of_training
from lucidet.engine.run_lock import FolderInUseError, held, next_free, require_free
from lucidet.engine.setup import default_setup

HOLDER = """
import sys
from lucidet.engine.run_lock import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def _start(folder: Path) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "held\n"
    return program


def test_another_process_is_named_and_a_dead_one_forgotten(tmp_path: Path) -> None:
    program = _start(tmp_path)
    try:
        for call in (require_free, lambda folder: held(folder).__enter__()):
            with pytest.raises(
                FolderInUseError, match=rf"process {program.pid} on .* since \d{{4}}"
            ):
                call(tmp_path)
    finally:
        program.kill()
        program.communicate()
    require_free(tmp_path)  # what a killed process left does not count
    with held(tmp_path):
        pass


def test_one_after_the_other_and_without_a_folder(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path / "new"):
            pass
    with held(""), held(""):
        pass


def test_a_new_run_in_a_used_folder_goes_to_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    used = str(tmp_path / "run")
    Path(used).mkdir()

    def folder(**options: bool) -> str:
        return folder_of_training(used, argparse.Namespace(**{"resume": False, **options}))

    assert folder(overwrite=False) == used
    Path(used, "last_checkpoint").write_text("model_final.pth")
    with caplog.at_level("WARNING", logger="lucidet"):
        assert folder(overwrite=False) == f"{used}-2"
    assert "--resume" in caplog.text
    assert "--overwrite" in caplog.text
    assert folder(overwrite=True) == folder(resume=True, overwrite=False) == folder() == used
    Path(f"{used}-2").mkdir()
    assert next_free(used) == f"{used}-3"


def test_an_evaluation_leaves_the_config_of_the_training(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.MODEL.DEVICE = "cpu"
    default_setup(cfg, argparse.Namespace(eval_only=False))
    written = (tmp_path / "config.yaml").read_text()
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    default_setup(cfg, argparse.Namespace(eval_only=True))
    assert (tmp_path / "config.yaml").read_text() == written
    assert "DETECTIONS_PER_IMAGE: 7" in (tmp_path / "config_of_evaluation.yaml").read_text()
