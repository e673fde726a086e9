"""Out of memory, injected: the batch is skipped, counted and named, or the training ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lucidet.engine.skipped_batches import MAX_IN_A_ROW, OutOfMemorySkipper
from lucidet.utils import comm
from tests.engine.toy import ToyDetector, losses_of, make_trainer


class Exhausted(ToyDetector):
    """Its memory does not suffice for some images."""

    def __init__(self, images: tuple[str, ...]) -> None:
        super().__init__()
        self.images = images

    def forward(self, batch: Any) -> Any:
        if any(r["file_name"] in self.images for r in batch):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


def run(skipper: OutOfMemorySkipper, images: tuple[str, ...], steps: int, **how: Any) -> Any:
    trainer = make_trainer(Exhausted(images), **how)
    inner = trainer.run_step
    trainer.run_step = lambda: skipper.run(inner, trainer.optimizer, trainer.iter)  # type: ignore[method-assign]
    trainer.train(0, steps)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_is_skipped(accumulate: int, caplog: pytest.LogCaptureFixture) -> None:
    skipper = OutOfMemorySkipper(True)
    with caplog.at_level("WARNING", logger="lucidet"):
        trainer = run(skipper, ("9.jpg",), 5, accumulate=accumulate)
    assert skipper.count == 1
    assert len(losses_of(trainer)) == 4
    number = 2 if accumulate == 1 else 1
    assert f"iteration {number} is skipped, out of GPU memory" in caplog.text
    assert "9.jpg (4,), 0 boxes" in caplog.text
    assert "skipped so far: 1" in caplog.text


def test_skipping_changes_no_weight() -> None:
    before = {k: v.clone() for k, v in Exhausted(()).named_parameters()}
    trainer = run(OutOfMemorySkipper(True), ("0.jpg",), 1)
    after = dict(trainer.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(p.grad is None for p in after.values())
    assert not trainer.optimizer.state


def test_off_by_default_too_many_and_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    every = tuple(f"{n}.jpg" for n in range(100))
    with pytest.raises(OSError, match=r"out of GPU memory.*SOLVER.SKIP_OUT_OF_MEMORY True"):
        run(OutOfMemorySkipper(False), ("0.jpg",), 2)
    skipper = OutOfMemorySkipper(True)
    with pytest.raises(OSError, match="out of GPU memory"):
        run(skipper, every, 20)
    assert skipper.count == MAX_IN_A_ROW
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    assert not OutOfMemorySkipper(True).enabled


def test_an_update_is_not_skipped() -> None:
    def update_weights() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    with pytest.raises(torch.OutOfMemoryError):
        OutOfMemorySkipper(True).run(update_weights, optimizer, 0)
