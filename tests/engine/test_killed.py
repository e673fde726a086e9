"""A training that is killed again and again ends as if it had not been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="meant for machines without GPU"),
]


def in_a_program_of_its_own(folder: Path, *arguments: str) -> str:
    """Run ``tests.engine.killed`` and return what it prints; this program may not be able to fork.

    It may have used autograd, whose threads do not survive that.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.killed", folder, *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "kills", "processes"),
    [
        ("GeneralizedRCNN", 8, 1),  # 2 workers, grouping, averaged weights, bfloat16
        ("RetinaNet", 6, 1),
        ("ATSS", 6, 1),
        ("GeneralizedRCNN", 4, 2),
        ("RetinaNet", 4, 2),
    ],
)
def test_killed_runs_end_with_the_same_bits(
    tmp_path: Path, kind: str, kills: int, processes: int
) -> None:
    said = in_a_program_of_its_own(tmp_path, kind, str(kills), str(processes))
    assert "no difference" in said
