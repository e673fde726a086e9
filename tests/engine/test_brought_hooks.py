"""Hooks, loaders and scalars of user code in a training."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lucidet.engine import HookBase, SimpleTrainer, hooks
from lucidet.utils.analysis import find_unused_parameters
from lucidet.utils.events import CommonMetricPrinter, EventStorage


class Model(nn.Module):
    """Two losses of one weight; the other has no influence."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.idle = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def forward(self, batch):
        total = sum(float(x) for x in batch)
        return {"loss_a": self.weight.sum() * total, "loss_b": self.weight.sum() * 0 + 1}


def trainer(loader, **options) -> SimpleTrainer:
    model = Model()
    return SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), lr=0.0), **options)


class Watching(HookBase):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_step(self) -> None:
        self.seen.append(self.trainer.storage.history("total_loss").latest())


@pytest.mark.parametrize("period", [1, 3, 20])
def test_the_loss_of_each_step_can_be_read_whatever_the_period(period):
    run, hook = trainer([[1.0], [2.0], [3.0], [4.0]], gather_metric_period=period), Watching()
    run.register_hooks([hook])
    run.train(0, 4)
    assert hook.seen == [2.0, 3.0, 4.0, 5.0]
    assert [v for v, _ in run.storage.history("loss_a").values()] == [1.0, 2.0, 3.0, 4.0]


def test_a_history_that_nobody_reads_is_written_by_period():
    run = trainer([[1.0]] * 5, gather_metric_period=2)
    seen = []
    after = lambda t: seen.append(len(t.storage.histories().get("total_loss", ())))  # noqa: E731
    run.register_hooks([hooks.CallbackHook(after_step=after)])
    run.train(0, 5)
    assert seen == [0, 2, 2, 4, 5]


@pytest.mark.parametrize(
    "loader",
    [[[1.0], [2.0]], DataLoader([1.0, 2.0], batch_size=1), [[1.0]]],
    ids=["list", "loader", "one"],
)
def test_a_loader_that_ends_begins_again(loader):
    run = trainer(loader)
    run.train(0, 5)
    assert run.iter == 5
    assert len(run.storage.history("total_loss")) == 5


def test_a_loader_without_a_batch_is_named():
    with pytest.raises(ValueError, match=r"data loader \(list\) gives no batch"):
        trainer([]).train(0, 2)


def test_training_twice():
    run, evaluated, called = trainer([[1.0], [2.0]]), [], []
    evaluation = hooks.EvalHook(0, lambda: evaluated.append(run.iter))
    run.register_hooks([evaluation, hooks.CallbackHook(after_step=called.append)])
    run.train(0, 3)
    run.train(0, 2)
    assert (evaluated, len(called)) == ([3, 2], 5)
    assert len(run.storage.history("total_loss")) == 2
    run.train(2, 4)
    assert run.storage.latest()["total_loss"][1] == 3


@pytest.mark.parametrize("name", ["accuracy", "mine/score", "gradient_norm"])
def test_scalars_that_are_no_losses_are_printed(name):
    with EventStorage() as storage:
        storage.put_scalar("loss_cls", 0.5)
        storage.put_scalar(name, 0.25)
        storage.put_scalar("many/num_anchors", 3)
        storage.not_printed.add("many/num_anchors")
        line = CommonMetricPrinter(9).line(storage)
        assert f"loss_cls: 0.500  {name}: 0.250" in line
        assert "num_anchors" not in line
        for _ in range(30):
            storage.step()
        assert name not in CommonMetricPrinter(99).line(storage), "it is long ago"


def test_what_a_models_modules_measure_stays_off_the_console(caplog):
    run = trainer([[1.0]])
    run.model.metrics = {"roi_heads/num_fg": 3.0}
    run.register_hooks([hooks.PeriodicWriter([CommonMetricPrinter(9)], period=1)])
    with caplog.at_level(logging.INFO, logger="lucidet"):
        run.train(0, 2)
    assert run.storage.history("roi_heads/num_fg").latest() == 3.0
    assert "num_fg" not in caplog.text


def test_find_unused_parameters():
    assert find_unused_parameters(Model(), [1.0]) == ["idle"]
    with pytest.raises(ValueError, match="training mode"):
        find_unused_parameters(Model().eval(), [1.0])
    with pytest.raises(ValueError, match="depend on no parameter"):
        find_unused_parameters(Model().requires_grad_(False), [1.0])
