"""`lucidet.inspection`: watch, Trace, show and diff, without reaching deeper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from lucidet.inspection import Trace, diff, show, watch
from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.utils.probe import probe


def _trace(level: int) -> Trace:
    with watch() as trace:
        probe("roi.levels", levels=torch.tensor([0, level]))
    return trace


def test_show_writes_the_page_where_asked(tmp_path: Path) -> None:
    with watch() as trace:
        DefaultAnchorGenerator(sizes=[[32]], aspect_ratios=[[1.0]], strides=[16])(
            [torch.zeros(1, 8, 4, 6)]
        )
    page = show(trace, tmp_path / "new")
    assert page.file == tmp_path / "new" / "report.html"
    assert page.file.read_text() == page.html
    assert "new" in repr(page)


def test_show_without_a_folder_writes_nothing() -> None:
    page = show(Trace())  # no event at all
    assert page.file is None
    assert page._repr_html_().startswith("<iframe srcdoc=")


def test_diff_names_the_stage() -> None:
    assert diff(_trace(2), _trace(2)).first is None
    first = diff(_trace(2), _trace(3)).first
    assert first is not None
    assert (first.stage, first.field, first.largest) == ("roi.levels", "levels", 1.0)


def test_watching_alone_loads_no_page() -> None:
    code = "import sys, lucidet.inspection; sys.exit('lucidet.inspection.page' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
