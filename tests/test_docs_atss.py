"""The page on dense detectors: its Python runs, its keys and files exist."""

from __future__ import annotations

import re
from pathlib import Path

from lucidet.config import get_cfg

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "atss.md").read_text()


def test_python() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/atss.md", "exec"), {})


def test_keys_exist() -> None:
    keys = set(re.findall(r"\b(?:MODEL|TEST)\.[A-Z_.]*[A-Z]", PAGE))
    assert "MODEL.ATSS.POSITIVE_TYPE" in keys
    for key in keys:
        node = get_cfg()
        for name in key.split("."):
            node = node[name]


def test_files_exist() -> None:
    for name in re.findall(r"`([a-z_]+_R_\w+\.yaml)`", PAGE):
        assert (ROOT / "configs" / "COCO-Detection" / name).is_file()
    assert (ROOT / "benchmarks" / "assigners.py").is_file()
