"""Learning-rate schedules with warm-up.

Names as `detectron2.solver.lr_scheduler`. Warm-up after Goyal et al. 2017, section 2.2.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lucidet.solver.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)

__all__ = [
    "WarmupParamScheduler",
    "LRMultiplier",
    "WarmupMultiStepLR",
    "WarmupCosineLR",
]


def _check_method(method: str) -> None:
    if method not in ("constant", "linear"):
        raise ValueError(f"warm-up method is 'constant' or 'linear', got {method!r}")


def _get_warmup_factor_at_iter(
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """Return the factor of the warm-up at an iteration: 1 from `warmup_iters` on."""
    _check_method(method)
    if iter >= warmup_iters:
        return 1.0
    if method == "constant":
        return warmup_factor
    return warmup_factor + (1 - warmup_factor) * iter / warmup_iters


class WarmupParamScheduler(CompositeParamScheduler):
    """Puts a warm-up before `scheduler`.

    The warm-up starts at `warmup_factor` times the schedule's first value. Linear warm-up ends at
    the value that the schedule has where it takes over, so the two join without a jump.

    Args:
        scheduler: the schedule.
        warmup_factor: first value as a fraction of the schedule's first value.
        warmup_length: fraction of the run, in [0, 1].
        warmup_method: "linear", or "constant": stay at the first value.
        rescale_interval: squeeze the schedule into the rest of the run; by default its first part
            is replaced, so that its steps stay where they are.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        _check_method(warmup_method)
        if not 0 <= warmup_length <= 1:
            raise ValueError(
                f"warmup_length is a fraction of the run in [0, 1], got {warmup_length}"
            )
        first = warmup_factor * scheduler(0.0)
        joins_at = scheduler(0.0 if rescale_interval else warmup_length)
        warmup: ParamScheduler
        if warmup_method == "constant":
            warmup = ConstantParamScheduler(first)
        else:
            warmup = LinearParamScheduler(first, joins_at)
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Multiplies each parameter group's initial learning rate by a `ParamScheduler`'s value.

    Of its state only the position is loaded: the schedule and the initial rates come from the
    config, and a resumed run may change them.

    Args:
        optimizer: its groups' rates are those of multiplier 1.
        multiplier: function of the fraction of the run in [0, 1].
        max_iter: iterations of the run; `step` is called after each.
        last_iter: iteration done last; -1 for a new run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: Callable[[float], float],
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if max_iter <= 0:
            raise ValueError(f"max_iter must be positive, got {max_iter}")
        if not callable(multiplier):
            raise ValueError(f"multiplier must be callable, such as a ParamScheduler: {multiplier}")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rates and the number of steps done."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the position of a `state_dict`, and set the rates of that position."""
        self.last_epoch = int(state_dict["last_epoch"])
        rates = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = rates

    def get_lr(self) -> list[Any]:
        """Return the current rate of each parameter group."""
        factor = self._multiplier(min(self.last_epoch / self._max_iter, 1.0))
        return [base * factor for base in self.base_lrs]


class _WarmupLR(LRScheduler):
    """Warm-up, times what a subclass makes of the iteration."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_factor: float,
        warmup_iters: int,
        warmup_method: str,
        last_epoch: int,
    ) -> None:
        _check_method(warmup_method)
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the current rate of each parameter group."""
        warmup, decay = self._warmup(), self._decay()
        return [base * warmup * decay for base in self.base_lrs]

    def _warmup(self) -> float:
        return _get_warmup_factor_at_iter(
            self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor
        )

    def _decay(self) -> float:
        raise NotImplementedError


class WarmupMultiStepLR(_WarmupLR):
    """Warm-up, then `gamma` times the rate at each milestone.

    Args:
        optimizer: its groups' rates are the full ones.
        milestones: increasing iterations.
        gamma: factor at each.
        warmup_factor: first rate as a fraction of the full one.
        warmup_iters: iterations of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: iteration done last; -1 for a new run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"milestones must increase, got {list(milestones)}")
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self) -> float:
        return self.gamma ** bisect_right(self.milestones, self.last_epoch)


class WarmupCosineLR(_WarmupLR):
    """Warm-up, multiplied with half a cosine wave from the full rate to 0.

    Args:
        optimizer: its groups' rates are the full ones.
        max_iters: iterations of the run.
        warmup_factor: first rate as a fraction of the full one.
        warmup_iters: iterations of the warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: iteration done last; -1 for a new run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        self.max_iters = max_iters
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self) -> float:
        return (1 + math.cos(math.pi * self.last_epoch / self.max_iters)) / 2
