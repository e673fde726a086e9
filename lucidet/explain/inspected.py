"""Explanations of inspected images: added to their trace, and told in the terminal."""

from __future__ import annotations

import textwrap
from typing import Any

from torch import nn

from lucidet.explain.annotations import truth_of_record
from lucidet.explain.explain import explain_trace
from lucidet.explain.record import Explanation
from lucidet.explain.text import LINES, WIDTH, image_text, object_text
from lucidet.explain.view import WATCHED
from lucidet.inspection.page.follow import Follower
from lucidet.inspection.page.front import brief
from lucidet.inspection.page.page_data import PageData
from lucidet.inspection.stages import STAGES
from lucidet.inspection.trace import Trace

__all__ = ["add_explanation", "inspected_text"]


def add_explanation(model: nn.Module, trace: Trace, record: dict[str, Any]) -> None:
    """Put the explanation of an inference into ``trace.context["explanation"]``.

    Nothing is added where it can't be: at training, without annotations, for a run that ended
    early, or a detector that `lucidet.explain` does not know; ``context["not_explained"]`` says so.

    Args:
        model: in the mode of the run.
        trace: of one image.
        record: of the dataset, with `annotations`.
    """
    missing = {"input.batch", "detections.final"} - {event.name for event in trace}
    if trace.context.get("mode") == "train" or missing or "annotations" not in record:
        return
    entry = {
        "file_name": record.get("file_name", ""),
        "image_id": record.get("image_id"),
        "height": record.get("height"),
        "width": record.get("width"),
    }
    if "input.read" in trace:  # where a record does not tell the size of its file
        height, width = trace["input.read"]["image"].shape[:2]
        entry["height"], entry["width"] = int(height), int(width)
    only = Trace([event for event in trace if event.name in WATCHED], trace.context)
    try:
        found = explain_trace(
            model, only, entry, truth_of_record(record), classes=trace.context.get("classes", [])
        )
    except ValueError as error:
        trace.context["not_explained"] = str(error)
        return
    trace.context["explanation"] = found.to_json()


def inspected_text(trace: Trace, index: int | None = None, lines: int = LINES) -> str:
    """Return an inspected image in the terminal.

    Args:
        trace: of one image.
        index: of a ground-truth box: its way through the stages; None: the stages of the image.
        lines: at most.

    Raises:
        ValueError: there is no such box.
    """
    content = trace.context.get("explanation")
    if content is not None:
        found = Explanation.from_json(content)
        return image_text(found, lines) if index is None else object_text(found, index, lines)
    rows: list[str] = []
    page = PageData(trace)
    follower = Follower(page)
    if index is not None and not 0 <= index < len(follower):
        raise ValueError(
            f"image {trace.context.get('image_id')} has no ground-truth box {index}: it has "
            f"{len(follower)}, from 0 on"
        )
    for event in trace:
        if event.name not in STAGES:
            continue
        text = brief(event)
        if index is not None:
            note = follower.notes(event)[index]
            text = note["text"] if note is not None else ""
        if text:
            row = f"- {STAGES[event.name].title}: {text}"
            rows += textwrap.wrap(row, WIDTH, subsequent_indent="    ")
    if trace.context.get("error"):
        rows.append(f"the run stopped: {trace.context['error']}")
    return "\n".join(rows if len(rows) <= lines else [*rows[: lines - 1], "..."])
