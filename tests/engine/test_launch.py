"""One process or several: the same losses, readable errors, joining torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lucidet.engine import hooks
from lucidet.engine.launch import launch
from lucidet.engine.parallel import create_ddp_model
from lucidet.utils import comm
from tests.engine.toy import ToyDetector, losses_of, make_trainer, record

ROOT = Path(__file__).resolve().parents[2]
needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="meant for machines without GPU")


def train(out: str, accumulate: int = 1) -> None:
    model = create_ddp_model(ToyDetector())
    trainer = make_trainer(model, batch=8 // accumulate, accumulate=accumulate)
    # an uneven share: 3 images of one process, 2 + 1 of two
    images = [[record(n)] for n in range(3)][comm.get_rank() :: comm.get_world_size()]

    def evaluate() -> Any:  # only the main process has results
        return {"bbox": {"AP": 1.0}} if comm.is_main_process() else {}

    trainer.register_hooks(
        [
            hooks.ValidationLoss(2, model, images),
            hooks.EvalHook(1, evaluate),
            hooks.EarlyStopping(1, 4),
        ]
    )
    trainer.train(0, 8)
    assert trainer.iter == 4, "every process stops there"
    if comm.is_main_process():
        validation = [v for v, _ in trainer.storage.history("validation/loss_cls").values()]
        weights = {k.removeprefix("module."): v.tolist() for k, v in model.state_dict().items()}
        result = {
            "losses": losses_of(trainer) + validation,
            "weights": weights,
            "world": comm.get_world_size(),
        }
        Path(out).write_text(json.dumps(result))


def fail(rank: int) -> None:
    if comm.get_rank() == rank:
        raise KeyError("no image 17")


def report(out: str) -> None:
    line = f"{comm.get_rank()} {comm.get_world_size()} {comm.get_local_rank()} {dist.get_backend()}"
    Path(out, str(comm.get_rank())).write_text(line)


def test_one_process_runs_in_place(capsys: Any) -> None:
    assert launch(max, 0, args=(3, 4)) == 4
    assert launch(max, 0, dist_url="tcp://127.0.0.1:1", args=(3, 4)) == 4


@needs_cpu
def test_missing_gpus_are_mentioned(caplog: Any) -> None:
    import logging

    logging.getLogger("lucidet").propagate = True
    assert launch(max, 1, args=(3, 4)) == 4
    assert "1 GPU(s) asked for, but there is none: running 1 process on the CPU" in caplog.text


@pytest.mark.slow
@needs_cpu
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(tmp_path: Path, accumulate: int) -> None:
    launch(train, 1, args=(str(tmp_path / "one"),))
    launch(train, 2, dist_url="auto", args=(str(tmp_path / "two"), accumulate))
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    assert (one["world"], two["world"]) == (1, 2)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for name, value in one["weights"].items():
        torch.testing.assert_close(torch.tensor(value), torch.tensor(two["weights"][name]))


@pytest.mark.slow
@needs_cpu
def test_error_of_a_process_is_readable() -> None:
    # process 0 waits for process 1 and fails after it: the cause is what is shown
    with pytest.raises(RuntimeError, match=r"process 1 of 2 stopped: KeyError: 'no image 17'"):
        launch(fail, 2, args=(1,))


@pytest.mark.slow
@needs_cpu
def test_torchrun_is_joined(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from lucidet.engine.launch import launch\n"
        "from tests.engine.test_launch import report\n"
        "launch(report, 8, args=(sys.argv[1],))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(program), str(tmp_path)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    subprocess.run(command, check=True, env=env, timeout=120, capture_output=True)
    assert (tmp_path / "0").read_text() == "0 2 0 gloo"
    assert (tmp_path / "1").read_text() == "1 2 1 gloo"


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"machine_rank must be in 0\.\.1, got 2"):
        launch(max, 0, num_machines=2, machine_rank=2)
    with pytest.raises(ValueError, match="several machines need --dist-url"):
        launch(max, 0, num_machines=2, dist_url="auto")
