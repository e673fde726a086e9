from __future__ import annotations

import logging

import pytest

from lucidet.utils import logger as lucidet_logger
from lucidet.utils.logger import (
    create_small_table,
    create_table,
    log_every_n,
    log_every_n_seconds,
    log_first_n,
    setup_logger,
)


@pytest.fixture
def name():
    name = "lucidet_test"
    yield name
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def test_console_and_file(tmp_path, capsys, name):
    logger = setup_logger(tmp_path, name=name, abbrev_name="lt")
    assert setup_logger(tmp_path, name=name) is logger  # twice: no line is doubled
    logging.getLogger(f"{name}.data").info("3 images")
    logger.warning("careful")
    console = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 2)[2] for line in console] == [
        "lt.data]: 3 images",
        "lt]: WARNING: careful",
    ]
    written = (tmp_path / "log.txt").read_text().splitlines()
    assert written[0].endswith("lucidet_test.data INFO: 3 images")
    assert len(written) == 2


@pytest.mark.parametrize(
    ("output", "rank", "file"),
    [("out", 0, "out/log.txt"), ("my.log", 0, "my.log"), ("out", 2, "out/log.txt.rank2")],
)
def test_file_name(tmp_path, capsys, name, output, rank, file):
    setup_logger(tmp_path / output, rank, name=name).info("here")
    assert (tmp_path / file).read_text().endswith("here\n")
    assert ("here" in capsys.readouterr().out) == (rank == 0)


@pytest.fixture
def lines(caplog, monkeypatch):
    lucidet_logger._counts.clear()
    lucidet_logger._times.clear()
    caplog.set_level(logging.INFO)
    return caplog


def test_log_first_n(lines):
    for i in range(4):
        log_first_n(logging.INFO, f"message {i}", n=2)
    assert lines.messages == ["message 0", "message 1"]
    assert lines.records[0].name == __name__


def test_log_first_n_by_message(lines):
    for text in "aab":
        log_first_n(logging.INFO, text, key="message")
    assert lines.messages == ["a", "b"]
    with pytest.raises(ValueError, match="'caller', 'message' or both"):
        log_first_n(logging.INFO, "x", key="place")


def test_log_every_n(lines):
    for i in range(5):
        log_every_n(logging.INFO, str(i), n=2)
    assert lines.messages == ["0", "2", "4"]


def test_log_every_n_seconds(lines, monkeypatch):
    now = iter([0.0, 0.5, 1.0])
    monkeypatch.setattr(lucidet_logger.time, "monotonic", lambda: next(now))
    for i in range(3):
        log_every_n_seconds(logging.INFO, str(i), n=1)
    assert lines.messages == ["0", "2"]


def test_tables():
    assert create_small_table({}).splitlines() == ["|  |", "||", "|  |"]
    assert create_table(["a"], []).splitlines() == ["| a |", "|:--|"]
    assert create_small_table({"AP": float("nan"), "n": 3}).splitlines()[2] == "| nan | 3 |"
