"""The stepper in a pseudo-terminal, and piece by piece."""

from __future__ import annotations

import io
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lucidet.inspection.stepper import Stepper
from lucidet.inspection.trace import Reached

pty = pytest.importorskip("pty", reason="pseudo-terminals are for Unix")
ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """A program in a pseudo-terminal, spoken to line by line."""

    def __init__(self, arguments: list[str]) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT
        )
        os.close(slave)
        self.text = ""

    def until(self, pattern: str, seconds: float = 60) -> str:
        """Read until `pattern` appears; return what came."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"no {pattern!r} in {self.text!r}"
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # the program is gone
                    break
        assert re.search(pattern, self.text), f"no {pattern!r} in {self.text!r}"
        seen, self.text = self.text, ""
        return seen

    def send(self, line: str) -> None:
        self.text = ""
        os.write(self.master, (line + "\n").encode())


@pytest.mark.slow
def test_a_session_in_a_pseudo_terminal(image_file, tmp_path):
    tiny = ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "18"]
    tiny += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "INPUT.MIN_SIZE_TEST", "96"]
    config = str(ROOT / "configs/COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    words = ["step", "--config-file", config, "--image", image_file, "--out", str(tmp_path)]
    terminal = Terminal([sys.executable, "-m", "lucidet", *words, *tiny])
    try:
        terminal.until(r"\[1/11\] config.values[\s\S]*\(config.values\) $")
        terminal.send("next")
        terminal.until(r"\(model.tree\) $")
        terminal.send("continue anchors")
        shown = terminal.until(r"\(anchors.grid\) $")
        assert "anchor_generator.py" in shown  # the live frame
        terminal.send("print len(anchors), self.strides")
        assert "(5, [4, 8, 16, 32, 64])" in terminal.until(r"\(anchors.grid\) $")
        terminal.send("continue rpn.*")
        terminal.until(r"\(rpn.head\) $")
        terminal.send("print logits[0].unique().dim()")
        assert "1" in terminal.until(r"\(rpn.head\) $")
        terminal.send("draw")
        assert "rpn.head.png" in terminal.until(r"png\s+\(rpn.head\) $")
        assert list(tmp_path.glob("*rpn.head.png"))
        terminal.send("back")
        terminal.until(r"\(anchors.grid, recorded\) $")
        terminal.send("quit")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.master)


def session(look, tmp_path, *lines: str) -> str:
    out = io.StringIO()
    stepper = Stepper(tmp_path, stdin=io.StringIO("\n".join(lines) + "\n"), stdout=out)
    try:
        look(on_event=stepper.on_event, on_start=stepper.begin)
        stepper.finished()
    except Reached:
        out.write("left")
    return out.getvalue()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["continue"], "The run is over after 25 events."),
        (["quit"], "left"),
        ([], "left"),  # the end of the input is as good as quit
        (["", "list", "q"], "-> 1 model.tree"),
        (["back", "q"], "this is the first stage"),
        (["continue rnp.head", "q"], "no stage 'rnp.head'; did you mean rpn.head"),
        (["c rpn.assign", "p labels.unique()", "q"], "tensor([-1,  0,  1], dtype=torch.int8)"),
        (["c rpn.assign", "labels.shape", "q"], "torch.Size"),
        (["c rpn.assign", "p nothing", "q"], "NameError: name 'nothing' is not defined"),
        (["c rpn.assign", "p (", "q"], "that is not complete"),
        (["c rpn.assign", "back", "p list(features)", "q"], "NameError"),
        (["draw", "q"], "this stage has no picture"),
        (["c loss.optimizer", "c"], "The run is over"),
    ],
)
def test_commands(look, tmp_path, lines, expected):
    assert expected in session(look, tmp_path, *lines)


def test_next_after_back_shows_what_was_recorded(look, tmp_path):
    text = session(look, tmp_path, "c rpn.head", "back", "next", "print logits[0].dim()", "q")
    assert "(anchors.grid, recorded)" in text
    assert text.rstrip().endswith("left")
    assert "(rpn.head) 2" in text


def test_stepping_changes_no_bit(look, tmp_path):
    out = io.StringIO()
    lines = io.StringIO("next\n" * 40)
    stepper = Stepper(tmp_path, stdin=lines, stdout=out)
    stepped = look(on_event=stepper.on_event, on_start=stepper.begin)
    plain = look()
    for a, b in zip(stepped.all("loss.term"), plain.all("loss.term"), strict=True):
        assert a["value"] == b["value"]
