"""The loop around any training: iterations, hooks, storage.

Names as `detectron2.engine.train_loop`, from where users import them here too.
"""

from __future__ import annotations

import logging
import signal
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lucidet.engine.faults import explained
from lucidet.engine.interrupt import TrainingInterrupted, agreed_signal, interruptible
from lucidet.utils import comm
from lucidet.utils.events import EventStorage

logger = logging.getLogger(__name__)

_MEET_ON_GPUS = 10  # iterations between two looks at whether a process was interrupted
SAID_BY_MESSAGE = (ValueError, OSError, FloatingPointError)


class HookBase:
    """Something that happens around the steps of a training.

    ``trainer`` is set when the hook is registered. The order of calls::

        hook.before_train()
        for iter in range(start_iter, max_iter):
            hook.before_step()
            trainer.run_step()      # calls hook.after_backward() between backward and update
            hook.after_step()
        hook.after_train()
    """

    trainer: Any = None
    #: checkpoints are saved here, or with what comes before it
    saves_state = False
    #: where it comes after such a hook, a resumed run calls `after_step` once more for the last
    #: iteration, as it may not have been reached
    repeated_on_resume = False

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called after the last iteration, also where an error ended the training."""

    def before_step(self) -> None:
        """Called before each iteration."""

    def after_backward(self) -> None:
        """Called when the gradients are there and the weights have not been updated yet."""

    def after_step(self) -> None:
        """Called after each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the hook needs to continue; stored in checkpoints."""
        return {}


class TrainerBase:
    """Iterations with hooks; a subclass supplies `run_step`.

    Attributes:
        iter: number of the current iteration.
        start_iter, max_iter: the run is ``range(start_iter, max_iter)``.
        storage: the `EventStorage` of the run.
        stop_reason: why the training ends before `max_iter`; "" where it does not.
        resumed: the run goes on in the folder of an earlier one.
        interrupted: the user has pressed Ctrl-C, or SIGTERM or SIGUSR1 has come.
        ends_together: all processes run the same iterations, and end after the same one.
    """

    ends_together: bool = False

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int = 0
        self.storage: EventStorage = EventStorage()
        self.stop_reason: str = ""
        self.resumed: bool = False
        self.interrupted: bool = False
        self._signal = 0  # that has interrupted it
        self._is_step_done = False  # while hooks run that a resumed run repeats
        self._loaded: Mapping[str, Any] | None = None  # what a checkpoint held, until `train`

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Add hooks, called in this order; None is passed over."""
        for hook in hooks:
            if hook is None:
                continue
            assert isinstance(hook, HookBase), hook
            # weak, or trainer and hook would keep each other alive with all their GPU memory
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations `start_iter` to ``max_iter - 1``, with the hooks around them.

        Raises:
            TrainingInterrupted: (a SystemExit) Ctrl-C, SIGTERM or SIGUSR1 has ended it, and hooks
                have saved it.
        """
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self.stop_reason, self.interrupted, self._signal = "", False, 0
        self.has_failed = False
        with interruptible(self), EventStorage(start_iter) as self.storage:
            try:
                self._train()
            except KeyboardInterrupt:
                self.interrupted = True
        if self.interrupted:
            raise TrainingInterrupted(self._signal or signal.SIGINT)

    def _train(self) -> None:
        try:
            self.before_train()
            self._finish_interrupted_step()
            if not self.stop_reason:
                self._run()
        except KeyboardInterrupt:
            self.interrupted = True
            # what a step has half done is not saved
            self.stop_reason = "interrupted" if self._is_step_done else ""
        except Exception as error:
            self.has_failed = True
            # of faults in data and settings the message says it all; of others one needs to
            # know where they happened, even if only the log file is left
            logger.error(
                "Training stopped at iteration %d: %s",
                self.iter,
                error,
                exc_info=not isinstance(error, SAID_BY_MESSAGE),
            )
            if explained(error) is not error:
                raise explained(error) from error
            raise
        finally:
            self.after_train()

    def _run(self) -> None:
        for iteration in range(self.start_iter, self.max_iter):
            self.iter = iteration
            self.before_step()
            self.run_step()
            self.after_step()
            self._end_together()
            if self.stop_reason and self.iter + 1 < self.max_iter:
                return
        # so that after_train can tell a finished training from a broken one
        self.iter = max(self.max_iter, self.start_iter)

    def _finish_interrupted_step(self) -> None:
        """Do what may not have happened any more after the checkpoint was saved.

        Evaluation, best model, early stopping and writers come after it in the same iteration.
        """
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        self.storage.load_state_dict(loaded.get("storage", {}))
        if loaded["iteration"] != self.start_iter - 1:
            return
        self.iter = self.storage.iter = self.start_iter - 1
        saving = [i for i, hook in enumerate(self._hooks) if hook.saves_state]
        for hook in self._hooks[saving[-1] + 1 :] if saving else ():
            if hook.repeated_on_resume:
                hook.after_step()
        if not self.stop_reason:
            self.iter = self.storage.iter = self.start_iter

    def stop(self, reason: str) -> None:
        """End the training after the current iteration."""
        self.stop_reason = reason
        logger.info("Training ends after iteration %d: %s", self.iter, reason)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """End the training as soon as its state is whole, and that of all processes the same.

        Args:
            number: of the signal that came.

        Raises:
            KeyboardInterrupt: it is whole already, during an evaluation for instance.
        """
        self.interrupted, self._signal = True, int(number)
        if self.ends_together and comm.get_world_size() > 1:
            return
        if self._is_step_done:
            raise KeyboardInterrupt
        self._stop_by_signal()

    def _stop_by_signal(self) -> None:
        again = "; press Ctrl-C again to end at once, without saving"
        by_user = self._signal == signal.SIGINT
        name = signal.Signals(self._signal).name
        self.stop(f"interrupted{again}" if by_user else f"interrupted by {name}")

    def _end_together(self) -> None:
        """Stop in all processes after the same iteration, where one has received a signal."""
        if not self.ends_together or comm.get_world_size() == 1:
            return
        # on GPUs the CPUs run ahead of them, and of each other: they need not meet at every step
        if (self.iter + 1) % (_MEET_ON_GPUS if torch.cuda.is_available() else 1) == 0:
            agreed = agreed_signal(self._signal)
            if agreed:  # else a signal that came while the processes met is for the next meeting
                self._signal, self.interrupted = agreed, True
                self._stop_by_signal()

    def run_step(self) -> None:
        """Compute one iteration."""
        raise NotImplementedError

    def settle(self) -> None:
        """Finish what the steps so far left under way; called before a checkpoint."""

    def flush(self) -> None:
        """Write what was measured so far; called in every process."""

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            self._is_step_done = hook.repeated_on_resume
            hook.after_step()
        self._is_step_done = False

    def state_dict(self) -> dict[str, Any]:
        """Return iteration, recent measurements and, by class names, the states of the hooks."""
        state: dict[str, Any] = {"iteration": self.iter, "storage": self.storage.state_dict()}
        hooks = {type(hook).__qualname__: hook.state_dict() for hook in reversed(self._hooks)}
        hooks = {name: hook_state for name, hook_state in hooks.items() if hook_state}
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; states of hooks that are not there are named."""
        self.iter = state_dict["iteration"]
        self.resumed, self._loaded = True, state_dict
        by_name = {type(hook).__qualname__: hook for hook in reversed(self._hooks)}
        for name, state in state_dict.get("hooks", {}).items():
            load = getattr(by_name.get(name), "load_state_dict", None)
            if load is None:
                logger.warning("The checkpoint has a state of hook %s, which is not used now", name)
            else:
                load(state)
