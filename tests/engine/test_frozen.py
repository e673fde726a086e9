"""A process that freezes is noticed in bounded time, and named."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from lucidet.cli.main import describe
from lucidet.engine import launch
from lucidet.engine.frozen import DEFAULT_TIMEOUT, VARIABLE, chosen_timeout, explained_wait
from lucidet.engine.launch import ProcessFailedError
from lucidet.utils import comm


def _one_sleeps() -> None:
    if comm.get_rank() == 1:
        time.sleep(300)
    comm.synchronize()


@pytest.mark.slow
def test_a_frozen_process_is_named() -> None:
    started = time.monotonic()
    with pytest.raises(ProcessFailedError) as stopped:
        launch(_one_sleeps, 2, timeout=timedelta(seconds=5))
    message = describe(stopped.value)
    assert "process 1 of 2 did not come within 5 seconds" in message
    assert "--dist-timeout" in message
    assert "fault of lucidet" not in message
    assert time.monotonic() - started < 120


def test_the_time_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert chosen_timeout(DEFAULT_TIMEOUT) == timedelta(minutes=10)
    monkeypatch.setenv(VARIABLE, "7.5")
    assert chosen_timeout(DEFAULT_TIMEOUT) == timedelta(seconds=7.5)
    assert chosen_timeout(timedelta(seconds=3)) == timedelta(seconds=3)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_times_that_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=f"{VARIABLE} must be a number of seconds > 0"):
        chosen_timeout(DEFAULT_TIMEOUT)


def test_other_errors_stay() -> None:
    for error in (RuntimeError("sizes do not match"), ValueError("timeout must be > 0")):
        assert explained_wait(error, DEFAULT_TIMEOUT) is error
