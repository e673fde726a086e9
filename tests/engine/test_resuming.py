"""Resuming: what goes on, what the config's values change, what is refused and what is said."""

from __future__ import annotations

import argparse
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.checkpoint import Checkpointer
from lucidet.checkpoint.writing import save_torch
from lucidet.config import get_cfg
from lucidet.engine import default_setup, hooks
from lucidet.engine.run_state import (
    first_iteration,
    load_moving_averages,
    moving_averages,
    report_resume,
)
from lucidet.engine.train_loop import TrainerBase
from lucidet.modeling.sampling import random_priorities
from lucidet.utils.events import EventStorage, JSONWriter
from tests.engine import killed
from tests.engine.toy import ToyDetector, make_trainer


class PowerCut(BaseException):
    """Ends a run in the middle."""


class Idle(TrainerBase):
    """Iterations in which nothing is computed."""

    def run_step(self) -> None:
        self.storage.put_scalar("total_loss", float(self.iter % 5))


def idle_run(
    folder: Path, values: dict[int, float], stop_after: int = 0, until: int = 12, patience: int = 2
) -> Idle:
    """Evaluate every 2 iterations, save every 3; go on where `folder` has a checkpoint.

    Args:
        folder: of the run.
        values: iteration -> what its evaluation gives.
        stop_after: the iteration in which the power fails, after everything was done; 0: none.
        until: iterations of the run.
        patience: of the early stopping.
    """
    trainer = Idle()
    keeper = Checkpointer(ToyDetector(), folder, trainer=trainer)

    def evaluate() -> dict[str, float]:
        return {"bbox/AP": values[trainer.iter]}

    def fail(t: Any) -> None:
        if stop_after and t.iter == stop_after:
            raise PowerCut

    trainer.register_hooks(
        [
            hooks.PeriodicCheckpointer(keeper, 3),
            hooks.EvalHook(2, evaluate),
            hooks.BestCheckpointer(2, keeper, "bbox/AP"),
            hooks.EarlyStopping(2, patience),
            hooks.PeriodicWriter([JSONWriter(folder / "metrics.json")], 5),
            hooks.CallbackHook(after_step=fail),
        ]
    )
    start = keeper.resume_or_load("")["iteration"] + 1 if keeper.has_checkpoint() else 0
    with suppress(PowerCut):
        trainer.train(start, until)
    return trainer


def best(folder: Path) -> tuple[float, int]:
    saved = torch.load(folder / "model_best.pth", weights_only=True)
    return saved["best"]["value"], saved["iteration"]


