"""Ctrl-C in a training: saved, no traceback, and how to go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lucidet.engine.interrupt import TrainingInterrupted, how_to_go_on, interruptible
from lucidet.engine.trainer_base import HookBase, TrainerBase


class Pressed(HookBase):
    """Presses Ctrl-C in the step or in an evaluation of one iteration, once or twice."""

    repeated_on_resume = True

    def __init__(self, at: int, times: int = 1, in_step: bool = True) -> None:
        self.at, self.times, self.in_step = at, times, in_step
        self.steps, self.saved_at = 0, -1

    def press(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)

    def before_step(self) -> None:
        self.steps += 1
        if self.trainer.iter == self.at and self.in_step:
            self.press()

    def after_step(self) -> None:
        if self.trainer.iter == self.at and not self.in_step:
            self.press()

    def after_train(self) -> None:
        if self.trainer.stop_reason:
            self.saved_at = self.trainer.iter


class Counting(TrainerBase):
    def run_step(self) -> None:
        pass


def run(hook: Pressed) -> TrainerBase:
    trainer = Counting()
    trainer.register_hooks([hook])
    with pytest.raises(TrainingInterrupted) as stop:
        trainer.train(0, 10)
    assert stop.value.code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return trainer


@pytest.mark.parametrize(
    ("hook", "saved_at"),
    [
        (Pressed(3), 3),  # the step is finished
        (Pressed(3, in_step=False), 3),  # the evaluation is not
        (Pressed(3, times=2), -1),  # at once: half a step is not saved
        (Pressed(9, in_step=False), 9),
    ],
)
def test_what_is_saved(hook: Pressed, saved_at: int) -> None:
    run(hook)
    assert hook.saved_at == saved_at
    assert hook.steps == hook.at + 1


def test_a_program_that_handles_the_signal_itself_keeps_it() -> None:
    pressed: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        trainer = Counting()
        trainer.register_hooks([Pressed(3)])
        trainer.train(0, 10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [1]
    assert trainer.iter == 10


def test_outside_a_training_ctrl_c_is_as_usual() -> None:
    with pytest.raises(ValueError, match="x"), interruptible(Counting()):
        raise ValueError("x")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_how_to_go_on(tmp_path: Path) -> None:
    assert "before anything was saved" in how_to_go_on(str(tmp_path))
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    assert "resume_or_load(resume=True)" in how_to_go_on(str(tmp_path))
    (tmp_path / "config.yaml").touch()
    assert f"--config-file {tmp_path / 'config.yaml'} --resume" in how_to_go_on(str(tmp_path))


def test_a_signal_that_comes_while_processes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has not seen it: it is for the next meeting, not lost."""
    trainer = Counting()
    trainer.ends_together = True
    asked: list[int] = []

    def meeting(number: int) -> int:
        asked.append(number)
        if len(asked) == 3:
            trainer.interrupt(signal.SIGTERM)
        return number

    monkeypatch.setattr("lucidet.engine.trainer_base.agreed_signal", meeting)
    monkeypatch.setattr("lucidet.engine.trainer_base.comm.get_world_size", lambda: 2)
    with pytest.raises(TrainingInterrupted) as stop:
        trainer.train(0, 10)
    assert stop.value.code == 128 + signal.SIGTERM
    assert asked == [0, 0, 0, signal.SIGTERM]
