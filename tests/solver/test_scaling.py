from __future__ import annotations

import pytest

from lucidet.config import get_cfg
from lucidet.solver import Schedule, scale_schedule, scale_to_batch

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
    with pytest.raises(ValueError, match=f"16 as reference.* and {batch}"):
        scale_schedule(FULL, batch)


def config(batch: int, reference: int):
    cfg = get_cfg()
    cfg.SOLVER.IMS_PER_BATCH = batch
    cfg.SOLVER.REFERENCE_BATCH = reference
    cfg.SOLVER.BASE_LR = 0.02
    cfg.SOLVER.MAX_ITER = 90000
    cfg.SOLVER.STEPS = (60000, 80000)
    return cfg


def test_config_follows_the_batch():
    cfg = config(batch=2, reference=16)
    cfg.freeze()
    scaled, table = scale_to_batch(cfg)
    assert cfg.SOLVER.BASE_LR == 0.02  # the given one stays
    assert scaled.is_frozen()
    assert round(scaled.SOLVER.BASE_LR, 9) == 0.0025
    assert scaled.SOLVER.MAX_ITER == 720000
    assert scaled.SOLVER.STEPS == (480000, 640000)
    assert scaled.SOLVER.WARMUP_ITERS == 8000
    assert scaled.SOLVER.CHECKPOINT_PERIOD == 40000
    assert scaled.TEST.EVAL_PERIOD == 0
    assert [line.split("|")[1:4] for line in table.splitlines()[2:6]] == [
        [" SOLVER.IMS_PER_BATCH     ", " 16             ", " 2                "],
        [" SOLVER.BASE_LR           ", " 0.02           ", " 0.0025           "],
        [" SOLVER.MAX_ITER          ", " 90000          ", " 720000           "],
        [" SOLVER.STEPS             ", " (60000, 80000) ", " (480000, 640000) "],
    ]
    again, _ = scale_to_batch(scaled)
    assert again is scaled  # a saved config that runs again is not scaled twice


@pytest.mark.parametrize("reference", [0, 16])
def test_nothing_to_scale(reference):
    cfg = config(batch=16, reference=reference)
    scaled, table = scale_to_batch(cfg)
    assert scaled is cfg
    assert "90000" in table


def test_cosine_ends_with_the_scaled_rate():
    cfg = config(batch=8, reference=16)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.BASE_LR_END = 0.002
    scaled, table = scale_to_batch(cfg)
    assert round(scaled.SOLVER.BASE_LR_END, 9) == 0.001
    assert not scaled.is_frozen()
    assert "SOLVER.STEPS" not in table


def test_negative_reference():
    with pytest.raises(ValueError, match=r"SOLVER.REFERENCE_BATCH must be 0 \(off\) or positive"):
        scale_to_batch(config(batch=16, reference=-1))
