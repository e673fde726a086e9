"""What a `DefaultTrainer` keeps in its checkpoints beside model, optimizer and schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lucidet.checkpoint.checkpointer import unwrap
from lucidet.engine.hooks import LRScheduler, RandomState
from lucidet.engine.trainer_base import TrainerBase
from lucidet.utils import comm

__all__ = ["RunState", "first_iteration", "report_resume"]

logger = logging.getLogger(__name__)


class RunState:
    """States of hooks, recent measurements and results, gradient scaler, averages of losses.

    Args:
        trainer: a `DefaultTrainer`.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and tensors."""
        state = TrainerBase.state_dict(self._trainer)
        # its schedule has its own key
        state.get("hooks", {}).pop(LRScheduler.__qualname__, None)
        if self._trainer._last_eval_results:
            state["last_results"] = self._trainer._last_eval_results
        averages = moving_averages(self._trainer.model)
        if averages:
            state["moving_averages"] = averages
        scaler = getattr(self._trainer._trainer, "grad_scaler", None)
        return {**state, "grad_scaler": scaler.state_dict()} if scaler else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        TrainerBase.load_state_dict(self._trainer, state)
        load_moving_averages(self._trainer.model, state.get("moving_averages", {}))
        self._trainer._last_eval_results = state.get("last_results")
        self._adopt_seed(state.get("hooks", {}).get(RandomState.__qualname__, {}).get("seed"))
        scaler = getattr(self._trainer._trainer, "grad_scaler", None)
        if scaler and state.get("grad_scaler"):
            scaler.load_state_dict(state["grad_scaler"])

    def _adopt_seed(self, seed: int | None) -> None:
        """Note the seed that the first run drew in the config, where the user gave none."""
        cfg = self._trainer.cfg
        if seed is None or self._trainer._seed_is_set:
            return
        frozen = cfg.is_frozen()
        cfg.defrost()
        cfg.SEED = seed
        if frozen:
            cfg.freeze()


def moving_averages(model: nn.Module) -> dict[str, float]:
    """Return the averages that losses are divided by, for the whole batch of the run.

    They are kept outside of the state dict, as detectron2's weights do not have them.
    """
    found = {}
    for prefix, module in unwrap(model).named_modules():
        for name in sorted(getattr(module, "moving_averages", ())):
            value = getattr(module, name) * comm.get_world_size()
            found[f"{prefix}.{name}".lstrip(".")] = value.detach().double().item()
    return found


def load_moving_averages(model: nn.Module, values: Mapping[str, float]) -> None:
    """Restore what `moving_averages` returned, perhaps in another number of processes."""
    modules = dict(unwrap(model).named_modules())
    for full_name, value in values.items():
        prefix, _, name = full_name.rpartition(".")
        set_average = getattr(modules.get(prefix), "set_moving_average", None)
        if set_average is not None:
            set_average(name, value / comm.get_world_size())
        else:
            logger.warning("The checkpoint has a moving average %s, which nothing uses", full_name)


def first_iteration(rest: Mapping[str, Any], max_iter: int, path: str) -> int:
    """Return the iteration that a resumed run begins with.

    Args:
        rest: of the checkpoint; ``"iteration"`` is the last one that was finished.
        max_iter: iterations of the whole run.
        path: of the checkpoint, for messages.

    Raises:
        ValueError: that number is missing or impossible.
    """
    last = rest.get("iteration")
    if isinstance(last, bool) or not isinstance(last, int) or last < 0:
        raise ValueError(
            f"{path}: its iteration is {last!r}, expected a whole number >= 0: the file is damaged "
            "or no checkpoint of a training. Put another one there, or start with --weights FILE "
            "instead of --resume"
        )
    if last > max_iter:
        raise ValueError(
            f"{path}: its iteration is {last}, but SOLVER.MAX_ITER is {max_iter}: raise MAX_ITER "
            "to go on, or start with --weights FILE instead of --resume"
        )
    return min(last + 1, max_iter)


def report_resume(cfg: Any, start: int, changes: list[str]) -> None:
    """Log where the run goes on, which settings have changed, and what cannot be exact.

    Raises:
        RuntimeError: the processes read different checkpoints.
    """
    starts = comm.all_gather(start)
    if len(set(starts)) > 1:
        raise RuntimeError(
            f"the processes would go on from different iterations {starts}: OUTPUT_DIR "
            f"{cfg.OUTPUT_DIR!r} must be the same folder on all machines"
        )
    if changes:
        logger.info("Settings that changed, the config's count: %s", "; ".join(changes))
    on_cpu = torch.device(cfg.MODEL.DEVICE).type == "cpu"
    if not on_cpu and not torch.are_deterministic_algorithms_enabled():
        logger.info(
            "Images, sampling and states go on exactly. Kernels of the GPU that add in no fixed "
            "order do not: results agree to rounding, not to the bit; --deterministic avoids them"
        )
