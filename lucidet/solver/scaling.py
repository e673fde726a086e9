"""Let the schedule follow the batch size (Goyal et al. 2017, linear scaling rule).

A config's learning rate and iterations were chosen for one batch size. Told which,
(``SOLVER.REFERENCE_BATCH``), they are recomputed for ``SOLVER.IMS_PER_BATCH`` so that each image is
seen as often and moves the weights as far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lucidet.utils.logger import create_table

__all__ = ["Schedule", "scale_schedule", "scale_to_batch"]


@dataclass(frozen=True)
class Schedule:
    """The settings that depend on the batch size. Periods are in iterations; 0 or less is off."""

    batch: int
    base_lr: float
    max_iter: int
    steps: tuple[int, ...] = ()
    warmup_iters: int = 0
    base_lr_end: float = 0.0
    eval_period: int = 0
    checkpoint_period: int = 0


def scale_schedule(schedule: Schedule, batch: int) -> Schedule:
    """Return `schedule` for another batch size.

    Rates go with the batch, iterations against it; a period that is on stays at least 1.

    >>> full = Schedule(batch=16, base_lr=0.02, max_iter=90000, steps=(60000, 80000))
    >>> small = scale_schedule(full, 2)
    >>> small.base_lr, small.max_iter, small.steps
    (0.0025, 720000, (480000, 640000))

    Raises:
        ValueError: a batch size is not positive.
    """
    if batch <= 0 or schedule.batch <= 0:
        raise ValueError(
            f"batch sizes must be positive, got {schedule.batch} as reference and {batch}"
        )

    def iterations(count: int) -> int:
        return max(1, round(count * schedule.batch / batch)) if count > 0 else count

    return Schedule(
        batch=batch,
        base_lr=schedule.base_lr * (batch / schedule.batch),
        max_iter=iterations(schedule.max_iter),
        steps=tuple(iterations(step) for step in schedule.steps),
        warmup_iters=iterations(schedule.warmup_iters),
        base_lr_end=schedule.base_lr_end * (batch / schedule.batch),
        eval_period=iterations(schedule.eval_period),
        checkpoint_period=iterations(schedule.checkpoint_period),
    )


_KEYS = {
    "batch": "SOLVER.IMS_PER_BATCH",
    "base_lr": "SOLVER.BASE_LR",
    "base_lr_end": "SOLVER.BASE_LR_END",
    "max_iter": "SOLVER.MAX_ITER",
    "steps": "SOLVER.STEPS",
    "warmup_iters": "SOLVER.WARMUP_ITERS",
    "eval_period": "TEST.EVAL_PERIOD",
    "checkpoint_period": "SOLVER.CHECKPOINT_PERIOD",
}


def _read(cfg: Any, batch: int) -> Schedule:
    solver = cfg.SOLVER
    return Schedule(
        batch=batch,
        base_lr=solver.BASE_LR,
        max_iter=solver.MAX_ITER,
        steps=tuple(solver.STEPS),
        warmup_iters=solver.WARMUP_ITERS,
        base_lr_end=solver.BASE_LR_END,
        eval_period=cfg.TEST.EVAL_PERIOD,
        checkpoint_period=solver.CHECKPOINT_PERIOD,
    )


def _write(cfg: Any, schedule: Schedule) -> None:
    solver = cfg.SOLVER
    solver.REFERENCE_BATCH = solver.IMS_PER_BATCH
    solver.BASE_LR = schedule.base_lr
    solver.MAX_ITER = schedule.max_iter
    solver.STEPS = schedule.steps
    solver.WARMUP_ITERS = schedule.warmup_iters
    solver.BASE_LR_END = schedule.base_lr_end
    cfg.TEST.EVAL_PERIOD = schedule.eval_period
    solver.CHECKPOINT_PERIOD = schedule.checkpoint_period


def _table(before: Schedule, after: Schedule) -> str:
    # as text, so that a rate of 2.5e-05 is not rounded away
    def text(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    rows = [
        [key, text(getattr(before, field)), text(getattr(after, field))]
        for field, key in _KEYS.items()
    ]
    return create_table(["key", f"reference batch {before.batch}", "effective"], rows)


def scale_to_batch(cfg: Any) -> tuple[Any, str]:
    """Return the config with its schedule following the batch, and a table of effective values.

    ``SOLVER.REFERENCE_BATCH`` is the batch that BASE_LR, MAX_ITER, STEPS and the like were chosen
    for; 0: nothing is scaled. In the result it equals ``SOLVER.IMS_PER_BATCH``, so that scaling
    again, or running from the saved config, changes nothing.

    Args:
        cfg: the config, frozen or not; it is not changed.

    Returns:
        A config (frozen like the given one; the same object where nothing is to be scaled), and
        the table.
    """
    reference = cfg.SOLVER.REFERENCE_BATCH
    if reference < 0:
        raise ValueError(f"SOLVER.REFERENCE_BATCH must be 0 (off) or positive, got {reference}")
    batch = cfg.SOLVER.IMS_PER_BATCH
    before = _read(cfg, reference or batch)
    after = scale_schedule(before, batch)
    table = _table(before, after)
    if before.batch == batch:
        return cfg, table
    frozen = cfg.is_frozen()
    scaled = cfg.clone()
    scaled.defrost()
    _write(scaled, after)
    if frozen:
        scaled.freeze()
    return scaled, table
