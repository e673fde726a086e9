"""The report as files: ``doctor.html`` with its pictures, ``doctor.json``, ``doctor.sarif``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lucidet.data.image_io import read_image
from lucidet.doctor.findings import Case, Finding, Report
from lucidet.doctor.rules import RULES
from lucidet.doctor.sarif import as_sarif
from lucidet.doctor.terminal import verdict
from lucidet.pages.document import page_environment
from lucidet.pages.images import data_uri
from lucidet.results.gallery import COLORS
from lucidet.utils.visualizer import Visualizer

__all__ = ["drawn_boxes", "write_report"]

#: pictures of a finding, and cases that are listed
PICTURES, LINES = 4, 50
#: longer side of a picture, pixels
LONGEST = 480
#: sides of boxes in a picture are at least this long, pixels
SMALLEST_DRAWN = 14.0
#: findings whose images show nothing that the number does not say
_WITHOUT_PICTURES = ("image-missing", "image-unreadable", "data-changed")


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the page, which needs no other file, JSON and SARIF; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "doctor.html": as_html(report),
        "doctor.json": json.dumps(report.as_dict(), indent=1, ensure_ascii=False, default=str),
        "doctor.sarif": json.dumps(as_sarif(report), indent=1, ensure_ascii=False, default=str),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def as_html(report: Report) -> str:
    """Return the page."""
    template = page_environment("lucidet.doctor").get_template("doctor.html")
    findings = [_shown(one) for one in report.findings]
    return template.render(report=report, findings=findings, verdict=verdict(report))


def _shown(one: Finding) -> dict[str, Any]:
    pictures = [] if one.code in _WITHOUT_PICTURES else _pictures(one.cases)
    return {
        "code": one.code,
        "severity": one.severity,
        "title": RULES[one.code].title,
        "message": one.message,
        "repair": one.repair,
        "count": one.count,
        "pictures": pictures,
        "lines": [case.line() for case in one.cases[:LINES]],
        "more": max(0, one.count - LINES) if one.cases else 0,
    }


def _pictures(cases: Sequence[Case]) -> list[dict[str, str]]:
    """Draw the first cases that are images, each image once, all boxes of it."""
    of_image: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        if case.image_id is None:
            continue
        if len(of_image) == PICTURES and (case.file, case.other) not in of_image:
            break
        of_image.setdefault((case.file, case.other), []).append(case)
    pictures = []
    for (file, other), own in of_image.items():
        boxes = [box for case in own for box in case.boxes]
        drawn = [drawn_boxes(name, boxes) for name in (other, file) if name]
        known = [picture for picture in drawn if picture is not None]
        if known:
            more = f" and {len(own) - 1} more" if len(own) > 1 else ""
            source = data_uri(np.asarray(_beside(known)))
            pictures.append({"source": source, "caption": own[0].line() + more})
    return pictures


def drawn_boxes(name: str, boxes: Sequence[Sequence[float]]) -> Image.Image | None:
    """Return an image with boxes (XYXY pixels), reduced; None if it cannot be read."""
    try:
        pixels = np.ascontiguousarray(read_image(name, format="RGB"))
    except (OSError, ValueError):
        return None
    scale = LONGEST / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    if not boxes:
        return small
    visualizer = Visualizer(np.asarray(small))
    finite = np.nan_to_num(np.asarray(boxes, np.float64), posinf=1e6, neginf=-1e6) * scale
    lacking = np.maximum(0, SMALLEST_DRAWN - (finite[:, 2:] - finite[:, :2])) / 2
    finite += np.concatenate([-lacking, lacking], axis=1)  # a box of a pixel would not be seen
    visualizer.overlay_instances(
        boxes=finite.clip(-width - height, 2 * (width + height)),
        assigned_colors=[COLORS["wrong"]] * len(boxes),
        alpha=0.9,
    )
    return Image.fromarray(visualizer.get_output().get_image())


def _beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures side by side, the pair in the size of one."""
    if len(pictures) == 1:
        return pictures[0]
    sheet = Image.new(
        "RGB", (sum(p.width for p in pictures) + 6, max(p.height for p in pictures)), "white"
    )
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + 6
    return sheet
