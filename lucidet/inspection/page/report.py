"""The page: one HTML file that opens offline, from a trace."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lucidet.inspection.checks import run_checks
from lucidet.inspection.event import Event, Thinned, kind_of, shape_of, statistics
from lucidet.inspection.page import (
    panels_assign,
    panels_boxes,
    panels_heads,
    panels_input,
    panels_loss,
    panels_masks,
    panels_regions,
)
from lucidet.inspection.page.follow import Follower
from lucidet.inspection.page.front import brief, front, grouped
from lucidet.inspection.page.page_data import PageData
from lucidet.inspection.stages import CHAPTERS, STAGES, Chapter
from lucidet.inspection.trace import Trace
from lucidet.pages.blocks import Block, number, table
from lucidet.pages.document import render_page
from lucidet.pages.result import Titles

__all__ = ["Page", "build_steps", "embedded_page", "render", "write_report"]

Panel = Callable[[PageData, Event], list[Block]]

PANELS: dict[str, Panel] = {
    name: getattr(module, name)
    for module, names in {
        panels_input: ("config", "model", "read", "transform", "batch", "features", "anchors"),
        panels_assign: ("assign", "sample", "atss"),
        panels_heads: ("dense_head", "roi_head"),
        panels_boxes: ("boxes", "rpn_nms", "final_nms", "final"),
        panels_regions: ("roi_assign", "roi_sample", "roi_levels", "roi_pool"),
        panels_masks: (
            *("mask_targets", "mask_head", "pasted_masks"),
            *("keypoint_targets", "keypoint_head", "final_keypoints"),
        ),
        panels_loss: ("losses", "gradients", "optimizer"),
    }.items()
    for name in names
}


def values_table(event: Event) -> Block | None:
    """Return a row for each tensor: shape in symbols and numbers, kind, statistics, meaning."""
    rows: list[list[Any]] = []

    def add(name: str, value: Any, symbols: str, meaning: str) -> None:
        if isinstance(value, list | dict) and value and not isinstance(value, str):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            inner = symbols.partition(" ")[2] if symbols[:1] in ("[", "{") else symbols
            if all(shape_of(item) is not None for _, item in items):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                for key, item in list(items)[:12]:
                    add(f"{name}[{key}]", item, inner, meaning)
                return
        shape = shape_of(value)
        if shape is None:
            return
        if not isinstance(value, Thinned) and shape == ():
            rows.append([name, "scalar", "", kind_of(value), number(value), "", "", "", meaning])
            return
        stats = value.stats if isinstance(value, Thinned) else statistics(value)
        bad = stats["nan"] + stats["inf"]
        rows.append(
            [
                name,
                f"({', '.join(symbols.split())})",
                str(tuple(shape)),
                kind_of(value),
                *(stats.get(key, "") for key in ("min", "mean", "max")),
                f"{int(bad):,}" if bad else "",
                meaning,
            ]
        )

    stage = STAGES.get(event.name)
    for name, value in event.values.items():
        field = stage.fields.get(name) if stage else None
        add(name, value, (field.shape or "") if field else "", field.meaning if field else "")
    head = ["value", "symbols", "shape", "kind", "min", "mean", "max", "NaN/inf", "meaning"]
    return table(head, rows, "Values") if rows else None


def build_steps(trace: Trace, page: PageData) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return the page's steps, and the chapters without one.

    Chapters are in order, one step an event, loss terms together. A step is a dict: ``chapter``,
    ``title``, ``sentence``, ``probe``, ``brief``, ``blocks``, ``notes`` (what it has for each
    ground-truth box) and ``events`` (their places in the trace).
    """
    steps: list[dict[str, Any]] = []
    absent: list[dict[str, str]] = []
    follower = Follower(page)
    for number_, (key, chapter) in enumerate(CHAPTERS.items(), start=1):
        events = [e for e in trace if e.name in STAGES and STAGES[e.name].chapter == key]
        terms = [e for e in events if e.name == "loss.term"]
        events = [e for e in events if e.name != "loss.term" or e is terms[0]]
        # within a chapter in the order of the table, so that top-k comes before clipping
        base = {"chapter": key, "number": number_, "chapter_title": chapter.title}
        if not events:
            absent.append({"chapter": chapter.title, "why": _why_absent(trace, chapter)})
        for event in events:
            steps.append({**base, **_step(trace, page, event, follower)})
    return steps, absent


