"""Hooks of every training: time, learning rate, checkpoints, writers."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lucidet.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from lucidet.checkpoint.writing import remove_leftovers
from lucidet.engine.faults import is_disk_full
from lucidet.engine.loss_monitor import require_finite_weights
from lucidet.engine.trainer_base import HookBase
from lucidet.utils.events import EventWriter

logger = logging.getLogger(__name__)

#: seconds
LONGEST_SILENCE = 10.0

Callback = Callable[[Any], Any]


class CallbackHook(HookBase):
    """Calls functions, each with the trainer as its argument.

    Args:
        before_train, after_train, before_step, after_step, after_backward: None: nothing.
    """

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
        after_backward: Callback | None = None,
    ) -> None:
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step
        self._after_backward = after_backward

    def before_train(self) -> None:
        if self._before_train:
            self._before_train(self.trainer)

    def after_train(self) -> None:
        if self._after_train:
            self._after_train(self.trainer)

    def before_step(self) -> None:
        if self._before_step:
            self._before_step(self.trainer)

    def after_step(self) -> None:
        if self._after_step:
            self._after_step(self.trainer)

    def after_backward(self) -> None:
        if self._after_backward:
            self._after_backward(self.trainer)


class IterationTimer(HookBase):
    """Writes the seconds of each iteration as ``time``, and a summary at the end.

    Must be the first hook: time that other hooks take is counted as theirs.

    Args:
        warmup_iter: first iterations, slower than the rest, that are left out; in a run that has
            no others they count.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = self._left_out = warmup_iter
        self._began = self._step_began = time.perf_counter()
        self._in_steps = 0.0
        self._steps = 0

    def before_train(self) -> None:
        self._began = time.perf_counter()
        self._in_steps, self._steps = 0.0, 0
        is_longer = self.trainer.max_iter - self.trainer.start_iter > self._warmup_iter
        self._left_out = self._warmup_iter if is_longer else 0

    def before_step(self) -> None:
        self._step_began = time.perf_counter()

    def after_step(self) -> None:
        seconds = time.perf_counter() - self._step_began
        self._steps += 1
        if self._steps <= self._left_out:
            self._began = time.perf_counter()
            return
        self._in_steps += seconds
        self.trainer.storage.put_scalars(time=seconds)

    def after_train(self) -> None:
        counted = self._steps - self._left_out
        if counted <= 0:
            return
        total = time.perf_counter() - self._began
        logger.info(
            "Training speed: %d iterations in %s (%.4f s / it). Total time: %s (%s on hooks)",
            counted,
            datetime.timedelta(seconds=int(self._in_steps)),
            self._in_steps / counted,
            datetime.timedelta(seconds=int(total)),
            datetime.timedelta(seconds=int(max(total - self._in_steps, 0))),
        )


class PeriodicWriter(HookBase):
    """Calls ``write()`` of writers every `period` iterations and at the end, then closes them.

    Where steps are slow, writers for the console get ``write_between()`` in the meantime, so that
    there is a line at least every 10 seconds or for each iteration.

    Must come after hooks whose values should be in the same line.
    """

    repeated_on_resume = True

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        self._writers = list(writers)
        for writer in self._writers:
            assert isinstance(writer, EventWriter), writer
        self._period = period
        self._last = time.monotonic()
        self._is_full = False

    def before_train(self) -> None:
        self._last = time.monotonic()
        if self.trainer.resumed:
            # the last step is finished again, and its line written again
            for writer in self._writers:
                writer.resume(max(self.trainer.start_iter - 1, 0))

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        evaluated = self.trainer.storage.evaluated_at == self.trainer.iter
        is_last = done == self.trainer.max_iter or self.trainer.stop_reason
        if done % self._period == 0 or is_last or evaluated:
            for writer in self._writers:
                self._unless_full(writer.write)
            self._last = time.monotonic()
        elif time.monotonic() - self._last > LONGEST_SILENCE:
            for writer in self._writers:
                writer.write_between()
            self._last = time.monotonic()

    def _unless_full(self, write: Callable[[], None]) -> None:
        """Call a writer; a full disk is said once, and the training goes on without metrics."""
        try:
            write()
        except OSError as error:
            if not is_disk_full(error):
                raise
            if not self._is_full:
                logger.error(
                    "The disk is full: metrics are not written from iteration %d on. The training "
                    "goes on; make room before its next checkpoint",
                    self.trainer.iter,
                )
            self._is_full = True

    def after_train(self) -> None:
        for writer in self._writers:
            # whatever later hooks have put, and what an error has left unwritten
            self._unless_full(writer.write)
            self._unless_full(writer.close)


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """The `lucidet.checkpoint.PeriodicCheckpointer` as a hook.

    Before it saves, losses that are under way are checked, and the weights too: a checkpoint with
    NaN would replace the last good one as the place to resume from. Before the first step it
    removes the files that a killed run left: temporary ones, and one more than are kept.
    """

    saves_state = True

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter
        if self.checkpointer.save_to_disk and self.checkpointer.save_dir:
            remove_leftovers(self.checkpointer.save_dir)
            # a kill may have come between saving one file and removing another
            self._remove_old(newest=self.trainer.start_iter - 1)

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if not (self.is_periodic(iteration) or self.is_last(iteration)):
            return
        self._require_good_state()
        try:
            self.step(iteration)
        except Exception as error:  # torch.save hides the OSError in one of its own
            if not is_disk_full(error) or self.is_last(iteration):
                raise
            logger.error(
                "The disk is full: no checkpoint of iteration %d. The last complete one is kept, "
                "and the training goes on; make room before the next",
                iteration,
            )

    def after_train(self) -> None:
        if self.trainer.stop_reason and not self.is_last(self.trainer.iter):
            self._require_good_state()
            # a run that Ctrl-C has ended is not finished: it goes on from here
            last = f"{self.trainer.iter:07d}" if self.trainer.interrupted else "final"
            self.save(f"{self.file_prefix}_{last}", iteration=self.trainer.iter)

    def _require_good_state(self) -> None:
        self.trainer.settle()
        require_finite_weights(self.checkpointer.model)


class LRScheduler(HookBase):
    """Steps a learning-rate schedule after every iteration and writes the rate as ``lr``.

    Args:
        optimizer: the trainer's by default.
        scheduler: the trainer's by default; stepped once an iteration.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._best_param_group_id = 0

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer
        assert self._optimizer is not None
        self._best_param_group_id = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Return the group whose rate is shown: that of the commonest rate; weights, not biases."""
        groups = optimizer.param_groups
        rates = [g["lr"] for g in groups]
        sizes = {r: sum(len(g["params"]) for g in groups if g["lr"] == r) for r in rates}
        return rates.index(max(rates, key=lambda rate: sizes[rate]))

    def after_step(self) -> None:
        assert self._optimizer is not None
        rate = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    @property
    def scheduler(self) -> Any:
        """The schedule that is stepped."""
        return self._scheduler or self.trainer.scheduler

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        logger.info("Loading the learning-rate schedule from state_dict")
        self.scheduler.load_state_dict(state_dict)
