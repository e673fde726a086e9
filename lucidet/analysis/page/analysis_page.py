"""The page of an analysis: numbers, curves, and images behind each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lucidet.analysis.judged import Judged
from lucidet.analysis.most_confused import most_confused
from lucidet.analysis.page.pictures import Pictures, views_of
from lucidet.analysis.tide import ERROR_TYPES
from lucidet.pages.blocks import Block
from lucidet.pages.charts import bar_chart, curve_chart
from lucidet.pages.document import render_page

__all__ = ["analysis_page"]

#: images in a page at most
MOST_PICTURES = 150
SCRIPTS = ("result.js", "gallery.js", "tables.js", "analysis.js")


def analysis_page(judged: Judged, found: dict[str, Any], title: str = "") -> str:
    """Return the page as HTML; it holds its pictures.

    Args:
        judged: the results.
        found: what `lucidet.analysis.report.analysis` says of them.
        title: of the page; the dataset's name without it.
    """
    cells = [
        {**cell, "examples": _copies(cell["examples"])} for cell in found["confusion"]["cells"]
    ]
    galleries = {name: _copies(found[name]) for name in ("worst_misses", "false_positives")}
    pictures = Pictures(judged, MOST_PICTURES)
    last = len(judged.classes)
    # pictures of confused classes first: those of the diagonal are right
    order = sorted(cells, key=lambda c: (c["row"] == c["column"], last in (c["row"], c["column"])))
    pictures.add_examples([*galleries.values(), *(cell["examples"] for cell in order)])
    shown = [*galleries.values(), *(cell["examples"] for cell in cells)]
    views = views_of(judged, pictures, [example for examples in shown for example in examples])
    numbers = found["metrics"]
    data = {
        "title": title or judged.name,
        "subtitle": f"{found['dataset']}: {found['images']:,} images, "
        f"{found['ground_truth_boxes']:,} ground-truth boxes, {found['detections']:,} detections",
        "images": pictures.images,
        "views": views,
        "tiles": [
            {"label": name, "value": numbers[name]}
            for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")
        ],
        "threshold": found["threshold"],
        "classes": found["classes"],
        "class_errors": found["calibration"]["classes"],
        "charts": _charts(found),
        "matrix": {
            "names": found["confusion"]["names"],
            "cells": cells,
            "shown": most_confused(judged.confusion),
        },
        "crowding": found["crowding"],
        "size": found["size"],
        "galleries": galleries,
        "notes": found["notes"],
    }
    return render_page("lucidet.analysis.page", "analysis.html", data["title"], data, SCRIPTS)


def _copies(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**e, "file_name": Path(e["file_name"]).name or str(e["image_id"]), "picture": None}
        for e in examples
    ]


def _charts(found: dict[str, Any]) -> dict[str, Block]:
    curves, names = found["precision_recall"], [c["name"] for c in found["classes"]]
    recall = curves["recall"]
    lines = {}
    if curves["mean"]:
        lines["mean of the classes"] = list(zip(recall, curves["mean"], strict=True))
    for name, precision in zip(names, curves["classes"], strict=True):
        if precision is not None:
            lines[name] = list(zip(recall, precision, strict=True))
    rows = [row for row in found["calibration"]["bins"] if row["count"]]
    errors = found["calibration"]
    reliability = {
        "perfectly calibrated": [(0.0, 0.0), (1.0, 1.0)],
        "detections": [(row["avg_confidence"], row["avg_accuracy"]) for row in rows],
    }
    title = "Calibration: the share of right detections among those of a score"
    if errors["expected_error"] is not None and rows:
        title += f" (expected error {errors['expected_error']:.3f}, largest "
        title += f"{errors['largest_error']:.3f})"
    tide = found["tide"]
    bars = [
        (kind, round(tide["delta_AP"][kind], 2), f"{meaning}; {tide['counts'][kind]:,} of them")
        for kind, meaning in ERROR_TYPES.items()
    ]
    cost = "What each type of error costs (TIDE)"
    unit = "AP50 that is lost to errors of this type"
    return {
        "precision_recall": curve_chart(
            lines,
            "Precision and recall at IoU 0.5",
            "recall",
            "precision",
            strong=["mean of the classes"],
        ),
        "calibration": curve_chart(
            reliability,
            title,
            "score",
            "share right",
            strong=["detections"],
            dashed=["perfectly calibrated"],
        ),
        "scores": bar_chart(
            [
                (f"{row['bin_lower']:.1f} to {row['bin_upper']:.1f}", float(row["count"]))
                for row in errors["bins"]
            ],
            "Detections by score",
            unit="detections",
        ),
        "tide": bar_chart(bars, f"{cost}: AP50 is {tide['AP50']:.1f}", unit=unit),
    }
