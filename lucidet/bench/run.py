"""Run the jobs one after another."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from lucidet.bench import jobs_data, jobs_mask_ap, jobs_masks, jobs_models, jobs_parts
from lucidet.bench.measure import Job, Outcome, run_job
from lucidet.bench.report import as_json, markdown, update_readme

__all__ = ["JOBS", "run", "select"]

#: no job is started later than this with --quick, so that it ends within 30 seconds
QUICK_SECONDS = 18.0

JOBS: list[Job] = [
    *jobs_models.JOBS,
    *jobs_masks.JOBS,
    *jobs_parts.JOBS,
    *jobs_data.JOBS,
    *jobs_mask_ap.JOBS,
]


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
        quick: tiny sizes and one round, to see that everything runs: no ratios, about 30 seconds.
        seconds: for the rounds of each job.
        threads: of torch; 0 leaves it as it is.
        out: JSON file.
        readme: Markdown file whose table is replaced.
        cpu_time: count seconds on a core: for machines that others use too, with one thread.
    """
    if threads:
        torch.set_num_threads(threads)
    console = Console(soft_wrap=True)
    outcomes: list[Outcome] = []
    failures: dict[str, str] = {}
    jobs = select(names)
    if quick:  # whole models take longest to build
        jobs.sort(key=lambda job: job in jobs_models.JOBS)
    began = time.monotonic()
    for number, job in enumerate(jobs, 1):
        if quick and time.monotonic() - began > QUICK_SECONDS:
            left_out = ", ".join(job.name for job in jobs[number - 1 :])
            console.print(f"not run, as --quick ends after 30 seconds: {left_out}", markup=False)
            break
        console.print(f"[{number}/{len(jobs)}] {job.name}: {job.title} ...", markup=False)
        try:
            outcome = run_job(job, quick, 0 if quick else seconds, cpu_time)
        except (AssertionError, ImportError) as error:
            failures[job.name] = str(error)
            console.print(f"{job.name}: not timed: {error}", markup=False)
            continue
        finally:
            gc.collect()
        outcomes.append(outcome)
        # tiny sizes say nothing about speed: no ratio, no verdict
        ratio = "runs" if quick else f"{outcome.ratio:.2f} (goal {job.goal:g})"
        console.print(f"{job.name}: {ratio}; {outcome.checked}", markup=False)
    table = "" if quick else markdown(outcomes, cpu_time)
    if quick:
        print(f"{len(outcomes)} of {len(jobs)} jobs ran, with the same results on both sides")
    else:
        print(table)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_json(outcomes, failures, cpu_time), encoding="utf-8")
    if readme is not None and not quick:
        update_readme(readme, table)
    return 1 if failures else 0
