from __future__ import annotations

import pytest

from lucidet.solver import Schedule, scale_schedule

FULL = Schedule(
    batch=16,
    base_lr=0.02,
    max_iter=90000,
    steps=(60000, 80000),
    warmup_iters=1000,
    base_lr_end=0.001,
    eval_period=0,
    checkpoint_period=5000,
)


@pytest.mark.parametrize(
    ("batch", "lr", "iterations", "steps", "warmup", "checkpoint"),
    [
        (2, 0.0025, 720000, (480000, 640000), 8000, 40000),
        (16, 0.02, 90000, (60000, 80000), 1000, 5000),
        (64, 0.08, 22500, (15000, 20000), 250, 1250),
        (6, 0.0075, 240000, (160000, 213333), 2667, 13333),
    ],
)
def test_schedule_follows_the_batch(batch, lr, iterations, steps, warmup, checkpoint):
    scaled = scale_schedule(FULL, batch)
    assert scaled.base_lr == pytest.approx(lr)
    assert scaled.base_lr_end == pytest.approx(lr / 20)
    assert (scaled.batch, scaled.max_iter, scaled.steps) == (batch, iterations, steps)
    assert (scaled.warmup_iters, scaled.checkpoint_period) == (warmup, checkpoint)
    assert scaled.eval_period == 0  # off stays off


def test_short_runs_keep_at_least_one_iteration():
    scaled = scale_schedule(Schedule(batch=1, base_lr=1.0, max_iter=2, eval_period=1), 100)
    assert (scaled.max_iter, scaled.eval_period, scaled.steps) == (1, 1, ())


@pytest.mark.parametrize("batch", [0, -2])
def test_batch_must_be_positive(batch):
    with pytest.raises(ValueError, match=f"16 as reference and {batch}"):
        scale_schedule(FULL, batch)
