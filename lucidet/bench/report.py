"""The benchmark's table, JSON file and block in a README."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lucidet.bench.measure import Outcome

__all__ = ["as_json", "markdown", "update_readme"]

START, END = "<!-- lucidet bench: start -->", "<!-- lucidet bench: end -->"
PACKAGES = ("torch", "torchvision", "pycocotools", "hotcoco", "numpy", "pillow")


def machine() -> dict[str, Any]:
    """Return what a reader needs to know about where the numbers come from."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def as_json(outcomes: Sequence[Outcome], failures: dict[str, str], cpu_time: bool = False) -> str:
    """Return everything that was measured."""
    jobs = [outcome.as_dict() for outcome in outcomes]
    seconds = "on a core" if cpu_time else "on the wall"
    found = {"machine": machine(), "seconds": seconds, "jobs": jobs, "failures": failures}
    return json.dumps(found, indent=1)


def markdown(outcomes: Sequence[Outcome], cpu_time: bool = False) -> str:
    """Return the table in Markdown."""
    about = machine()
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [
        f"{about['cpu_cores']} CPU cores, {about['threads']} threads; Python {about['python']}, "
        f"{versions}. Seconds {'on a core' if cpu_time else 'on the wall'}.",
        "",
        "| job | against | lucidet | other | ratio | of the best rounds | goal | matrix products |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        job = o.job
        sign = "<=" if job.lower_is_better else ">="
        limit = "" if o.over_limit is None else f"{o.over_limit:.2f}x their time"
        mark = "" if o.reached else " (not reached)"
        lines.append(
            f"| {job.title} | {job.against} | {_value(o.ours, job.unit)} | "
            f"{_value(o.theirs, job.unit)} | {o.ratio:.2f}x{mark} | {o.best_ratio:.2f}x | "
            f"{sign} {job.goal:g}x | {limit} |"
        )
    return "\n".join(lines) + "\n"


def _value(values: Sequence[float], unit: str) -> str:
    """Return the median with three digits.

    >>> _value([0.01234], "s"), _value([1234.5], "MB")
    ('12.3 ms', '1234 MB')
    """
    median = statistics.median(values)
    if unit == "s" and median < 1:
        return f"{median * 1000:.3g} ms"
    return f"{median:.0f} {unit}" if unit != "s" else f"{median:.3g} s"


def update_readme(path: Path, table: str) -> None:
    """Put the table between the two markers of a README; the rest of the file stays."""
    text = (
        path.read_text(encoding="utf-8") if path.exists() else f"# Benchmarks\n\n{START}\n{END}\n"
    )
    if START not in text or END not in text:
        text = f"{text.rstrip()}\n\n{START}\n{END}\n"
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{START}\n{table}{END}{after}", encoding="utf-8")
