"""Run the jobs one after another."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from lucidet.bench import jobs_data, jobs_models, jobs_parts
from lucidet.bench.measure import Job, Outcome, run_job
from lucidet.bench.report import as_json, markdown, update_readme

__all__ = ["JOBS", "run", "select"]

JOBS: list[Job] = [*jobs_models.JOBS, *jobs_parts.JOBS, *jobs_data.JOBS]


def select(names: Sequence[str]) -> list[Job]:
    """Return the jobs whose names start with one of `names`; all for no names.

    Raises:
        ValueError: a name fits no job.
    """
    for name in names:
        if not any(job.name.startswith(name) for job in JOBS):
            known = ", ".join(job.name for job in JOBS)
            raise ValueError(f"--jobs: no job is called {name!r}; they are {known}")
    return [job for job in JOBS if not names or job.name.startswith(tuple(names))]


def run(
    names: Sequence[str] = (),
    quick: bool = False,
    seconds: float = 20.0,
    threads: int = 0,
    out: Path | None = None,
    readme: Path | None = None,
    cpu_time: bool = False,
) -> int:
    """Check and time the jobs, print the table, write it; return 1 where results differ, else 0.

    Args:
        names: starts of job names; none: all.
        quick: tiny sizes, to see that everything runs; the ratios mean nothing.
        seconds: for the rounds of each job.
        threads: of torch; 0 leaves it as it is.
        out: JSON file.
        readme: Markdown file whose table is replaced.
        cpu_time: count seconds on a core: for machines that others use too, with one thread.
    """
    if threads:
        torch.set_num_threads(threads)
    console = Console()
    outcomes: list[Outcome] = []
    failures: dict[str, str] = {}
    for job in select(names):
        try:
            outcome = run_job(job, quick, seconds, cpu_time)
        except (AssertionError, ImportError) as error:
            failures[job.name] = str(error)
            console.print(f"{job.name}: not timed: {error}", markup=False)
            continue
        finally:
            gc.collect()
        outcomes.append(outcome)
        console.print(
            f"{job.name}: {outcome.ratio:.2f} (goal {job.goal:g}); {outcome.checked}",
            markup=False,
        )
    table = markdown(outcomes, cpu_time)
    print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_json(outcomes, failures, cpu_time), encoding="utf-8")
    if readme is not None:
        update_readme(readme, table)
    return 1 if failures else 0
