"""Program and commands of docs/blood_cells.md, as they stand there; only made shorter."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "blood_cells.md").read_text(encoding="utf-8")
SHORTER = {
    "INPUT.MIN_SIZE_TRAIN": "(96,)",
    "INPUT.MIN_SIZE_TEST": "96",
    "SOLVER.IMS_PER_BATCH": "4",
    "SOLVER.MAX_ITER": "40",
    "SOLVER.WARMUP_ITERS": "2",
    "TEST.EVAL_PERIOD": "20",
    "MODEL.DEVICE": "cpu",
}


@pytest.mark.slow
def test_a_short_training_lowers_the_validation_loss(datasets_dir: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "blood_cells.py").write_text(program, encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    train, evaluate = re.findall(r"^python (blood_cells\.py .*)$", PAGE, re.MULTILINE)
    shorter = [word for pair in SHORTER.items() for word in pair]
    environment = {**os.environ, "LUCIDET_DATASETS": str(datasets_dir.resolve())}
    printed = []
    for line in (train, evaluate):
        command = [sys.executable, *shlex.split(line), *shorter]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    metrics = (tmp_path / "output" / "blood_cells" / "metrics.json").read_text().splitlines()
    key = "validation/total_loss"
    losses = [entry[key] for entry in map(json.loads, metrics) if key in entry]
    assert len(losses) == 2
    assert losses[-1] < losses[0], losses
    assert "copypaste" in printed[1]
