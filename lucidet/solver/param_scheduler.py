"""Schedules of a value over a run, as functions of the fraction of it that is done.

Names and arguments as fvcore's, which detectron2 uses. A scheduler is called with ``where`` in
[0, 1] and knows nothing of optimisers or iterations.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

__all__ = [
    "ParamScheduler",
    "ConstantParamScheduler",
    "LinearParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "PolynomialDecayParamScheduler",
    "MultiStepParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
    "CompositeParamScheduler",
]

# `where` is iteration / iterations: the product may come out a little below the whole number
_ROUNDING = 1e-9


class ParamScheduler:
    """A value as a function of ``where``, the fraction of the run in [0, 1]."""

    def __call__(self, where: float) -> float:
        raise NotImplementedError


class ConstantParamScheduler(ParamScheduler):
    """Always `value`."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, where: float) -> float:
        return self._value


class LinearParamScheduler(ParamScheduler):
    """A straight line from `start_value` to `end_value`.

    >>> LinearParamScheduler(1.0, 0.0)(0.25)
    0.75
    """

    def __init__(self, start_value: float, end_value: float) -> None:
        self._start_value = start_value
        self._end_value = end_value

    def __call__(self, where: float) -> float:
        return self._start_value + (self._end_value - self._start_value) * where


class CosineParamScheduler(ParamScheduler):
    """Half a cosine wave from `start_value` to `end_value` (Loshchilov and Hutter 2016).

    >>> CosineParamScheduler(1.0, 0.0)(0.5)
    0.5
    """

    def __init__(self, start_value: float, end_value: float) -> None:
        self._start_value = start_value
        self._end_value = end_value

    def __call__(self, where: float) -> float:
        share = (1 + math.cos(math.pi * where)) / 2  # 1 at the start, 0 at the end
        return self._end_value + (self._start_value - self._end_value) * share


class ExponentialParamScheduler(ParamScheduler):
    """``start_value * decay ** where``."""

    def __init__(self, start_value: float, decay: float) -> None:
        self._start_value = start_value
        self._decay = decay

    def __call__(self, where: float) -> float:
        return self._start_value * self._decay**where


class PolynomialDecayParamScheduler(ParamScheduler):
    """``base_value * (1 - where) ** power``."""

    def __init__(self, base_value: float, power: float) -> None:
        self._base_value = base_value
        self._power = power

    def __call__(self, where: float) -> float:
        return self._base_value * (1 - where) ** self._power


class MultiStepParamScheduler(ParamScheduler):
    """Steps from one of `values` to the next at `milestones`.

    >>> schedule = MultiStepParamScheduler([1.0, 0.1], milestones=[60], num_updates=90)
    >>> schedule(59 / 90), schedule(60 / 90)
    (1.0, 0.1)

    Args:
        values: one more than milestones.
        num_updates: iterations of the run; without it the last milestone is the end of the run
            (and there are as many milestones as values).
        milestones: increasing iterations at which the next value begins; without them the
            values last equally long.

    Raises:
        ValueError: values, milestones and iterations don't fit together.
    """

    def __init__(
        self,
        values: Sequence[float],
        num_updates: int | None = None,
        milestones: Sequence[int] | None = None,
    ) -> None:
        if not values:
            raise ValueError("values must hold at least one value")
        if num_updates is None and milestones is None:
            raise ValueError("give num_updates, milestones or both")
        steps: list[int]
        if milestones is None:
            assert num_updates is not None
            width = math.ceil(num_updates / len(values))
            steps = [width * i for i in range(1, len(values))]
        else:
            steps = list(milestones)
            if num_updates is None:
                num_updates = steps.pop() if steps else 1
            if any(a >= b for a, b in pairwise(steps)):
                raise ValueError(f"milestones must increase, got {list(milestones)}")
            if steps and steps[-1] > num_updates:
                raise ValueError(
                    f"the last milestone, {steps[-1]}, lies behind the last of "
                    f"{num_updates} iterations"
                )
        if len(values) != len(steps) + 1:
            raise ValueError(
                f"{len(steps)} milestones part the run into {len(steps) + 1} stretches, "
                f"but there are {len(values)} values"
            )
        self._values = tuple(values)
        self._milestones = steps
        self._num_updates = num_updates

    def __call__(self, where: float) -> float:
        iteration = int(where * self._num_updates * (1 + _ROUNDING))
        return self._values[bisect_right(self._milestones, iteration)]


class StepParamScheduler(MultiStepParamScheduler):
    """Goes through `values`, each lasting equally long."""

    def __init__(self, num_updates: int, values: Sequence[float]) -> None:
        if num_updates <= 0:
            raise ValueError(f"num_updates must be positive, got {num_updates}")
        super().__init__(values, num_updates=num_updates)


class StepWithFixedGammaParamScheduler(MultiStepParamScheduler):
    """`num_decays` times, equally spaced over `num_updates` iterations, multiply by `gamma`."""

    def __init__(self, base_value: float, num_decays: int, gamma: float, num_updates: int) -> None:
        values = [base_value * gamma**i for i in range(num_decays + 1)]
        super().__init__(values, num_updates=num_updates)


class CompositeParamScheduler(ParamScheduler):
    """Several schedulers one after another.

    >>> warmup_then_flat = CompositeParamScheduler(
    ...     [LinearParamScheduler(0.0, 1.0), ConstantParamScheduler(1.0)],
    ...     lengths=[0.5, 0.5], interval_scaling=["rescaled", "fixed"])
    >>> warmup_then_flat(0.25), warmup_then_flat(0.75)
    (0.5, 1.0)

    Args:
        schedulers: in order.
        lengths: fraction of the run that each takes; they add up to 1.
        interval_scaling: for each, "rescaled": it runs from 0 to 1 within its own stretch;
            "fixed": it sees the fraction of the whole run.

    Raises:
        ValueError: the three disagree.
    """

    def __init__(
        self,
        schedulers: Sequence[ParamScheduler],
        lengths: Sequence[float],
        interval_scaling: Sequence[str],
    ) -> None:
        if not schedulers or not len(schedulers) == len(lengths) == len(interval_scaling):
            raise ValueError(
                f"need as many schedulers as lengths and interval_scaling, at least one; got "
                f"{len(schedulers)}, {len(lengths)}, {len(interval_scaling)}"
            )
        if not math.isclose(sum(lengths), 1.0, abs_tol=1e-6) or min(lengths) < 0:
            raise ValueError(f"lengths must be fractions that add up to 1, got {list(lengths)}")
        for scaling in interval_scaling:
            if scaling not in ("rescaled", "fixed"):
                raise ValueError(f"interval_scaling is 'rescaled' or 'fixed', got {scaling!r}")
        self._schedulers = tuple(schedulers)
        self._lengths = tuple(lengths)
        self._interval_scaling = tuple(interval_scaling)

    def __call__(self, where: float) -> float:
        index, start = 0, 0.0
        # a border belongs to the stretch that begins there; one of length 0 never has its turn
        while (
            index + 1 < len(self._schedulers) and where + _ROUNDING >= start + self._lengths[index]
        ):
            start += self._lengths[index]
            index += 1
        if self._interval_scaling[index] == "rescaled":
            length = self._lengths[index]
            where = min(max((where - start) / length, 0.0), 1.0) if length else 1.0
        return self._schedulers[index](where)