def _why_absent(trace: Trace, chapter: Chapter) -> str:
    mode = trace.context.get("mode", "")
    if mode and mode not in chapter.modes:
        return "This happens at training only." if mode == "eval" else "At inference only."
    if trace.context.get("error") or trace.context.get("until"):
        return "The run did not reach this stage."
    return "This detector has no such stage." if mode else "The run did not reach this stage."


def _step(trace: Trace, page: PageData, event: Event, follower: Follower) -> dict[str, Any]:
    stage = STAGES[event.name]
    blocks = PANELS[stage.drawing](page, event)
    values = values_table(event) if event.name != "loss.term" else None
    own = [i for i, other in enumerate(trace.events) if other is event]
    if event.name == "loss.term":
        own = [i for i, other in enumerate(trace.events) if other.name == "loss.term"]
    image = f", image {event.image}" if event.image is not None else ""
    notes = follower.notes(event)
    gt_boxes = [
        [round(v, 1) for v in follower.frame_box(event, m).tolist()] for m in range(len(notes))
    ]
    return {
        "name": event.name,
        "title": _title(event),
        "sentence": " ".join(s for s in (CHAPTERS[stage.chapter].sentence, stage.sentence) if s),
        "probe": event.name + image,
        "brief": brief(event),
        "blocks": [*blocks, *([values] if values else [])],
        "notes": notes,
        "gt_boxes": gt_boxes,
        "events": own,
    }


def _title(event: Event) -> str:
    """Return a stage's title; a transform is called by its name."""
    if event.name == "input.transform":
        name = str(event["transform"]).partition("(")[0].strip()
        return name.removesuffix("Transform").replace("NoOp", "NoOp: no change") or "Transform"
    return STAGES[event.name].title


def render(
    trace: Trace,
    explanation: dict[str, Any] | None = None,
    titles: Titles | None = None,
) -> str:
    """Return the page of a trace as HTML.

    Args:
        trace: of one image.
        explanation: its fates and verdicts, as `lucidet.explain` writes them; the front shows them.
        titles: of fates and verdicts.
    """
    page = PageData(trace)
    steps, absent = build_steps(trace, page)
    findings = grouped(run_checks(trace), steps)
    context = trace.context
    mode = {"train": "training", "eval": "inference"}.get(context.get("mode", ""), "a call")
    weights = context.get("weights", "")
    file = Path(context.get("file_name", "")).name
    data = {
        "title": f"{context.get('architecture', 'lucidet')}: {mode}",
        "subtitle": " · ".join(
            part
            for part in (
                file,
                f"weights: {Path(weights).name if weights else 'unknown'}",
                f"{len(trace)} events",
                f"stopped: {context['error']}" if context.get("error") else "",
                f"until {context['until']}" if context.get("until") else "",
            )
            if part
        ),
        "error": context.get("error", ""),
        "front": front(page, steps, findings, explanation, titles or {}),
        "steps": steps,
        "absent": absent,
        "findings": findings,
        "images": page.images,
    }
    scripts = ("result.js", "report.js")
    return render_page("lucidet.inspection.page", "report.html", data["title"], data, scripts)


def write_report(
    trace: Trace,
    folder: Any,
    explanation: dict[str, Any] | None = None,
    titles: Titles | None = None,
) -> Path:
    """Write ``report.html`` into a folder; return its path. See :func:`render`."""
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(trace, explanation, titles), encoding="utf-8")
    return path


def embedded_page(trace: Trace, height: int = 700) -> str:
    """Return the page in a frame of `height` pixels, for notebooks."""
    source = html.escape(render(trace), quote=True)
    return f'<iframe srcdoc="{source}" width="100%" height="{height}"></iframe>'


@dataclass(frozen=True)
class Page:
    """The page of a trace: as the last line of a notebook's cell it is displayed.

    Attributes:
        trace: what it shows.
        file: where it was written, or None.
    """

    trace: Trace
    file: Path | None = None

    @property
    def html(self) -> str:
        """The page as one HTML document."""
        return render(self.trace)

    def _repr_html_(self) -> str:
        return embedded_page(self.trace)

    def __repr__(self) -> str:
        return f"Page({len(self.trace)} events, {self.file or 'not written'})"
