"""Run one side's training step and print how much more memory it took than the model had: MB.

``python -m lucidet.bench.memory KIND ours|theirs QUICK``, started by `lucidet bench`, as a process
can't forget its peak.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

__all__ = ["step_peak"]


def step_peak(kind: str, side: str, quick: bool) -> float:
    """Return the rise in megabytes from before the first of two steps to the peak."""
    from lucidet.bench.jobs_models import training_pair

    steps = dict(zip(("ours", "theirs"), training_pair(kind, quick), strict=True))
    step = steps.pop(side)
    steps.clear()
    gc.collect()
    # 5: forget the peak so far, which building and calibrating the model may have set
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mb("VmRSS")
    step()
    step()
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    """Return a line of Linux's account of this process: VmRSS is memory now, VmHWM its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status has no {name}; memory is measured on Linux only")


if __name__ == "__main__":
    print(json.dumps(step_peak(sys.argv[1], sys.argv[2], sys.argv[3] == "1")))
