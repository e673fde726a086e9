"""Pages and JSON files of ``lucidet eval --analyse`` and of ``lucidet compare``."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lucidet.analysis.compare import comparison
from lucidet.analysis.detections import read_detections
from lucidet.analysis.judged import Judged, judge, judge_dataset, read_dataset
from lucidet.analysis.page.analysis_page import analysis_page
from lucidet.analysis.page.comparison_page import comparison_page
from lucidet.analysis.report import analysis
from lucidet.analysis.sources import write_source
from lucidet.data import MetadataCatalog
from lucidet.pages.document import plain_data
from lucidet.utils.logger import create_small_table, create_table

__all__ = ["JSON_NAME", "PAGE_NAME", "write_analyses", "write_analysis", "write_comparison"]

logger = logging.getLogger(__name__)

PAGE_NAME, JSON_NAME = "analysis.html", "analysis.json"


def write_analyses(files: Sequence[tuple[str, Path]], folder: str | Path) -> list[Path]:
    """Write the analysis of datasets; of several each has a folder of its own.

    Args:
        files: name of a dataset, and the COCO results file of its detections.
        folder: created; with one dataset the page is directly in it.

    Returns:
        The pages.
    """
    pages = []
    for number, (name, results_file) in enumerate(files):
        judged = judge_dataset(name, results_file)
        if judged is None:
            raise ValueError(
                f"nothing to analyse of {name!r}: the dataset has no annotations, or its evaluator "
                f"wrote no COCO results to {results_file}"
            )
        own = Path(folder) / str(number) if len(files) > 1 else Path(folder)
        pages.append(write_analysis(judged, own))
        write_source(own, name, results_file)
    return pages


def write_analysis(judged: Judged, folder: Path) -> Path:
    """Write ``analysis.html`` and ``analysis.json``, and log the main numbers; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    found = analysis(judged)
    write_json(folder / JSON_NAME, found)
    page = folder / PAGE_NAME
    page.write_text(analysis_page(judged, found), encoding="utf-8")
    tide = found["tide"]
    lost = create_small_table({f"d{kind}": value for kind, value in tide["delta_AP"].items()})
    logger.info(
        "%s: AP50 %.1f; what errors of each type cost of it (TIDE):\n%s\n"
        "Best F1 at a mean score threshold of %.3f. Page: %s",
        judged.name,
        tide["AP50"],
        lost,
        judged.threshold,
        page,
    )
    return page


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data; numbers that are not finite become null."""
    path.write_text(json.dumps(plain_data(content)) + "\n", encoding="utf-8")


def write_comparison(
    name: str,
    files: tuple[Path, Path],
    labels: tuple[str, str],
    folder: str | Path,
    bootstrap: int,
) -> tuple[Path, str]:
    """Write ``comparison.html`` and ``comparison.json``.

    Args:
        name: of the dataset.
        files: the COCO results files of both runs.
        labels: names of the runs.
        folder: created.
        bootstrap: random samples of the images for the intervals.

    Returns:
        The page, and a table for the terminal.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    dataset = read_dataset(name, out)
    if dataset is None:
        raise ValueError(f"nothing to compare: dataset {name!r} has no annotations")
    truth, image_files = dataset
    shown = str(MetadataCatalog.get(name).name)
    a, b = (judge(shown, truth, image_files, read_detections(truth, file)) for file in files)
    found = comparison(a, b, labels, bootstrap)
    write_json(out / "comparison.json", found)
    page = out / "comparison.html"
    page.write_text(comparison_page(a, b, found), encoding="utf-8")
    return page, comparison_table(found)


def comparison_table(found: dict[str, Any]) -> str:
    """Return the numbers of a comparison as text."""
    rows = []
    for row in found["metrics"][:6]:
        interval = "" if math.isnan(row["low"]) else f"{row['low']:+.1f} to {row['high']:+.1f}"
        rows.append((row["name"], row["a"], row["b"], f"{row['difference']:+.1f}", interval))
    metrics = create_table(("metric", *found["names"], "difference", "95 % interval"), rows)
    classes = create_table(
        ("class", "boxes", "AP of A", "AP of B", "difference", "won", "lost"),
        [
            (c["name"], c["boxes"], c["a"], c["b"], f"{c['difference']:+.1f}", c["won"], c["lost"])
            for c in sorted(found["classes"], key=lambda c: _size_of(c["difference"]))
        ],
    )
    wrong = found["wrong"]
    return (
        f"{metrics}\n{classes}\nground-truth boxes won: {found['won']['count']}, lost: "
        f"{found['lost']['count']}; wrong detections: {wrong[0]} and {wrong[1]}"
    )


def _size_of(difference: float) -> float:
    """Sort the largest change first, undefined ones last."""
    return 0.0 if math.isnan(difference) else -abs(difference)
