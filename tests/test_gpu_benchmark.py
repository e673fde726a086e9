"""`benchmarks/gpu.py` runs: here on the CPU, in tiny sizes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/gpu.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_dry_run(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checks hold, every library has its rows, and the table is written."""
    out = tmp_path / "gpu.md"
    assert script.main(["--dry", "--out", str(out)]) == 0
    text = out.read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert "| atss | folded norms and plain |" in text
    for library in ("torchvision", "lucidet"):
        assert f"| faster_rcnn | training, 2 images, fp32 | {library} |" in text
        assert f"| retinanet | inference, 1 images, fp32 | {library} |" in text
    assert "Error" not in text


def test_without_a_gpu(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        script.main([])
    assert "there is no GPU here; --dry runs everything" in capsys.readouterr().err


def test_differences(script: Any) -> None:
    """Losses relative, gradients by their direction; gradients of nothing agree."""
    one = {"loss": torch.tensor(2.0), "gradient of a": torch.tensor([1.0, 0.0])}
    other = {"loss": torch.tensor(1.0), "gradient of a": torch.tensor([0.0, 5.0])}
    assert script.difference(one, other) == (1.0, 1.0)
    assert script.difference(one, {**one}) == (0.0, 0.0)
    nothing = {"gradient of a": torch.zeros(2)}
    assert script.difference(nothing, nothing) == (0.0, 0.0)
