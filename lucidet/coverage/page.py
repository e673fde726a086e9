"""``coverage.html`` with its pictures, ``coverage.json`` and ``anchors.yaml``."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lucidet.coverage.report import HEADERS, CoverageReport, proposal_lines, summarize
from lucidet.doctor.page import drawn_boxes
from lucidet.pages.document import page_environment
from lucidet.pages.images import data_uri

__all__ = ["write_coverage"]

PICTURES = 8


def write_coverage(report: CoverageReport, records: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Write the page, JSON and, where anchors are proposed, YAML to merge; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "coverage.html"
    template = page_environment("lucidet.coverage").get_template("coverage.html")
    every = np.ones(len(report.objects.boxes), bool)
    page.write_text(
        template.render(
            report=report,
            headers=HEADERS,
            every=[(r.scheme, summarize(r, every).cells()) for r in report.results],
            groups=[("size, pixels", report.by_size()), ("class", report.by_class())],
            charts=[_address(figure) for figure in _figures(report)],
            pictures=_pictures(report, records),
            proposal=proposal_lines(report),
        ),
        encoding="utf-8",
    )
    content = json.dumps(report.as_dict(records), indent=1, ensure_ascii=False)
    (folder / "coverage.json").write_text(content, encoding="utf-8")
    if report.proposal is not None:
        (folder / "anchors.yaml").write_text(report.proposal.yaml(), encoding="utf-8")
    return page


def _figures(report: CoverageReport) -> list[Figure]:
    """Return best IoU by rule, and positives of a box over its size."""
    iou, positives = (Figure(figsize=(6.0, 3.8), dpi=110, layout="constrained") for _ in range(2))
    axes = iou.add_subplot()
    for result in report.results:
        if result.scheme.shapes:
            axes.hist(
                result.best_iou, bins=20, range=(0, 1), histtype="step", label=result.scheme.name
            )
    axes.set(title="Best IoU of each box with the anchors", xlabel="IoU", ylabel="boxes")
    axes.legend(fontsize=8)
    axes = positives.add_subplot()
    side = np.sqrt(np.maximum(report.objects.areas, 1.0))
    edges = np.geomspace(max(1.0, side.min()), side.max() + 1, 16)
    place = np.clip(np.digitize(side, edges) - 1, 0, len(edges) - 2)
    middle = np.sqrt(edges[1:] * edges[:-1])
    for result in report.results:
        number = np.bincount(place, minlength=len(middle))
        total = np.bincount(place, result.positives, minlength=len(middle))
        known = number > 0
        axes.plot(middle[known], total[known] / number[known], "o-", label=result.scheme.name)
    axes.set(title="Positives of a box", xlabel="root of its area, pixels", ylabel="mean")
    axes.set_xscale("log")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return [iou, positives]


def _address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode("ascii")


def _pictures(report: CoverageReport, records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Draw images with the boxes that have no positive; those with most of them first."""
    rows, objects = report.uncovered(), report.objects
    pictures = []
    images, counts = np.unique(objects.image[rows], return_counts=True)
    for image in images[np.argsort(-counts, kind="stable")][:PICTURES].tolist():
        record = records[int(objects.records[image])]
        own = rows[objects.image[rows] == image]
        factor = record["width"] / objects.sizes[image][0]
        drawn = drawn_boxes(str(record["file_name"]), (objects.boxes[own] * factor).tolist())
        if drawn is not None:
            names = [objects.classes[k] for k in objects.category[own].tolist()]
            text = f"{Path(str(record['file_name'])).name}: {', '.join(names[:6])}"
            pictures.append({"source": data_uri(np.asarray(drawn)), "caption": text})
    return pictures
