"""Let the schedule follow the batch size (Goyal et al. 2017, linear scaling rule).

A config's learning rate and iterations were chosen for one batch size. Told which
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
            f"batch sizes must be positive, got {schedule.batch} as reference "
            f"(SOLVER.REFERENCE_BATCH) and {batch} (SOLVER.IMS_PER_BATCH)"
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


def _keys(cfg: Any) -> dict[str, str]:
    """Return field of `Schedule` -> config key, for those that this schedule uses."""
    keys = {
        "base_lr": "SOLVER.BASE_LR",
        "base_lr_end": "SOLVER.BASE_LR_END",
        "max_iter": "SOLVER.MAX_ITER",
        "steps": "SOLVER.STEPS",
        "warmup_iters": "SOLVER.WARMUP_ITERS",
        "eval_period": "TEST.EVAL_PERIOD",
        "checkpoint_period": "SOLVER.CHECKPOINT_PERIOD",
    }
    # the others are not even read: the config reports keys that were set for nothing
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupCosineLR":
        del keys["base_lr_end"]
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        del keys["steps"]
    return keys


def _read(cfg: Any, batch: int) -> Schedule:
    values = {}
    for field, key in _keys(cfg).items():
        group, name = key.split(".")
        values[field] = getattr(getattr(cfg, group), name)
    values["steps"] = tuple(values.get("steps", ()))
    return Schedule(batch=batch, **values)


def _write(cfg: Any, schedule: Schedule) -> None:
    cfg.SOLVER.REFERENCE_BATCH = schedule.batch
    for field, key in _keys(cfg).items():
        group, name = key.split(".")
        setattr(getattr(cfg, group), name, getattr(schedule, field))


def _table(before: Schedule, after: Schedule, keys: dict[str, str]) -> str:
    # as text, so that a rate of 2.5e-05 is not rounded away
    def text(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    rows = [
        [key, text(getattr(before, field)), text(getattr(after, field))]
        for field, key in {"batch": "SOLVER.IMS_PER_BATCH", **keys}.items()
    ]
    return create_table(["key", f"for batch {before.batch}", "effective"], rows)


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
    table = _table(before, after, _keys(cfg))
    if before.batch == batch:
        return cfg, table
    frozen = cfg.is_frozen()
    scaled = cfg.clone()
    scaled.defrost()
    _write(scaled, after)
    if frozen:
        scaled.freeze()
    return scaled, table
