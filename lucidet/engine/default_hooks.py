"""The hooks of a `DefaultTrainer`, in their order."""

from __future__ import annotations

from typing import Any

from lucidet.engine import hooks
from lucidet.engine.effective_config import for_one_batch
from lucidet.engine.trainer_base import HookBase
from lucidet.utils import comm
from lucidet.utils.events import ProgressWriter

__all__ = ["WRITE_PERIOD", "default_hooks"]

# iterations between two lines of the log; on GPUs losses are read back as often
WRITE_PERIOD = 20


def default_hooks(trainer: Any) -> list[HookBase | None]:
    """Return what `DefaultTrainer.build_hooks` does.

    Args:
        trainer: a `DefaultTrainer` with its parts built.
    """
    cfg, model = trainer.cfg, trainer.model
    is_main = comm.is_main_process()
    period, evaluation = cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD
    keep = cfg.SOLVER.CHECKPOINTS_KEPT or None
    keeper = hooks.PeriodicCheckpointer(trainer.checkpointer, period, max_to_keep=keep)
    seed = cfg.SEED if trainer._seed_is_set else None
    drawn = cfg.SEED if cfg.SEED >= 0 else None
    averaged = [trainer.ema] if trainer.ema else []
    return [
        hooks.IterationTimer(),
        hooks.LRScheduler(),
        hooks.EMAHook(trainer.ema, model) if trainer.ema else None,
        _precise_bn(trainer, seed),
        hooks.RandomState(drawn, fixed=trainer._seed_is_set),
        hooks.BeforeCheckpoint([period, evaluation], [model, *averaged]),
        hooks.DataPosition(trainer.data_loader, cfg.SOLVER.IMS_PER_BATCH, seed),
        keeper if is_main else None,
        _validation_loss(trainer),
        hooks.EvalHook(evaluation, trainer._evaluate),
        *_after_evaluation(trainer),
        _progress_bar(trainer.max_iter) if is_main else None,
        # users insert hooks of theirs before the last one, so that what they measure is written
        hooks.PeriodicWriter(trainer.build_writers(), WRITE_PERIOD) if is_main else None,
    ]


def _precise_bn(trainer: Any, seed: int | None) -> HookBase | None:
    cfg = trainer.cfg
    if not cfg.TEST.PRECISE_BN.ENABLED:
        return None
    # a loader of its own: the order of the training data must not depend on this
    loader = trainer.build_train_loader(for_one_batch(cfg))
    batches = cfg.TEST.PRECISE_BN.NUM_ITER
    return hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, trainer.model, loader, batches, seed=seed)


def _validation_loss(trainer: Any) -> HookBase | None:
    cfg = trainer.cfg
    if not cfg.TEST.VAL_LOSS or not cfg.DATASETS.TEST:
        return None
    loader = trainer.build_validation_loader(cfg, list(cfg.DATASETS.TEST))
    return hooks.ValidationLoss(cfg.TEST.EVAL_PERIOD, trainer.model, loader)


def _after_evaluation(trainer: Any) -> list[HookBase]:
    solver, period = trainer.cfg.SOLVER, trainer.cfg.TEST.EVAL_PERIOD
    best, early = solver.BEST_CHECKPOINT, solver.EARLY_STOPPING
    found: list[HookBase] = []
    if best.METRIC:
        found.append(hooks.BestCheckpointer(period, trainer.checkpointer, best.METRIC, best.MODE))
    if early.PATIENCE > 0:
        found.append(hooks.EarlyStopping(period, early.PATIENCE, early.METRIC, early.MODE))
    return found


def _progress_bar(max_iter: int) -> HookBase | None:
    if not ProgressWriter.available():
        return None
    return hooks.PeriodicWriter([ProgressWriter(max_iter)], period=1)
