"""The Python of `docs/inspect.md` runs; its links, its pictures and its checks exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lucidet.inspection.checks import CHECKS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "inspect.md").read_text()


@pytest.mark.slow
def test_the_code_runs(tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    code = code.replace("/tmp/anchors", str(tmp_path / "anchors"))
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "torch.Size([24, 4])" in run.stdout


def test_all_checks_are_listed():
    assert all(f"`{check}`" in PAGE for check in CHECKS)


def test_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", PAGE)
    assert len(pictures) == 5
    assert all((DOCS / picture).is_file() for picture in pictures)
