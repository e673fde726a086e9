"""Predictions that are interrupted are kept as partial; results are not written through links."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lucidet.cli.prediction import Thresholds, Writer, refuse_link
from lucidet.data import Metadata
from lucidet.utils.terminations import Terminated, terminations_as_interrupts


def _interrupted(writer: Writer, number: int) -> None:
    with writer.partial_if_interrupted(), terminations_as_interrupts():
        os.kill(os.getpid(), number)
        signal.pause()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_interrupted_predictions_are_partial(number: int, tmp_path: Path) -> None:
    metadata = Metadata(name="x", thing_classes=["cat"])
    writer = Writer(tmp_path, metadata, Thresholds(0.5, "", metadata), pictures=False)
    with pytest.raises(Terminated) as ended:
        _interrupted(writer, number)
    assert ended.value.status == 128 + number
    assert (tmp_path / "predictions.partial.json").read_text() == "[]"
    assert not (tmp_path / "predictions.json").exists()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_results_are_not_written_through_links(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "predictions.json").symlink_to(tmp_path / "mine")
    metadata = Metadata(name="x", thing_classes=["cat"])
    writer = Writer(tmp_path, metadata, Thresholds(0.5, "", metadata), pictures=False)
    with pytest.raises(ValueError, match=r"is a link to .*mine; remove it"):
        writer.finish()
    assert (tmp_path / "mine").read_text() == "mine"
    refuse_link(tmp_path / "absent")
