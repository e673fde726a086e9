"""Faults of the machine, injected: signals, full disks, killed processes, memory."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.cli.main import describe
from lucidet.engine import hooks, launch
from lucidet.engine.faults import ResourceFaultError, explained
from lucidet.engine.interrupt import TrainingInterrupted
from lucidet.engine.launch import ProcessFailedError
from lucidet.engine.trainer_base import HookBase, TrainerBase
from lucidet.utils import comm
from lucidet.utils.events import EventWriter

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]


class Slow(TrainerBase):
    """Counts; writes its process number, and at the end where it stopped."""

    ends_together = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run_step(self) -> None:
        time.sleep(0.01)
        if self.iter == 3:
            path = self.folder / f"running_{comm.get_rank()}"
            path.write_text(str(os.getpid()))

    def after_train(self) -> None:
        (self.folder / f"saved_{comm.get_rank()}").write_text(f"{self.iter} {self.stop_reason}")


def _train(folder: str) -> None:
    Slow(Path(folder)).train(0, 6000)


def _wait_for(path: Path, seconds: float = 120) -> str:
    end = time.monotonic() + seconds
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.02)
    return path.read_text()


def _program(folder: Path, processes: int) -> subprocess.Popen[bytes]:
    text = (
        "from lucidet.engine import launch\nfrom tests.engine.test_faults import _train\n"
        f"if __name__ == '__main__': launch(_train, {processes}, args=({str(folder)!r},))\n"
    )
    (folder / "program.py").write_text(text)
    return subprocess.Popen(
        [sys.executable, str(folder / "program.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_a_training_after_its_step(number: int, status: int, tmp_path: Path) -> None:
    class Pressed(HookBase):
        def before_step(self) -> None:
            if self.trainer.iter == 5:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    trainer = Slow(tmp_path)
    trainer.register_hooks([Pressed()])
    with pytest.raises(TrainingInterrupted) as ended:
        trainer.train(0, 1000)
    assert ended.value.code == status
    assert (tmp_path / "saved_0").read_text().startswith("5 interrupted")
    assert signal.getsignal(number) is before


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["launcher", "rank"])
def test_all_processes_end_after_the_same_iteration(to_all: bool, tmp_path: Path) -> None:
    program = _program(tmp_path, 2)
    ranks = [int(_wait_for(tmp_path / f"running_{rank}")) for rank in (0, 1)]
    os.kill(program.pid if to_all else ranks[1], signal.SIGTERM)
    assert program.wait(300) == 143
    ends = [(tmp_path / f"saved_{rank}").read_text().split()[0] for rank in (0, 1)]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_a_killed_rank_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailedError) as stopped:
        launch(_killed, 2, args=(str(tmp_path),))
    message = describe(stopped.value)
    assert "process 1 by SIGKILL of 2 processes" in message
    assert "--resume" in message
    assert "fault of lucidet" not in message


def _killed(folder: str) -> None:
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


class FullDisk(EventWriter):
    """Raises as a full disk does."""

    def write(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.json")


def test_a_full_disk_costs_metrics_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Slow(tmp_path)
    trainer.register_hooks([hooks.PeriodicWriter([FullDisk()], period=1)])
    with caplog.at_level("ERROR", logger="lucidet"):
        trainer.train(0, 3)
    assert trainer.iter == 3
    said = [r.message for r in caplog.records if "disk is full" in r.message]
    assert len(said) == 1
    assert "metrics are not written from iteration 0 on" in said[0]


def test_a_full_disk_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lucidet.checkpoint import Checkpointer, load_weights_file
    from lucidet.checkpoint.seal import SealingWriter

    class Filling(HookBase):
        def before_step(self) -> None:
            full = self.trainer.iter >= 2
            monkeypatch.setattr(SealingWriter, "_put", _no_space if full else SealingWriter._put)

    trainer = Slow(tmp_path)
    model = torch.nn.Linear(1, 1)
    saving = hooks.PeriodicCheckpointer(Checkpointer(model, tmp_path), period=1)
    trainer.register_hooks([Filling(), saving])
    with pytest.raises(ResourceFaultError, match=r"the disk is full.*go on with --resume"):
        trainer.train(0, 4)
    assert "no checkpoint of iteration 2" in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert load_weights_file(tmp_path / "model_0000001.pth")["iteration"] == 1
    assert not list(tmp_path.glob(".*.tmp"))


def _no_space(*args: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_out_of_memory_names_the_shapes() -> None:
    class Exhausted(TrainerBase):
        def run_step(self) -> None:
            batch = [{"file_name": "a.png", "image": torch.zeros(3, 8, 9)}]  # noqa: F841
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(ResourceFaultError) as stopped:
        Exhausted().train(0, 1)
    message = describe(stopped.value)
    for part in ("a.png (3, 8, 9), 0 boxes", "SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATE", "20.00"):
        assert part in message
    assert "fault of lucidet" not in message


def test_a_killed_worker_of_the_data_loader() -> None:
    killed = RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. ")
    message = describe(explained(killed))
    assert "worker process 71 of the data loader is gone" in message
    assert "DATALOADER.NUM_WORKERS lower" in message
    assert "fault of lucidet" not in message
    other = RuntimeError("sizes do not match")
    assert explained(other) is other
