"""torchrun starts a run again after one of its processes has died: it goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.engine import hooks, launch
from lucidet.utils import comm
from tests.engine import killed

ROOT = Path(__file__).resolve().parents[2]


class Trainer(killed.Trainer):
    """Its second process is killed at iteration 7, in the first life."""

    def build_hooks(self) -> Any:
        found = super().build_hooks()
        if os.environ["DIES"] == "1" and comm.get_rank() == 1 and not comm.was_restarted():
            found.insert(-1, hooks.CallbackHook(before_step=die_at_seven))
        return found


def die_at_seven(trainer: Any) -> None:
    if trainer.iter == 7:
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str) -> None:
    killed.Trainer = Trainer  # type: ignore[misc]
    killed.train(folder, resume=False)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="meant for machines without GPU")
def test_restart_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    killed.write_dataset(tmp_path)
    cfg = killed.config(tmp_path, "RetinaNet")
    cfg.DATALOADER.NUM_WORKERS = 0
    (tmp_path / "c.yaml").write_text(cfg.dump())
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=1"]
    command += ["--nproc-per-node=2", "-m", "tests.engine.test_elastic", str(tmp_path)]
    for dies, name in (("0", "undisturbed"), ("1", "restarted")):
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DIES": dies}
        done = subprocess.run(
            command, env=env, cwd=ROOT, timeout=400, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("Started again by torchrun" in done.stdout + done.stderr) == (dies == "1")
        (tmp_path / "out").rename(tmp_path / name)
    assert not killed.run_differences(tmp_path / "undisturbed", tmp_path / "restarted")


if __name__ == "__main__":
    launch(main, 1, args=(sys.argv[1],))
