"""`docs/debugging_report.md` is true: its command runs, and its figures come out of it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lucidet.config import get_cfg
from lucidet.inspection.event import whole
from lucidet.inspection.trace import Trace, load_trace

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "debugging_report.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
#: config -> column of the table "Anchors and assignment", and the name of its assignment
DETECTORS = {
    "faster_rcnn": (0, "rpn.assign"),
    "retinanet": (1, "dense.assign"),
    "atss": (2, "dense.assign"),
}


def row(name: str, column: int) -> list[int]:
    """Return the whole numbers in a cell of the English table of anchors."""
    (line,) = re.findall(rf"^\| {name} \|(.*)\|$", PAGE, re.MULTILINE)
    return [int(number) for number in re.findall(r"\d+", line.split("|")[column])]


def run(detector: str, out: Path, datasets_dir: Path) -> Trace:
    """Run the page's command for a detector; return what it recorded."""
    text = COMMANDS[0].replace("\\\n", " ").replace("faster_rcnn_R_50", f"{detector}_R_50")
    words = shlex.split(text)
    words[words.index("--out") + 1] = str(out)
    command = [sys.executable, "-m", *words]
    settings = {"LUCIDET_DATASETS": str(datasets_dir), "OMP_NUM_THREADS": "1"}
    with_settings = ["env", *(f"{key}={value}" for key, value in settings.items()), *command]
    done = subprocess.run(with_settings, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return load_trace(out)


@pytest.mark.slow
@pytest.mark.parametrize("detector", DETECTORS)
def test_the_command_gives_the_figures(detector: str, tmp_path: Path, datasets_dir: Path) -> None:
    if not (datasets_dir / "coco" / "train2017" / "000000322517.jpg").is_file():
        pytest.skip(f"image 322517 of COCO train2017 is not in {datasets_dir}")
    trace = run(detector, tmp_path / "out", datasets_dir)
    column, assignment = DETECTORS[detector]

    anchors = [len(whole(level)) for level in trace["anchors.grid"]["anchors"]]
    assert [*anchors, sum(anchors)] == row("anchors", column)
    event = trace[assignment]
    labels, matched = whole(event["labels"]), whole(event["matched_idxs"])
    for name, label in (("positive", 1), ("background", 0), ("ignored", -1)):
        assert int((labels == label).sum()) == row(name, column)[0]
    counts = torch.bincount(matched[labels == 1], minlength=28)
    assert [int(counts.min()), int(counts.max())] == row("positives of a ground-truth box", column)

    # the weights are random, so other versions of PyTorch have other values; the terms stay
    terms = {e["name"] for e in trace.all("loss.term")}
    (listed,) = re.findall(r"^## Losses$(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    assert terms <= set(re.findall(r"loss_\w+", listed))


def test_both_languages_give_the_same_command() -> None:
    assert len(COMMANDS) == 2
    assert COMMANDS[0] == COMMANDS[1]


def test_keys_exist() -> None:
    for key in set(re.findall(r"\b(?:MODEL|INPUT)\.[A-Z_.]*[A-Z]", PAGE)):
        node = get_cfg()
        for name in key.split("."):
            node = node[name]
