"""Detectors learn in two processes as in one with the same images in a batch.

The losses of the last iteration and the weights after six agree to rounding: with augmentation,
with sampled anchors and proposals, and with normalizers that are moving averages. (`test_processes`
has a Faster R-CNN whose candidates are all sampled, through the launcher's own processes.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.test_killed import in_a_program_of_its_own, pytestmark

__all__ = ["pytestmark"]


@pytest.mark.parametrize("kind", ["GeneralizedRCNN", "RetinaNet", "FCOS", "ATSS"])
def test_two_processes_equal_one(tmp_path: Path, kind: str) -> None:
    assert "one process and two agree" in in_a_program_of_its_own(tmp_path, kind, "agree")
