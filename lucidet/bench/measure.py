"""Time several ways of doing the same work so that their ratio means something."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Job", "Outcome", "Sides", "alternate", "run_job"]


@dataclass
class Sides:
    """Two ways of doing the same work, ready to be called.

    Attributes:
        ours: lucidet's.
        theirs: the other's.
        check: raises AssertionError where their results differ; returns what was compared.
        limit: the same arithmetic as plain matrix products, or None where that says nothing.
        values: for jobs that are not timed (memory): what `ours` and `theirs` return is the value.
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    check: Callable[[], str]
    limit: Callable[[], Any] | None = None
    values: bool = False


@dataclass(frozen=True)
class Job:
    """One row of the table.

    Attributes:
        name: for ``--jobs``.
        title: what is done.
        against: whose time is divided by ours.
        goal: smallest ratio that is aimed at; for `lower_is_better` the largest.
        make: called with quick (small sizes) -> the sides.
        lower_is_better: the ratio is ours / theirs.
        unit: of the two values.
    """

    name: str
    title: str
    against: str
    goal: float
    make: Callable[[bool], Sides]
    lower_is_better: bool = False
    unit: str = "s"


@dataclass
class Outcome:
    """What was measured for a job; all lists in the order of the rounds.

    Attributes:
        ours, theirs, limit: seconds (or values) of each round.
        checked: what was compared before.
    """

    job: Job
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    checked: str = ""

    @property
    def ratio(self) -> float:
        """Return the ratio of the medians."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return ours / theirs if self.job.lower_is_better else theirs / ours

    @property
    def best_ratio(self) -> float:
        """Return the ratio of the best rounds: what a busy machine disturbs least."""
        ours, theirs = min(self.ours), min(self.theirs)
        return ours / theirs if self.job.lower_is_better else theirs / ours

    @property
    def over_limit(self) -> float | None:
        """Return our time as a multiple of the matrix products', None where there is no limit."""
        return statistics.median(self.ours) / statistics.median(self.limit) if self.limit else None

    @property
    def reached(self) -> bool:
        """Return whether the goal was met."""
        ratio = round(self.ratio, 2)
        return ratio <= self.job.goal if self.job.lower_is_better else ratio >= self.job.goal

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {
            "job": self.job.name,
            "title": self.job.title,
            "against": self.job.against,
            "unit": self.job.unit,
            "goal": self.job.goal,
            "lower_is_better": self.job.lower_is_better,
            "ratio": self.ratio,
            "ratio_of_best": self.best_ratio,
            "over_limit": self.over_limit,
            "reached": self.reached,
            "checked": self.checked,
            "ours": self.ours,
            "theirs": self.theirs,
            "limit": self.limit,
        }


def alternate(
    calls: Sequence[Callable[[], Any]],
    seconds: float,
    min_rounds: int = 3,
    max_rounds: int = 50,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Time the calls in turn, round after round, so that a busy machine disturbs all alike.

    Args:
        calls: what to time.
        warm_up: each runs once before, untimed.
        clock: in seconds; `time.process_time` counts those that the process had a core for.
        seconds: rounds go on so long (at least `min_rounds`, at most `max_rounds`).

    Returns:
        For each call its seconds, one entry a round.

    >>> [len(times) for times in alternate([int, str], seconds=0, min_rounds=2)]
    [2, 2]
    """
    for call in calls if warm_up else ():
        call()
    times: list[list[float]] = [[] for _ in calls]
    started = time.perf_counter()
    while len(times[0]) < min_rounds or (
        len(times[0]) < max_rounds and time.perf_counter() - started < seconds
    ):
        for call, own in zip(calls, times, strict=True):
            begin = clock()
            call()
            own.append(clock() - begin)
    return times


def run_job(job: Job, quick: bool, seconds: float, cpu_time: bool = False) -> Outcome:
    """Build a job's sides, compare their results, then time them.

    Args:
        quick: tiny sizes.
        seconds: for the rounds; at least three are run, with `quick` one.
        cpu_time: count the process's seconds on a core instead of those on the wall.

    Raises:
        AssertionError: the results differ, so that times would mean nothing.
    """
    sides = job.make(quick)
    outcome = Outcome(job, checked=sides.check())
    if sides.values:
        for _ in range(1 if quick else 3):
            outcome.ours.append(float(sides.ours()))
            outcome.theirs.append(float(sides.theirs()))
        return outcome
    calls = [sides.ours, sides.theirs, *([sides.limit] if sides.limit else [])]
    clock = time.process_time if cpu_time else time.perf_counter
    # the check was the warm-up
    rounds = 1 if quick else 3
    times = alternate(calls, seconds, min_rounds=rounds, warm_up=False, clock=clock)
    outcome.ours, outcome.theirs = times[:2]
    outcome.limit = times[2] if sides.limit else []
    return outcome
