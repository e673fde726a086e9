from __future__ import annotations

import pytest

from lucidet.cli import progress as module
from lucidet.cli.progress import progress


@pytest.mark.parametrize(
    ("total", "seconds", "lines"),
    [(3, 0.0, 2), (3, 1e6, 0), (0, 0.0, 0)],  # no line at the end: the command says what it did
)
def test_lines_in_a_pipe(
    total: int,
    seconds: float,
    lines: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SECONDS", seconds)
    with progress("predict", total, "images") as advance:
        for _ in range(total):
            advance(1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == lines
    if lines:
        assert "predict: 1 of 3 images" in shown.err
