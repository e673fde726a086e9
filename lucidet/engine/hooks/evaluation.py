"""Hooks around evaluation: run it, keep the best weights, stop when nothing improves."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from lucidet.checkpoint import Checkpointer
from lucidet.checkpoint.resume_point import stored_entry
from lucidet.engine.random_state import preserved_random_state
from lucidet.engine.trainer_base import HookBase
from lucidet.evaluation.testing import flatten_results_dict
from lucidet.utils import comm

logger = logging.getLogger(__name__)


def _is_due(hook: HookBase, period: int) -> bool:
    """Whether an evaluation of this period happens after the current iteration."""
    done = hook.trainer.iter + 1
    return period > 0 and done % period == 0 and done != hook.trainer.max_iter


class EvalHook(HookBase):
    """Evaluates every `eval_period` iterations and after the last.

    Every process calls the function. The training does not feel it: random states are restored.

    Args:
        eval_period: iterations; 0: only at the end.
        eval_function: without arguments, returns (nested) results ``{task: {metric: number}}``,
            which are written as ``task/metric``.
        eval_after_train: evaluate at the end too.
    """

    repeated_on_resume = True

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping[str, Any] | None],
        eval_after_train: bool = True,
    ) -> None:
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train
        self._is_last_done = False

    def before_train(self) -> None:
        self._is_last_done = False

    def _do_eval(self) -> None:
        with preserved_random_state(seed=self.trainer.iter):  # the same where it is repeated
            results = self._func()
        if results:
            flat = flatten_results_dict(results)
            for name, value in flat.items():
                try:
                    flat[name] = float(value)
                except (TypeError, ValueError):
                    raise ValueError(
                        f"eval_function must return (nested) numbers, got {name}={value!r}"
                    ) from None
            self.trainer.storage.put_scalars(**flat, smoothing_hint=False)
            self.trainer.storage.not_printed.update(flat)  # the evaluation has logged its tables
            self.trainer.storage.note_evaluation()
        # an evaluation takes the main process longer than the others; they wait here
        comm.synchronize()

    def after_step(self) -> None:
        if _is_due(self, self._period):
            self._do_eval()
        self._is_last_done = self.trainer.iter + 1 >= self.trainer.max_iter

    def after_train(self) -> None:
        # a loop of the user's own may leave the iteration at max_iter - 1; so does an error
        done = self.trainer.iter >= self.trainer.max_iter or (
            self._is_last_done and not getattr(self.trainer, "has_failed", False)
        )
        if self._eval_after_train and done:
            self._do_eval()


class _Best:
    """The best value of a metric so far.

    Args:
        mode: "max" or "min".
    """

    def __init__(self, metric: str, mode: str) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f'mode must be "max" or "min", got {mode!r}')
        self.metric = metric
        self.mode = mode
        self.value: float | None = None
        self.iteration = -1  # of the newest evaluation that was looked at

    def newest(self, storage: Any) -> tuple[float, int] | None:
        """Return (value, iteration) of an evaluation not yet seen, None where there is none."""
        latest = storage.latest().get(self.metric)
        if latest is None:
            there = sorted(name for name in storage.latest() if "/" in name)
            logger.warning("No metric %r was evaluated; there are %s", self.metric, there)
            return None
        if latest[1] == self.iteration:
            return None
        self.iteration = latest[1]
        return latest

    def improve(self, value: float) -> bool:
        """Take `value` as the best if it is; NaN never is."""
        if math.isnan(value):
            return False
        if self.value is not None:
            better = value > self.value if self.mode == "max" else value < self.value
            if not better:
                return False
        self.value = value
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "iteration": self.iteration}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.iteration = state["value"], state["iteration"]


class BestCheckpointer(HookBase):
    """Saves the weights whenever a metric reaches a new best; must come after `EvalHook`.

    The file holds the value. A resumed run compares with it, even if its checkpoint is older: a
    better model is never replaced.

    Args:
        eval_period: that of the `EvalHook`.
        checkpointer: what saves.
        val_metric: name in the storage, ``"bbox/AP50"``.
        mode: "max" or "min": which is better.
        file_prefix: the file is ``{file_prefix}.pth``.
    """

    repeated_on_resume = True

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        self._period = eval_period
        self._checkpointer = checkpointer
        self._file_prefix = file_prefix
        self._best = _Best(val_metric, mode)

    def _look(self) -> None:
        if not comm.is_main_process():  # the others have no results
            return
        newest = self._best.newest(self.trainer.storage)
        if newest is None or not self._best.improve(newest[0]):
            return
        value, iteration = newest
        metric, mode = self._best.metric, self._best.mode
        logger.info("New best %s: %.4f at iteration %d", metric, value, iteration)
        # the last checkpoint stays the one to resume from, not an older best one
        note = {"metric": metric, "mode": mode, "value": value}
        self._checkpointer.save(self._file_prefix, tag=False, iteration=iteration, best=note)

    def before_train(self) -> None:
        folder = self._checkpointer.save_dir
        if self.trainer.resumed and folder:
            self._compare_with(os.path.join(folder, f"{self._file_prefix}.pth"))

    def _compare_with(self, path: str) -> None:
        """Take the best value from the file itself; without a readable one there is no best."""
        try:
            note = stored_entry(path, "best")
        except ValueError as error:
            if self._best.value is not None:
                logger.warning("The best model so far is lost, the next one is saved: %s", error)
            self._best.value = None
            return
        if note is None:  # of an older version, which did not note the value
            return
        same = (note["metric"], note["mode"]) == (self._best.metric, self._best.mode)
        self._best.value = float(note["value"]) if same else None

    def after_step(self) -> None:
        if _is_due(self, self._period):
            self._look()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            self._look()

    def state_dict(self) -> dict[str, Any]:
        return self._best.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._best.load_state_dict(state_dict)


class EarlyStopping(HookBase):
    """Ends the training when a metric has not improved for a number of evaluations.

    Must come after `EvalHook`. Every process needs one: they decide together.

    Args:
        eval_period: that of the `EvalHook`, in iterations.
        patience: evaluations without a new best, at least 1.
        val_metric: name in the storage, ``"bbox/AP"``.
        mode: "max" or "min": which is better.
    """

    repeated_on_resume = True

    def __init__(
        self, eval_period: int, patience: int, val_metric: str = "bbox/AP", mode: str = "max"
    ) -> None:
        if patience < 1 or eval_period < 1:
            raise ValueError(
                f"EarlyStopping needs a patience and an evaluation period of at least 1, got "
                f"{patience} and {eval_period}; set TEST.EVAL_PERIOD"
            )
        self._period = eval_period
        self._patience = patience
        self._best = _Best(val_metric, mode)
        self._without_improvement = 0

    def after_step(self) -> None:
        if not _is_due(self, self._period):
            return
        if comm.is_main_process():  # the others have no results
            newest = self._best.newest(self.trainer.storage)
            if newest is not None:
                improved = self._best.improve(newest[0])
                self._without_improvement = 0 if improved else self._without_improvement + 1
        if comm.all_gather(self._without_improvement)[0] >= self._patience:
            self.trainer.stop(
                f"{self._best.metric} has not improved for {self._patience} evaluations"
                + (f" (best {self._best.value:.4f})" if self._best.value is not None else "")
            )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best.state_dict(), "without_improvement": self._without_improvement}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._best.load_state_dict(state_dict["best"])
        self._without_improvement = state_dict["without_improvement"]
