"""Measure a config's anchors on its training data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from lucidet.config import CfgNode
from lucidet.coverage.measure import measure
from lucidet.coverage.objects import read_objects
from lucidet.coverage.proposal import propose, sample, with_anchors
from lucidet.coverage.report import CoverageReport, Row, summarize
from lucidet.coverage.schemes import MAX_IOU, schemes_of
from lucidet.doctor.boxes import sizes_of_input
from lucidet.doctor.material import Split

__all__ = ["cover"]

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def cover(
    cfg: CfgNode, split: Split, source: str, progress: Progress | None = None
) -> CoverageReport:
    """Return how the boxes of a split are covered: by the config's rule and the two others.

    Args:
        cfg: decides about image size, anchors and rule. Of several training sizes the largest
            is taken.
        split: with image sizes.
        source: name of the config, for the report.
        progress: text and number of boxes -> context in which a function counts them.

    Raises:
        ValueError: no boxes, or a model without anchors.
    """
    size = sizes_of_input(cfg, "train")
    objects = read_objects(split.records, split.classes, *size)
    schemes = schemes_of(cfg, source)
    results = []
    for scheme in schemes:
        shown = progress(scheme.name, len(objects.boxes)) if progress else nullcontext(None)
        with shown as advance:
            results.append(measure(scheme, objects, advance))
    report = CoverageReport(f"{split.name}, {source}", size, objects, results)
    if report.own.scheme.name == MAX_IOU:
        report.proposal = propose(cfg, objects)
        if report.proposal.changed:
            report.compared = _compared(cfg, report)
    return report


def _compared(cfg: CfgNode, report: CoverageReport) -> tuple[Row, Row]:
    assert report.proposal is not None
    objects = sample(report.objects)
    after = next(s for s in schemes_of(with_anchors(cfg, report.proposal), "proposed") if s.own)
    rows = np.ones(len(objects.boxes), bool)
    before, new = (
        summarize(measure(scheme, objects), rows) for scheme in (report.own.scheme, after)
    )
    return before, new
