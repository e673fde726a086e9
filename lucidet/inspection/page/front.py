"""The front of the page: the image with its boxes, losses and findings, and the stages in a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucidet.inspection.checks import Finding
from lucidet.inspection.event import Event, whole
from lucidet.inspection.page.page_data import PageData
from lucidet.inspection.trace import Trace
from lucidet.pages.blocks import Block
from lucidet.pages.charts import bar_chart
from lucidet.pages.result import Titles, result_view

__all__ = ["brief", "front", "grouped"]

#: stages of an explained chain -> the probes whose stage shows more, the first that the run has
_PROBES = {
    "anchors": ("anchors.grid",),
    "proposals": ("rpn.candidates", "rpn.decode", "dense.candidates"),
    "rpn_nms": ("rpn.proposals",),
    "roi": ("roi.levels", "roi.pool", "roi.head"),
    "classes": ("roi.head", "dense.head"),
    "box": ("roi.head", "dense.candidates"),
    "topk": ("dense.candidates",),
    "final_nms": ("detections.nms",),
    "detections": ("detections.final",),
}

#: stages whose note stands for a box where no fate is known, the last that the run has
_TELLING = ("rpn.assign", "dense.assign", "rpn.proposals", "dense.candidates", "detections.final")


def grouped(findings: list[Finding], steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return findings of one kind together, each with the number of its step."""
    groups: dict[str, dict[str, Any]] = {}
    for finding in findings:
        entry = finding.as_dict()
        group = groups.setdefault(
            finding.check, {key: entry[key] for key in ("check", "meaning", "remedy")}
        )
        place = next((i for i, step in enumerate(steps) if finding.event in step["events"]), 0)
        message = {"stage": finding.stage, "message": finding.message, "step": place}
        group.setdefault("messages", []).append(message)
    return list(groups.values())


def front(
    page: PageData,
    steps: list[dict[str, Any]],
    findings: list[dict[str, Any]],
    explanation: dict[str, Any] | None,
    titles: Titles,
) -> dict[str, Any]:
    """Return what the front shows.

    Args:
        steps: of the page.
        findings: of :func:`grouped`.
        explanation: fates and verdicts as `lucidet.explain` writes them; None: boxes without them.
        titles: of fates and verdicts.
    """
    key, size = page.original()
    if explanation is not None:
        view = result_view(explanation, key, titles)
        for row in (*view["truth"], *view["detections"]):
            for step in row["chain"]:
                step["step"] = _step_of(steps, _PROBES.get(step["key"], ()))
        followed = [i for i, o in enumerate(explanation["objects"]) if not o["crowd"]]
    else:
        view = _plain_view(page, steps, key, size)
        followed = list(range(len(view["truth"])))
    losses = _losses(page.trace)
    extra = [{"value": _total(page.trace), "label": "total loss", "state": ""}] if losses else []
    count = sum(len(group["messages"]) for group in findings)
    view["tiles"] += [*extra, {"value": str(count), "label": "findings", "state": ""}]
    return {"view": view, "losses": losses, "followed": followed}


def _step_of(steps: list[dict[str, Any]], probes: tuple[str, ...]) -> int | None:
    for probe in probes:
        for i, step in enumerate(steps):
            if step["name"] == probe:
                return i
    return None


def _plain_view(
    page: PageData, steps: list[dict[str, Any]], key: str, size: tuple[int, int]
) -> dict[str, Any]:
    """Return boxes as they are, and for each ground-truth box the stages that know of it."""
    boxes, classes = page.annotated()
    truth = []
    for m, (box, label) in enumerate(zip(boxes.tolist(), classes, strict=True)):
        chain, title = [], ""
        for place, step in enumerate(steps):
            note = step["notes"][m] if m < len(step["notes"]) else None
            if note is not None:
                entry = {"title": step["title"], "text": note["text"], "step": place, "boxes": []}
                chain.append({**entry, "state": "lost" if note["lost"] else "passed"})
                if step["name"] in _TELLING:
                    title = note["text"]
        name = page.class_name(label)
        entry = {"box": box, "name": name, "state": "plain", "title": title, "reason": ""}
        truth.append({**entry, "chain": chain})
    detections = []
    for event in page.trace.all("detections.final")[:1]:
        rows, scores, labels = (whole(event[k]).tolist() for k in ("boxes", "scores", "classes"))
        for box, score, label in zip(rows, scores, labels, strict=True):
            entry = {"box": box, "name": page.class_name(int(label)), "score": score}
            detections.append({**entry, "state": "plain", "title": "", "reason": "", "chain": []})
    tiles = [{"value": str(len(truth)), "label": "ground-truth boxes", "state": ""}]
    if detections or "detections.final" in page.trace:
        tiles.append({"value": str(len(detections)), "label": "detections", "state": ""})
    view = {"image": key, "size": [float(v) for v in size], "tiles": tiles}
    return {**view, "truth": truth, "detections": detections}


def _losses(trace: Trace) -> Block | None:
    terms = [(t["name"], float(t["value"]), _how(t)) for t in trace.all("loss.term")]
    return bar_chart(terms, "Losses") if terms else None


def _how(term: Event) -> str:
    parts = (float(term[key]) for key in ("sum", "normalizer", "weight"))
    return "sum {:.4g} / normalizer {:.4g} × weight {:.4g}".format(*parts)


def _total(trace: Trace) -> str:
    return f"{sum(float(term['value']) for term in trace.all('loss.term')):.4g}"


_BRIEFS: dict[str, Callable[[Event], str]] = {
    "input.read": lambda e: _pixels(whole(e["image"]).shape),
    "input.transform": lambda e: _pixels(whole(e["image"]).shape),
    "input.batch": lambda e: f"{e['images'].shape[3]} × {e['images'].shape[2]}",
    "backbone.features": lambda e: ", ".join(e["features"]),
    "anchors.grid": lambda e: f"{sum(len(whole(level)) for level in e['anchors']):,}",
    "rpn.assign": lambda e: f"{int((whole(e['labels']) == 1).sum()):,} positive",
    "dense.assign": lambda e: f"{int((whole(e['labels']) == 1).sum()):,} positive",
    "roi.assign": lambda e: f"{int((whole(e['labels']) == 1).sum()):,} foreground",
    "rpn.decode": lambda e: f"{len(whole(e['boxes'])):,} boxes",
    "rpn.candidates": lambda e: f"{len(whole(e['boxes'])):,} boxes",
    "dense.candidates": lambda e: f"{len(whole(e['boxes'])):,} boxes",
    "rpn.proposals": lambda e: f"{len(whole(e['boxes'])):,} kept",
    "roi.sample": lambda e: f"{len(whole(e['indices'])):,} sampled",
    "roi.levels": lambda e: f"{len(whole(e['boxes'])):,} regions",
    "detections.nms": lambda e: f"{len(whole(e['keep'])):,} kept",
    "detections.final": lambda e: f"{len(whole(e['boxes'])):,} detections",
}


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} × {shape[0]}"


def brief(event: Event) -> str:
    """Return the number by which a stage is known: ``63,195``; empty where there is none."""
    rule = _BRIEFS.get(event.name)
    return rule(event) if rule is not None else ""
