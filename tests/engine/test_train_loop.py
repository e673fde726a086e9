"""The training loop: order of hooks, what is measured, accumulation, precision, bad losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lucidet.checkpoint import Checkpointer
from lucidet.engine.hooks import CallbackHook, HookBase, PeriodicCheckpointer
from lucidet.engine.loss_monitor import NonFiniteLossError, require_finite_weights
from lucidet.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from lucidet.utils.events import EventStorage, get_event_storage
from tests.engine.toy import ToyDetector, ToyLoader, losses_of, make_trainer


class Diary(HookBase):
    def __init__(self, name: str, pages: list[str]) -> None:
        self.name, self.pages = name, pages

    def _write(self, what: str) -> None:
        self.pages.append(f"{self.name}:{what}@{self.trainer.iter}")

    def before_train(self) -> None:
        self._write("before_train")

    def after_train(self) -> None:
        self._write("after_train")

    def before_step(self) -> None:
        self._write("before_step")

    def after_backward(self) -> None:
        self._write("after_backward")

    def after_step(self) -> None:
        self._write("after_step")


def test_hooks_order() -> None:
    pages: list[str] = []
    trainer = make_trainer()
    trainer.register_hooks([Diary("a", pages), None, Diary("b", pages)])
    trainer.train(5, 7)
    steps = ["before_step", "after_backward", "after_step"]
    expected = [("before_train", 5)]
    expected += [(what, i) for i in (5, 6) for what in steps] + [("after_train", 7)]
    assert pages == [f"{who}:{what}@{i}" for what, i in expected for who in ("a", "b")]


def test_no_iterations() -> None:
    pages: list[str] = []
    trainer = make_trainer()
    trainer.register_hooks([Diary("a", pages)])
    trainer.train(3, 3)
    assert pages == ["a:before_train@3", "a:after_train@3"]


def test_after_train_is_called_after_an_error() -> None:
    class Fails(TrainerBase):
        def run_step(self) -> None:
            raise KeyError("image 3")

    pages: list[str] = []
    trainer = Fails()
    trainer.register_hooks([Diary("a", pages)])
    with pytest.raises(KeyError, match="image 3"):
        trainer.train(0, 2)
    assert pages[-1] == "a:after_train@0"


def test_stop_ends_after_the_iteration() -> None:
    trainer = make_trainer()
    stop = CallbackHook(after_step=lambda t: t.stop("enough") if t.iter == 2 else None)
    trainer.register_hooks([stop])
    trainer.train(0, 10)
    assert trainer.iter == 2
    assert trainer.stop_reason == "enough"
    assert len(losses_of(trainer)) == 3


def test_hooks_do_not_keep_the_trainer_alive() -> None:
    import weakref

    trainer = make_trainer()
    trainer.train(0, 1)
    gone = weakref.ref(trainer)
    del trainer
    assert gone() is None


@pytest.mark.parametrize("period", [1, 3, 20])
def test_every_iteration_is_measured_whatever_the_period(period: int) -> None:
    trainer = make_trainer(gather_metric_period=period)
    trainer.train(0, 7)
    history = trainer.storage.history("total_loss").values()
    assert [at for _, at in history] == list(range(7))
    names = {"total_loss", "loss_cls", "loss_box_reg", "data_time", "toy/images", "toy/mean", "lr"}
    assert set(trainer.storage.histories()) == names
    latest = trainer.storage.latest()
    total = latest["loss_cls"][0] + latest["loss_box_reg"][0]
    assert latest["total_loss"][0] == pytest.approx(total)
    assert latest["toy/images"] == (4.0, 6)


def test_one_loss_without_a_dict() -> None:
    class One(nn.Linear):
        def forward(self, batch: Any) -> torch.Tensor:
            return super().forward(torch.stack([r["image"] for r in batch])).square().mean()

    trainer = make_trainer(One(4, 1))
    trainer.train(0, 2)
    assert set(trainer.storage.histories()) == {"total_loss", "data_time", "lr"}


def test_own_run_step_with_write_metrics() -> None:
    class Own(SimpleTrainer):
        def run_step(self) -> None:
            losses = self.model(next(self._data_loader_iter))
            self._write_metrics(losses, 0.5, prefix="own/")

    model = ToyDetector()
    trainer = Own(model, ToyLoader(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.train(0, 2)
    assert "own/loss_cls" in trainer.storage.latest()
    assert "own/total_loss" in trainer.storage.latest()


def test_static_write_metrics() -> None:
    with EventStorage(4) as storage:
        SimpleTrainer.write_metrics({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 0.1, 4)
    assert storage.latest()["total_loss"] == (3.0, 4)
    with EventStorage(), pytest.raises(FloatingPointError, match="b is nan"):
        SimpleTrainer.write_metrics({"a": torch.tensor(1.0), "b": torch.tensor(math.nan)}, 0.1, 4)


# -------------------------------------------------------------------------------------- resuming


def test_resume_is_bit_identical(tmp_path: Path) -> None:
    whole = make_trainer(ToyDetector(noise=0.5))
    torch.manual_seed(0)
    whole.train(0, 10)

    first = make_trainer(ToyDetector(noise=0.5))
    keeper = Checkpointer(first.model, tmp_path, trainer=first)
    first.register_hooks([PeriodicCheckpointer(keeper, 5)])
    torch.manual_seed(0)
    first.train(0, 5)

    second = make_trainer(ToyDetector(noise=0.5), start=5)
    rest = Checkpointer(second.model, tmp_path, trainer=second).resume_or_load("")
    torch.manual_seed(99)
    second.train(rest["iteration"] + 1, 10)

    assert losses_of(second) == losses_of(whole)  # what was measured before is restored too
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]


# ----------------------------------------------------------------------- accumulation, precision


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_the_big_batch(parts: int) -> None:
    big = make_trainer(batch=8)
    small = make_trainer(batch=8 // parts, accumulate=parts)
    big.train(0, 4)
    small.train(0, 4)
    assert losses_of(small) == pytest.approx(losses_of(big), rel=1e-5)
    for a, b in zip(big.model.parameters(), small.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("arguments", [{"accumulate": 0}, {"gather_metric_period": 0}])
def test_bad_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_trainer(**arguments)


def test_bfloat16_on_cpu() -> None:
    model = ToyDetector()
    seen = []
    model.backbone.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = AMPTrainer(model, ToyLoader(), optimizer, precision=torch.bfloat16)
    trainer.train(0, 30)
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    losses = losses_of(trainer)
    assert sum(losses[-5:]) < sum(losses[:5])
    trainer.load_state_dict(trainer.state_dict())
    with pytest.raises(ValueError, match="precision must be"):
        AMPTrainer(model, ToyLoader(), optimizer, precision=torch.float32)


# ----------------------------------------------------------------------------- losses gone bad


class Breaks(ToyDetector):
    """Its box loss is not finite for image 9."""

    def forward(self, batch: Any) -> Any:
        losses = super().forward(batch)
        if any(r["file_name"] == "9.jpg" for r in batch):
            losses["loss_box_reg"] = losses["loss_box_reg"] * math.inf
        return losses


@pytest.mark.parametrize("accumulate", [1, 2])
def test_non_finite_loss_stops_and_saves_the_batch(tmp_path: Path, accumulate: int) -> None:
    trainer = make_trainer(Breaks(), output_dir=str(tmp_path), batch=4, accumulate=accumulate)
    iteration = 2 if accumulate == 1 else 1
    before: dict[str, torch.Tensor] = {}

    def remember(t: Any) -> None:
        before.update({k: v.clone() for k, v in t.model.state_dict().items()})

    trainer.register_hooks([CallbackHook(before_step=remember)])
    with pytest.raises(FloatingPointError, match=r"loss_box_reg is inf.*8\.jpg, 9\.jpg") as caught:
        trainer.train(0, 10)
    assert isinstance(caught.value, NonFiniteLossError)
    assert caught.value.iteration == iteration
    # weights are those before the bad step
    assert all(torch.equal(before[k], v) for k, v in trainer.model.state_dict().items())
    saved = torch.load(tmp_path / f"bad_step_iter{iteration}/step.pth", weights_only=True)
    names = [r["file_name"] for part in saved["batches"] for r in part]
    assert "9.jpg" in names
    assert len(names) == 4 * accumulate
    assert str(tmp_path) in str(caught.value)


def test_folder_that_cannot_be_written_does_not_hide_the_loss(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    trainer = make_trainer(Breaks(), output_dir=str(tmp_path / "file"))
    with pytest.raises(FloatingPointError, match=r"loss_box_reg is inf.*could not be saved"):
        trainer.train(0, 10)


def test_bad_weights_are_not_saved(tmp_path: Path) -> None:
    trainer = make_trainer()
    keeper = Checkpointer(trainer.model, tmp_path)

    def poison(t: Any) -> None:
        if t.iter == 3:
            t.model.head.bias.data.fill_(math.nan)

    trainer.register_hooks([CallbackHook(after_step=poison), PeriodicCheckpointer(keeper, 2)])
    with pytest.raises(FloatingPointError, match=r"first 'head.bias'"):
        trainer.train(0, 10)
    assert [p.name for p in tmp_path.glob("*.pth")] == ["model_0000001.pth"]
    require_finite_weights(nn.Identity())


def test_storage_is_the_trainers() -> None:
    trainer = make_trainer()
    seen = []
    trainer.register_hooks([CallbackHook(after_step=lambda t: seen.append(get_event_storage()))])
    trainer.train(0, 1)
    assert seen == [trainer.storage]
