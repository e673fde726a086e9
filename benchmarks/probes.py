"""What probes cost when nobody watches, as a part of a training step.

    python benchmarks/probes.py

The step of a small Faster R-CNN is timed; the probe calls in it are counted; one idle call is
timed on its own, a million times over. The product over the step is the cost. (Two timings of
whole steps, with and without probes, would differ by more than that from run to run.)
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lucidet.inspection import watch
from lucidet.utils.probe import probe
from tests.modeling.tiny import FPN, record, tiny_config, tiny_model


def main() -> None:
    torch.set_num_threads(1)
    model = tiny_model(tiny_config(FPN)).train()
    batch = [record((96, 128), [[10, 10, 60, 70]], seed=i) for i in range(2)]
    times = []
    for _ in range(15):
        start = time.perf_counter()
        sum(model(batch).values()).backward()
        times.append(time.perf_counter() - start)
    step = statistics.median(times)
    with watch() as trace:
        model(batch)
    calls = 1_000_000
    tensor = torch.zeros(1)
    start = time.perf_counter()
    for _ in range(calls):
        probe("rpn.assign", image=0, matched_idxs=tensor, labels=tensor, quality=tensor)
    one = (time.perf_counter() - start) / calls
    share = one * len(trace) / step
    print(
        f"a step of {step * 1e3:.1f} ms has {len(trace)} probe calls of {one * 1e9:.0f} ns: "
        f"{share:.4%} of the step"
    )
    if share >= 0.01:
        raise SystemExit("probes cost 1 % of a step or more")


if __name__ == "__main__":
    main()
