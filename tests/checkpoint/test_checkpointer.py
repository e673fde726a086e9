"""Saving, loading and what is said about both."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lucidet.checkpoint import (
    Checkpointer,
    DetectionCheckpointer,
    PeriodicCheckpointer,
    load_weights_file,
)
from lucidet.checkpoint import writing as writing_module
from lucidet.solver import ModelEMA


class Detector(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, classes)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_round_trip_with_optimizer(tmp_path: Path) -> None:
    model, fresh = Detector(), Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    Checkpointer(model, tmp_path, optimizer=optimizer).save("model_7", iteration=7, note="x")

    other = torch.optim.SGD(fresh.parameters(), lr=0.1)
    checkpointer = Checkpointer(fresh, tmp_path, optimizer=other)
    assert checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_7.pth")
    rest = checkpointer.resume_or_load("", resume=True)
    assert rest == {"iteration": 7, "note": "x"}
    assert same(model, fresh)
    assert other.param_groups[0]["lr"] == 0.5


def test_without_resume_only_weights_are_loaded(tmp_path: Path) -> None:
    model, fresh = Detector(), Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    Checkpointer(model, tmp_path, optimizer=optimizer).save("a", iteration=7)
    other = torch.optim.SGD(fresh.parameters(), lr=0.1)
    checkpointer = Checkpointer(fresh, tmp_path, optimizer=other)
    checkpointer.resume_or_load(str(tmp_path / "a.pth"), resume=False)
    assert same(model, fresh)
    assert other.param_groups[0]["lr"] == 0.1


def test_no_path_loads_nothing(tmp_path: Path) -> None:
    checkpointer = Checkpointer(Detector(), tmp_path)
    assert not checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == ""
    assert checkpointer.get_all_checkpoint_files() == []
    assert checkpointer.resume_or_load("", resume=True) == {}


def test_nothing_is_written_where_it_must_not(tmp_path: Path) -> None:
    Checkpointer(Detector(), tmp_path, save_to_disk=False).save("a")
    Checkpointer(Detector(), "").save("a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("crash_in", ["save", "replace"])
def test_crash_leaves_the_last_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_in: str
) -> None:
    model = Detector()
    checkpointer = Checkpointer(model, tmp_path)
    checkpointer.save("model", iteration=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def crash(data: object, file: object, *_: object) -> None:
        if hasattr(file, "write"):
            file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    target = torch if crash_in == "save" else writing_module.os
    monkeypatch.setattr(target, crash_in, crash)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model", iteration=2)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert checkpointer.resume_or_load("")["iteration"] == 1


def test_everything_saved_loads_weights_only(tmp_path: Path) -> None:
    state = {"best": np.float64(0.5), "steps": np.arange(3), "names": ("a", None)}
    Checkpointer(Detector(), tmp_path).save("a", hooks=state)
    hooks = load_weights_file(tmp_path / "a.pth")["hooks"]
    assert hooks["best"] == 0.5
    assert hooks["steps"].tolist() == [0, 1, 2]
    assert hooks["names"] == ("a", None)


def test_what_could_run_code_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"checkpoint\['hooks'\]\['when'\] is a PosixPath"):
        Checkpointer(Detector(), tmp_path).save("a", hooks={"when": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_keys_and_interfaces_are_checked() -> None:
    checkpointer = Checkpointer(Detector(), optimizer=nn.Linear(1, 1))
    with pytest.raises(KeyError, match="optimizer"):
        checkpointer.add_checkpointable("optimizer", nn.Linear(1, 1))
    with pytest.raises(AttributeError, match="state_dict"):
        checkpointer.add_checkpointable("x", 3)


def test_periodic(tmp_path: Path) -> None:
    periodic = PeriodicCheckpointer(Checkpointer(Detector(), tmp_path), 2, 7, max_to_keep=2)
    for iteration in range(7):
        periodic.step(iteration)
    names = [path.name for path in sorted(tmp_path.glob("*.pth"))]
    assert names == ["model_0000003.pth", "model_0000005.pth", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    with pytest.raises(ValueError, match=r"max_to_keep.*0"):
        PeriodicCheckpointer(periodic.checkpointer, 2, max_to_keep=0)


def test_old_files_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    checkpointer = Checkpointer(Detector(), tmp_path)
    PeriodicCheckpointer(checkpointer, 1).step(0)
    checkpointer.save("model_best")
    PeriodicCheckpointer(checkpointer, 1, max_to_keep=1).step(1)
    names = {path.name for path in tmp_path.glob("*.pth")}
    assert names == {"model_best.pth", "model_0000001.pth"}


# ---------------------------------------------------------------------------------------- reading


def test_safetensors_plain_dict_and_prefix(tmp_path: Path) -> None:
    model = Detector()
    save_file(model.state_dict(), tmp_path / "a.bin")  # recognised by content, not by suffix
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "b.pth")
    for name in ("a.bin", "b.pth"):
        fresh = Detector()
        DetectionCheckpointer(fresh).load(str(tmp_path / name))
        assert same(model, fresh)


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    for path in (str(tmp_path / "R-50.pkl"), "weird://R-50.pkl"):
        with pytest.raises(FileNotFoundError, match=r'R-50.pkl.*MODEL.WEIGHTS "" trains'):
            load_weights_file(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(Detector().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"a{suffix}.*damaged"):
        load_weights_file(path)


@pytest.mark.parametrize("content", [b"", b"x", b"not found", b"\x80\x04garbage"])
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pth \(\d+ bytes\)"):
        load_weights_file(path)


@pytest.mark.parametrize("content", [3, {}, {"model": 1}, {"a": torch.ones(1), "b": "text"}, []])
def test_other_content(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth is no checkpoint: expected"):
        load_weights_file(tmp_path / "a.pth")


class Hostile:
    def __reduce__(self) -> object:
        import os

        return os.system, ("touch hacked",)


def test_hostile_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, "a.pth")
    with pytest.raises(ValueError, match="could run code"):
        load_weights_file("a.pth")
    assert not Path("hacked").exists()


# ----------------------------------------------------------------------------------- load report


def test_report_of_what_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = Detector(classes=80).state_dict()
    del weights["backbone.1.bias"]
    weights["fpn.lateral.weight"] = torch.ones(1)
    torch.save({"model": weights}, tmp_path / "a.pth")
    fresh = Detector()
    with caplog.at_level(logging.INFO, logger="lucidet.checkpoint"):
        logging.getLogger("lucidet").propagate = True
        DetectionCheckpointer(fresh).load(str(tmp_path / "a.pth"))
    text = caplog.text
    assert "Loaded 3 of the model's 6 tensors" in text
    assert "head.weight" in text
    assert "file (80, 4), model (3, 4)" in text
    assert "1.bias" in text
    assert "lateral.weight" in text
    assert torch.equal(fresh.backbone[0].weight, weights["backbone.0.weight"])


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    weights = {f"bottom_up.{k}": v for k, v in Detector().backbone.state_dict().items()}
    torch.save(weights | {"head.bias": torch.zeros(3)}, tmp_path / "a.pth")
    model = Detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"backbone\.0\.weight \(nearest.*bottom_up\.0\.weight\)"):
        DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_averaged_weights_are_taken_when_only_weights_load(tmp_path: Path) -> None:
    model = Detector()
    ema = ModelEMA(model)
    with torch.no_grad():
        model.head.bias.fill_(2.0)
    Checkpointer(model, tmp_path, ema=ema).save("a")
    fresh, resumed = Detector(), Detector()
    DetectionCheckpointer(fresh).load(str(tmp_path / "a.pth"))
    assert fresh.head.bias.max() < 2.0
    DetectionCheckpointer(resumed, ema=ModelEMA(resumed)).load(str(tmp_path / "a.pth"))
    assert same(resumed, model)
