"""Hooks: evaluation, best weights, early stopping, averages, norm statistics, validation loss."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lucidet.checkpoint import Checkpointer, DetectionCheckpointer
from lucidet.engine import hooks
from lucidet.engine.random_state import preserved_random_state, random_state, set_random_state
from lucidet.engine.train_loop import TrainerBase
from lucidet.solver import ModelEMA
from lucidet.utils.events import EventStorage, EventWriter
from tests.engine.toy import ToyDetector, ToyLoader, losses_of, make_trainer, record


class Idle(TrainerBase):
    """Iterations in which nothing happens."""

    def run_step(self) -> None:
        pass


def run(n: int, *registered: hooks.HookBase, start: int = 0) -> Idle:
    trainer = Idle()
    trainer.register_hooks(registered)
    trainer.train(start, n)
    return trainer


def results(values: list[float]) -> Any:
    """An evaluation that returns one value after the other."""
    left = iter(values)
    return lambda: {"bbox": {"AP": next(left)}}


# ------------------------------------------------------------------------------------ evaluation


@pytest.mark.parametrize(
    ("period", "iterations", "at_end", "expected"),
    [
        (0, 5, True, [5]),
        (0, 5, False, []),
        (2, 5, True, [1, 3, 5]),
        (2, 4, True, [1, 4]),  # the last is not done twice
        (2, 0, True, [0]),
    ],
)
def test_eval_hook_times(period: int, iterations: int, at_end: bool, expected: list[int]) -> None:
    seen: list[int] = []
    trainer = Idle()
    hook = hooks.EvalHook(period, lambda: seen.append(trainer.iter), eval_after_train=at_end)
    trainer.register_hooks([hook])
    trainer.train(0, iterations)
    assert seen == expected


def test_eval_hook_writes_flat_numbers() -> None:
    trainer = run(2, hooks.EvalHook(0, lambda: {"bbox": {"AP": np.float64(3), "AP50": 4}, "n": 1}))
    assert {k: v for k, (v, _) in trainer.storage.latest().items()} == {
        "bbox/AP": 3.0,
        "bbox/AP50": 4.0,
        "n": 1.0,
    }
    with pytest.raises(ValueError, match="bbox='high'"):
        run(1, hooks.EvalHook(0, lambda: {"bbox": "high"}))


def test_eval_hook_leaves_random_states_alone() -> None:
    def draw() -> dict[str, Any]:
        random.random()
        np.random.rand()
        torch.rand(1)
        return {}

    before = random_state()
    run(3, hooks.EvalHook(1, draw))
    after = random_state()
    assert after["python"] == before["python"]
    assert torch.equal(after["numpy"][0], before["numpy"][0])
    assert torch.equal(after["torch"], before["torch"])


def test_random_state_round_trip(tmp_path: Path) -> None:
    state = random_state()
    drawn = (random.random(), np.random.randn(), torch.rand(1).item())
    torch.save(state, tmp_path / "s")
    set_random_state(torch.load(tmp_path / "s", weights_only=True))
    assert (random.random(), np.random.randn(), torch.rand(1).item()) == drawn
    with preserved_random_state(seed=1):
        a = torch.rand(1)
    with preserved_random_state(seed=1):
        assert torch.equal(torch.rand(1), a)


# ---------------------------------------------------------------------------- best, early stopping


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", [1.0, 3.0, 2.0, 2.5], 3),
        ("min", [1.0, 3.0, 2.0, 0.5], 8),
        ("max", [1.0, 1.0, 1.0, 1.0], 1),
        ("max", [float("nan"), 0.0, float("nan"), float("nan")], 3),
    ],
)
def test_best_checkpoint(tmp_path: Path, mode: str, values: list[float], best: int) -> None:
    keeper = Checkpointer(ToyDetector(), tmp_path)
    evaluate = hooks.EvalHook(2, results(values))
    run(8, evaluate, hooks.BestCheckpointer(2, keeper, "bbox/AP", mode))
    saved = keeper.load(str(tmp_path / "model_best.pth"))
    assert saved["iteration"] == best
    assert [p.name for p in tmp_path.glob("*.pth")] == ["model_best.pth"]


def test_best_checkpoint_is_not_where_to_resume(tmp_path: Path) -> None:
    keeper = Checkpointer(ToyDetector(), tmp_path)
    keeper.save("model_0000001", iteration=1)
    run(4, hooks.EvalHook(2, results([1, 2])), hooks.BestCheckpointer(2, keeper, "bbox/AP"))
    assert keeper.get_checkpoint_file().endswith("model_0000001.pth")


def test_best_checkpoint_remembers_over_a_resume(tmp_path: Path) -> None:
    keeper = Checkpointer(ToyDetector(), tmp_path)
    first = hooks.BestCheckpointer(2, keeper, "bbox/AP")
    run(2, hooks.EvalHook(2, results([5.0])), first)
    second = hooks.BestCheckpointer(2, keeper, "bbox/AP")
    second.load_state_dict(first.state_dict())
    run(4, hooks.EvalHook(2, results([4.0])), second, start=2)
    assert keeper.load(str(tmp_path / "model_best.pth"))["iteration"] == 2


def test_best_checkpoint_of_an_unknown_metric(tmp_path: Path, caplog: Any) -> None:
    keeper = Checkpointer(ToyDetector(), tmp_path)
    run(2, hooks.EvalHook(0, results([5.0])), hooks.BestCheckpointer(0, keeper, "bbox/ap"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"mode must.*'most'"):
        hooks.BestCheckpointer(1, keeper, "bbox/AP", mode="most")


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ([1, 2, 3, 4, 5], 9),  # improves throughout: the run reaches its end
        ([3, 2, 1, 0, 0], 5),  # two evaluations without a new best
        ([1, 0, 2, 1, 2], 9),
        ([float("nan")] * 5, 3),
    ],
)
def test_early_stopping(tmp_path: Path, values: list[float], last: int) -> None:
    keeper = Checkpointer(ToyDetector(), tmp_path)
    trainer = run(
        10,
        hooks.PeriodicCheckpointer(keeper, 100),
        hooks.EvalHook(2, results(values)),
        hooks.EarlyStopping(2, 2, "bbox/AP"),
    )
    assert trainer.iter == (10 if last == 9 else last)
    assert bool(trainer.stop_reason) == (last != 9)
    assert keeper.load(str(tmp_path / "model_final.pth"))["iteration"] == last


def test_early_stopping_state_and_arguments() -> None:
    first = hooks.EarlyStopping(1, 3)
    run(4, hooks.EvalHook(1, results([3.0, 2.0, 1.0, 1.0])), first)
    second = hooks.EarlyStopping(1, 3)
    second.load_state_dict(first.state_dict())
    trainer = run(9, hooks.EvalHook(1, results([1.0] * 9)), second, start=4)
    assert trainer.iter == 4
    for period, patience in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=r"TEST\.EVAL_PERIOD"):
            hooks.EarlyStopping(period, patience)


# --------------------------------------------------------------------------------------- weights


def test_ema_follows_the_definition_and_is_saved(tmp_path: Path) -> None:
    trainer = make_trainer()
    ema = ModelEMA(trainer.model, decay=0.5)
    seen = []
    trainer.register_hooks(
        [
            hooks.EMAHook(ema, trainer.model),
            hooks.CallbackHook(
                after_step=lambda t: seen.append(t.model.head.bias.detach().clone())
            ),
        ]
    )
    expected = trainer.model.head.bias.detach().clone()
    trainer.train(0, 5)
    for update, weights in enumerate(seen, start=1):
        decay = ema.decay_at(update)
        expected = decay * expected + (1 - decay) * weights
    with ema.applied(trainer.model):
        torch.testing.assert_close(trainer.model.head.bias.detach(), expected)
    assert torch.equal(trainer.model.head.bias.detach(), seen[-1])

    DetectionCheckpointer(trainer.model, tmp_path, ema=ema).save("a", iteration=4)
    fresh = ToyDetector()
    DetectionCheckpointer(fresh).load(str(tmp_path / "a.pth"))
    torch.testing.assert_close(fresh.head.bias.detach(), expected)


def test_ema_starts_from_loaded_weights() -> None:
    trainer = make_trainer(lr=0.0)
    ema = ModelEMA(trainer.model)
    with torch.no_grad():  # a checkpoint is loaded after the trainer was built
        trainer.model.head.bias.fill_(7.0)
    trainer.register_hooks([hooks.EMAHook(ema, trainer.model)])
    trainer.train(0, 1)
    with ema.applied(trainer.model):
        assert trainer.model.head.bias.tolist() == [7.0, 7.0]


def test_precise_bn_gives_the_statistics_of_all_batches() -> None:
    model = ToyDetector(norm=True)
    trainer = make_trainer(model, lr=0.0)
    loader = ToyLoader(batch=4)
    trainer.register_hooks([hooks.PreciseBN(0, model, loader, 5)])
    trainer.train(0, 2)
    with torch.no_grad():
        x = model.backbone(torch.stack([record(n)["image"] for n in range(20)])).view(5, 4, 8)
        mean = x.mean((0, 1))
        square = (x.var(1, unbiased=True) + x.mean(1).square()).mean(0)
    torch.testing.assert_close(model.norm.running_mean, mean)
    torch.testing.assert_close(model.norm.running_var, square - mean.square())
    assert model.norm.momentum == 0.1


def test_precise_bn_without_such_layers_does_nothing() -> None:
    trainer = make_trainer()
    trainer.register_hooks([hooks.PreciseBN(1, trainer.model, [], 5)])
    trainer.train(0, 1)


# ------------------------------------------------------------------------------- validation loss


class Counting(ToyDetector):
    """Keeps count in an attribute, as loss normalisers do, and has dropout."""

    def __init__(self) -> None:
        super().__init__(noise=0.5, norm=True)
        self.norm = nn.Sequential(self.norm, nn.Dropout(0.5))
        self.normalizer = 100.0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch: Any) -> Any:
        if self.training:
            self.normalizer = 0.9 * self.normalizer + 0.1 * len(batch)
            self.seen += len(batch)
        return super().forward(batch)


def finite_loader(images: int = 5) -> list[list[dict[str, Any]]]:
    return [[record(100 + n) for n in range(i, min(i + 2, images))] for i in range(0, images, 2)]


def test_validation_loss_leaves_no_trace() -> None:
    plain, watched = make_trainer(Counting()), make_trainer(Counting())
    watched.register_hooks([hooks.ValidationLoss(1, watched.model, finite_loader())])
    for trainer in (plain, watched):
        torch.manual_seed(0)
        trainer.train(0, 6)
    assert losses_of(plain) == losses_of(watched)
    assert plain.model.normalizer == watched.model.normalizer
    assert plain.model.metrics == watched.model.metrics
    states = zip(
        plain.model.state_dict().values(), watched.model.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in states)
    assert all(module.training for module in watched.model.modules())


def test_validation_loss_is_the_mean_over_images() -> None:
    model = ToyDetector()
    hook = hooks.ValidationLoss(2, model, finite_loader(5))
    trainer = make_trainer(model, lr=0.0)
    trainer.register_hooks([hook])
    trainer.train(0, 4)
    with torch.no_grad():
        losses = [model([r]) for batch in finite_loader(5) for r in batch]
    mean = sum(float(x["loss_cls"]) for x in losses) / 5
    history = trainer.storage.history("validation/loss_cls").values()
    assert [at for _, at in history] == [1, 3]
    assert history[0][0] == pytest.approx(mean)
    total = trainer.storage.latest()["validation/total_loss"][0]
    both = mean + trainer.storage.latest()["validation/loss_box_reg"][0]
    assert total == pytest.approx(both)


def test_validation_loss_of_nothing() -> None:
    trainer = make_trainer()
    trainer.register_hooks([hooks.ValidationLoss(1, trainer.model, [])])
    trainer.train(0, 1)
    assert not any(name.startswith("validation") for name in trainer.storage.latest())


# ---------------------------------------------------------------------------------------- others


class Writes(EventWriter):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def write(self) -> None:
        self.calls.append("write")

    def close(self) -> None:
        self.calls.append("close")


def test_periodic_writer() -> None:
    writer = Writes()
    run(5, hooks.PeriodicWriter([writer], period=2))
    assert writer.calls == ["write"] * 4 + ["close"]  # after 2, 4, 5 and the end


def test_iteration_timer_leaves_the_first_out() -> None:
    trainer = run(5, hooks.IterationTimer(warmup_iter=3))
    assert [at for _, at in trainer.storage.history("time").values()] == [3, 4]
    run(0, hooks.IterationTimer())
    short = run(2, hooks.IterationTimer(warmup_iter=3))
    assert [at for _, at in short.storage.history("time").values()] == [0, 1]


def test_learning_rate_is_written_and_stepped() -> None:
    trainer = make_trainer(lr=0.1)
    trainer.train(0, 7)
    rates = [rate for rate, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1] * 3 + [0.05] * 3 + [0.025])


def test_rate_shown_is_that_of_most_parameters() -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [{"params": weights[:1], "lr": 0.2}, {"params": weights[1:], "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    assert hooks.LRScheduler.get_best_param_group_id(optimizer) == 1


@pytest.mark.parametrize("kind", [hooks.TorchProfiler, hooks.AutogradProfiler])
def test_profilers(tmp_path: Path, kind: Any) -> None:
    trainer = make_trainer()
    trainer.register_hooks([kind(lambda t: t.iter == 1, str(tmp_path))])
    trainer.train(0, 3)
    assert len(list(tmp_path.rglob("*profiler_iter1*"))) == 1


def test_memory_stats_without_a_gpu() -> None:
    run(2, hooks.TorchMemoryStats(period=1))


def test_no_evaluation_after_an_error_in_the_last_iteration() -> None:
    def fail(trainer: Any) -> None:
        if trainer.iter == 2:
            raise ValueError("the last one")

    calls: list[int] = []
    trainer = make_trainer()
    trainer.register_hooks(
        [hooks.EvalHook(0, lambda: calls.append(1)), hooks.CallbackHook(before_step=fail)]
    )
    with pytest.raises(ValueError, match="the last one"):
        trainer.train(0, 3)
    assert not calls
    trainer = make_trainer()
    trainer.register_hooks([hooks.EvalHook(0, lambda: calls.append(1))])
    trainer.train(0, 3)
    assert calls == [1]


@pytest.mark.parametrize("fails", [False, True])
def test_evaluation_after_a_loop_of_the_users_own(fails: bool) -> None:
    """It leaves `iter` at the last iteration, as a loop over a range does."""

    class Loop(Idle):
        def train(self, start: int, end: int) -> None:
            self.start_iter, self.max_iter = start, end
            with EventStorage(start) as self.storage:
                try:
                    self.before_train()
                    for self.iter in range(start, end):
                        self.before_step()
                        if fails and self.iter == end - 1:
                            raise ValueError("the last one")
                        self.run_step()
                        self.after_step()
                finally:
                    self.after_train()

    seen: list[int] = []
    trainer = Loop()
    trainer.register_hooks([hooks.EvalHook(2, lambda: seen.append(trainer.iter))])
    with pytest.raises(ValueError, match="the last one") if fails else nullcontext():
        trainer.train(0, 4)
    assert seen == ([1] if fails else [1, 3])


@pytest.mark.parametrize(
    ("start", "kept"),
    [
        (12, ["model_0000008.pth", "model_0000011.pth"]),
        (6, ["model_0000002.pth", "model_0000005.pth", "model_0000008.pth", "model_0000011.pth"]),
        (0, ["model_0000002.pth", "model_0000005.pth", "model_0000008.pth", "model_0000011.pth"]),
    ],
)
def test_what_a_kill_left_is_removed_on_resume(tmp_path: Path, start: int, kept: list[str]) -> None:
    """Files after the resumed one may be damaged: they do not count as kept."""
    checkpointer = Checkpointer(nn.Linear(1, 1), tmp_path)
    for iteration in (2, 5, 8, 11):
        checkpointer.save(f"model_{iteration:07d}")
    trainer = TrainerBase()
    trainer.register_hooks([hooks.PeriodicCheckpointer(checkpointer, 3, max_to_keep=2)])
    trainer.start_iter, trainer.max_iter = start, 14
    trainer.before_train()
    assert sorted(path.name for path in tmp_path.glob("model_0*.pth")) == kept