def rows(folder: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert len({line["iteration"] for line in lines}) == len(lines)
    return {line["iteration"]: line for line in lines}


VALUES = {1: 0.1, 3: 0.3, 5: 0.5, 7: 0.4, 9: 0.6, 11: 0.7, 12: 0.7}


@pytest.mark.parametrize("stop_after", [1, 2, 4, 5, 6, 7, 8, 9, 10])
def test_an_interrupted_run_ends_as_the_whole_one(tmp_path: Path, stop_after: int) -> None:
    idle_run(tmp_path / "whole", VALUES)
    idle_run(tmp_path / "parts", VALUES, stop_after)
    idle_run(tmp_path / "parts", VALUES)
    assert best(tmp_path / "parts") == best(tmp_path / "whole") == (0.7, 12)
    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert {at for at, row in whole.items() if "bbox/AP" in row} == {1, 3, 5, 7, 9, 12}
    # an interruption that can be caught writes its own line; a kill does not
    assert {at: row for at, row in parts.items() if at in whole} == whole


def test_a_better_model_is_never_replaced(tmp_path: Path) -> None:
    # the best value came after the last checkpoint; the repeated evaluation gives a bit less
    idle_run(tmp_path, VALUES | {7: 0.9}, stop_after=7)
    assert best(tmp_path) == (0.9, 7)
    idle_run(tmp_path, VALUES | {7: 0.8}, patience=9)
    assert best(tmp_path) == (0.9, 7)


@pytest.mark.parametrize("damage", [b"", None])
def test_a_best_model_that_is_lost_is_no_bar(tmp_path: Path, damage: bytes | None) -> None:
    idle_run(tmp_path, VALUES, stop_after=8)
    path = tmp_path / "model_best.pth"
    path.unlink() if damage is None else path.write_bytes(damage)
    idle_run(tmp_path, VALUES | {9: 0.2, 11: 0.3, 12: 0.1}, patience=9)
    assert best(tmp_path) == (0.2, 9)


def test_a_run_that_was_stopped_early_does_not_train_on(tmp_path: Path) -> None:
    falling = {1: 0.5, 3: 0.4, 5: 0.3, 7: 0.9, 9: 0.9, 11: 0.9, 12: 0.9}
    assert idle_run(tmp_path, falling).iter == 5
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    again = idle_run(tmp_path, falling)
    assert (again.iter, again.start_iter) == (5, 6)
    assert "not improved" in again.stop_reason
    assert not list(
        killed.differences(final, torch.load(tmp_path / "model_final.pth", weights_only=True))
    )
    assert best(tmp_path) == (0.5, 1)
    assert idle_run(tmp_path, falling, patience=9).iter == 12  # who wants more sets it


# -------------------------------------------------------------------------------------- keyed steps


def test_steps_are_keyed_by_their_number() -> None:
    drawn: dict[int, list[float]] = {}

    def draw(trainer: Any) -> None:
        numbers = [float(torch.rand(1)), float(random_priorities(1, 1, torch.device("cpu")))]
        drawn.setdefault(trainer.iter, []).extend(numbers)

    for start in (0, 3):
        trainer = make_trainer()
        trainer._hooks = [h for h in trainer._hooks if not isinstance(h, hooks.RandomState)]
        trainer.register_hooks([hooks.RandomState(4), hooks.CallbackHook(before_step=draw)])
        trainer.train(start, 5)
    assert len({number for numbers in drawn.values() for number in numbers}) == 10
    assert all(drawn[i][:2] == drawn[i][2:] for i in (3, 4))


def test_a_seed_that_was_drawn_is_kept_and_a_given_one_counts(caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    drawn, given = hooks.RandomState(), hooks.RandomState(8)
    for hook in (drawn, given):
        hook.load_state_dict({"seed": 5})
    assert (drawn.seed, given.seed) == (5, 8)
    assert "SEED was 5 and is 8 now" in caplog.text
    drawn.load_state_dict({"python": []})  # of an older version
    assert drawn.seed == 5


# -------------------------------------------------------------------------------- the whole trainer


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    """Return the config of a run of three iterations, with SEED -1 and a checkpoint of each."""
    killed.write_dataset(tmp_path)
    cfg = killed.config(tmp_path, "RetinaNet")
    cfg.SEED = -1
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.CHECKPOINT_PERIOD = 1
    cfg.SOLVER.CHECKPOINTS_KEPT = 0
    cfg.SOLVER.BEST_CHECKPOINT.METRIC = ""
    cfg.TEST.VAL_LOSS = False
    cfg.DATASETS.TEST = ()
    run(tmp_path, cfg, resume=False)
    return cfg


def run(folder: Path, cfg: Any, resume: bool = True) -> Any:
    (folder / "c.yaml").write_text(cfg.dump())
    logging.getLogger("lucidet").propagate = True
    return killed.train(str(folder), resume)


@pytest.mark.slow
def test_a_random_seed_is_drawn_once(tmp_path: Path, trained: Any) -> None:
    final = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000001.pth")
    run(tmp_path, trained)
    again = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert not list(killed.differences(final, again))
    seed = final["trainer"]["hooks"]["RandomState"]["seed"]
    assert seed == final["trainer"]["hooks"]["DataPosition"]["seed"] >= 0
    assert final["trainer"]["moving_averages"]["loss_normalizer"] > 0


@pytest.mark.slow
def test_changed_settings_count_and_are_said(
    tmp_path: Path, trained: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trained.SOLVER.BASE_LR, trained.SOLVER.WEIGHT_DECAY, trained.SOLVER.MOMENTUM = 0.5, 0.25, 0.75
    trained.SEED, trained.SOLVER.MAX_ITER, trained.SOLVER.STEPS = 3, 5, ()
    trainer = run(tmp_path, trained)
    group = trainer.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.5, 0.25, 0.75)
    line = next(r.getMessage() for r in caplog.records if "config's count" in r.getMessage())
    for change in ("learning rate 0.01 -> 0.5", "weight_decay 0.0001 -> 0.25", "momentum 0.9"):
        assert change in line
    assert "and is 3 now" in caplog.text
    trained.SOLVER.OPTIMIZER, trained.SOLVER.MAX_ITER = "ADAMW", 7
    with pytest.raises(ValueError, match=r"another optimizer \(SGD\).*SOLVER\.OPTIMIZER"):
        run(tmp_path, trained)
    trained.SOLVER.OPTIMIZER, trained.MODEL.FPN.OUT_CHANNELS = "SGD", 24
    with pytest.raises(ValueError, match=r"model of other sizes: .*file .*model .*--weights"):
        run(tmp_path, trained)


@pytest.mark.parametrize("iteration", [-1, True, None, "9", 9.0, float("nan")])
def test_impossible_iterations_are_refused(iteration: Any) -> None:
    with pytest.raises(ValueError, match=r"run: its iteration is .* expected a whole number >= 0"):
        first_iteration({} if iteration is None else {"iteration": iteration}, 10, "run")


def test_iteration_beyond_the_end() -> None:
    assert [first_iteration({"iteration": i}, 10, "run") for i in (0, 8, 9, 10)] == [1, 9, 10, 10]
    with pytest.raises(ValueError, match=r"iteration is 11, but SOLVER.MAX_ITER is 10: raise"):
        first_iteration({"iteration": 11}, 10, "run")


def test_moving_averages_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Detector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.moving_averages = {"loss_normalizer"}
            self.register_buffer("loss_normalizer", torch.tensor(12.0), persistent=False)

        def set_moving_average(self, name: str, value: float) -> None:
            self.register_buffer(name, torch.tensor(value), persistent=False)

    detector = Detector()
    saved = moving_averages(torch.nn.Sequential(detector))
    assert saved == {"0.loss_normalizer": 12.0}
    monkeypatch.setattr("lucidet.utils.comm.get_world_size", lambda: 4)
    load_moving_averages(torch.nn.Sequential(detector), saved)
    assert float(detector.loss_normalizer) == 3.0
    load_moving_averages(torch.nn.Sequential(detector), {"1.other": 1.0})  # only mentioned


# ------------------------------------------------------------------------------------- metrics.json


def test_json_lines_after_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(
        '{"iteration": 3}\n{"iteration": 7}\n{"iteration": 9}\n[1]\n{"iteration": 11, "lo'
    )
    writer = JSONWriter(path)
    writer.resume(9)
    with EventStorage(9) as storage:
        storage.load_state_dict({"old": {"smooth": True, "values": [(1.0, 6), (2.0, 7)]}})
        storage.put_scalar("total_loss", 2.0)
        writer.write()
    writer.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"iteration": 3}, {"iteration": 7}, {"iteration": 9, "total_loss": 2.0}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_storage_round_trip_without_clocks(tmp_path: Path) -> None:
    storage = EventStorage(200)
    for i in range(200):
        storage.iter = i
        storage.put_scalars(loss=float(i), time=1.0)
        storage.put_scalar("lr", 0.1, smoothing_hint=False)
    save_torch({"storage": storage.state_dict()}, tmp_path / "s")
    saved = torch.load(tmp_path / "s", weights_only=True)["storage"]
    assert set(saved) == {"loss", "lr"}
    other = EventStorage(200)
    other.load_state_dict(saved)
    for window in (1, 20, 50):
        expected = storage.latest_with_smoothing_hint(window)
        expected.pop("time")
        assert other.latest_with_smoothing_hint(window) == expected
    EventStorage().load_state_dict(EventStorage().state_dict())


def test_what_cannot_be_exact_is_said(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    report_resume(cfg, 3, [])
    assert not caplog.text
    cfg.MODEL.DEVICE = "cuda"
    report_resume(cfg, 3, [])
    assert "agree to rounding, not to the bit; --deterministic avoids them" in caplog.text
    monkeypatch.setattr("lucidet.utils.comm.all_gather", lambda start: [start, 0])
    with pytest.raises(RuntimeError, match=r"different iterations \[3, 0\]: OUTPUT_DIR"):
        report_resume(cfg, 3, [])


def test_deterministic_kernels_are_asked_for(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.MODEL.DEVICE = str(tmp_path), "cpu"
    try:
        default_setup(cfg, argparse.Namespace(deterministic=True))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
