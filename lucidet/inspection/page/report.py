"""The page: one HTML file that opens offline, from a trace."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from lucidet.inspection.checks import Finding, run_checks
from lucidet.inspection.event import Event, Thinned, kind_of, shape_of, statistics
from lucidet.inspection.page import (
    panels_assign,
    panels_boxes,
    panels_heads,
    panels_input,
    panels_loss,
    panels_regions,
)
from lucidet.inspection.page.draw import Block, number, table, text
from lucidet.inspection.page.page_data import PageData
from lucidet.inspection.stages import CHAPTERS, STAGES
from lucidet.inspection.trace import Trace

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


def build_steps(trace: Trace, page: PageData, findings: list[Finding]) -> list[dict[str, Any]]:
    """Return the page's steps: chapters in order, one step an event, loss terms together."""
    steps: list[dict[str, Any]] = []
    mode = trace.context.get("mode", "")
    for number_, (key, chapter) in enumerate(CHAPTERS.items(), start=1):
        events = [e for e in trace if e.name in STAGES and STAGES[e.name].chapter == key]
        terms = [e for e in events if e.name == "loss.term"]
        events = [e for e in events if e.name != "loss.term" or e is terms[0]]
        # within a chapter in the order of the table, so that top-k comes before clipping
        base = {"chapter": key, "number": number_, "chapter_title": chapter.title}
        if not events:
            why = "The run did not reach this stage."
            if mode and mode not in chapter.modes:
                why = "This happens at training only." if mode == "eval" else "At inference only."
            elif not (trace.context.get("error") or trace.context.get("until")):
                why = "This detector has no such stage."
            blocks = [text(why)]
            title = chapter.title
            steps.append(
                {
                    **base,
                    "title": title,
                    "sentence": chapter.sentence,
                    "probe": "",
                    "empty": True,
                    "blocks": blocks,
                    "findings": [],
                }
            )
        for event in events:
            steps.append({**base, **_step(trace, page, event, findings)})
    for i, step in enumerate(steps):
        step["id"] = f"step-{i}"
    return steps


def _step(trace: Trace, page: PageData, event: Event, findings: list[Finding]) -> dict[str, Any]:
    stage = STAGES[event.name]
    blocks = PANELS[stage.drawing](page, event)
    values = values_table(event) if event.name != "loss.term" else None
    place = next(i for i, other in enumerate(trace.events) if other is event)
    own = [f for f in findings if f.event == place]
    if event.name == "loss.term":
        own = [f for f in findings if f.stage == "loss.term"]
    image = f", image {event.image}" if event.image is not None else ""
    return {
        "title": stage.title,
        "sentence": CHAPTERS[stage.chapter].sentence + " " + stage.sentence
        if stage.sentence
        else CHAPTERS[stage.chapter].sentence,
        "probe": event.name + image,
        "empty": False,
        "blocks": [*blocks, *([values] if values else [])],
        "findings": [f.as_dict() for f in own],
    }


def render(trace: Trace) -> str:
    """Return the page of a trace as HTML."""
    page = PageData(trace)
    findings = run_checks(trace)
    steps = build_steps(trace, page, findings)
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
        "images": page.images,
        "steps": steps,
        "findings": [{**f.as_dict(), "step": _step_of(steps, f)} for f in findings],
    }
    environment = Environment(loader=PackageLoader("lucidet.inspection.page"), autoescape=True)
    # "<" cannot end the script element then
    payload = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template("report.html").render(title=data["title"], payload=payload)


def _step_of(steps: list[dict[str, Any]], finding: Finding) -> int:
    for i, step in enumerate(steps):
        if finding.as_dict() in step["findings"]:
            return i
    return 0


def write_report(trace: Trace, folder: Any) -> Path:
    """Write ``report.html`` into a folder; return its path."""
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(trace), encoding="utf-8")
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
