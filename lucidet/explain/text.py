"""Explanations in the terminal: at most 20 lines, for a server without a browser."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

from lucidet.explain.kinds import FATES, VERDICTS
from lucidet.explain.record import Explanation, Stage

__all__ = ["detection_text", "funnel_text", "image_text", "object_text"]

LINES = 20
WIDTH = 100

_Item = TypeVar("_Item")


def image_text(explanation: Explanation, lines: int = LINES) -> str:
    """Return one line a ground-truth box, missed ones first, then what is wrong among detections.

    Args:
        explanation: of an image.
        lines: at most.
    """
    image = explanation.image
    counted = [o for o in explanation.objects if not o.crowd]
    found = sum(o.fate == "detected" for o in counted)
    text = [
        f"{image['file_name']} (image {image['image_id']}): {len(counted)} ground-truth boxes, "
        f"{found} detected, {len(explanation.detections)} detections"
    ]
    missed = [o for o in counted if o.fate != "detected"]
    others = [o for o in explanation.objects if o not in missed]
    rows = [f"box {o.index:<3} {o.name} {_size(o.box)}: {o.text}" for o in (*missed, *others)]
    wrong = [d for d in explanation.detections if d.verdict not in ("true_positive", "ignored")]
    rows += [f"detection {d.index:<3} {d.name} {d.score:.2f}: {d.text}" for d in wrong]
    return "\n".join([*text, *_at_most(rows, lines - 1)])


def object_text(explanation: Explanation, index: int, lines: int = LINES) -> str:
    """Return the stages of one ground-truth box.

    Raises:
        ValueError: there is no such box.
    """
    found = _one_of(explanation, explanation.objects, index, "ground-truth box")
    box = ", ".join(f"{v:.0f}" for v in found.box)
    head = [
        f"image {explanation.image['image_id']}, box {index}: {found.name} [{box}], {found.size}, "
        f"highest IoU with another box {found.crowding:.2f}",
        f"fate: {found.text}",
    ]
    return "\n".join([*head, *_at_most(_stages(found.chain), lines - len(head))])


def detection_text(explanation: Explanation, index: int, lines: int = LINES) -> str:
    """Return the stages back from one detection to its anchor.

    Raises:
        ValueError: there is no such detection.
    """
    found = _one_of(explanation, explanation.detections, index, "detection")
    box = ", ".join(f"{v:.0f}" for v in found.box)
    head = [
        f"image {explanation.image['image_id']}, detection {index}: {found.name} "
        f"{found.score:.2f} [{box}]",
        f"verdict: {found.text}",
    ]
    return "\n".join([*head, *_at_most(_stages(found.origin), lines - len(head))])


def _one_of(explanation: Explanation, items: Sequence[_Item], index: int, what: str) -> _Item:
    if not 0 <= index < len(items):
        raise ValueError(
            f"image {explanation.image['image_id']} has no {what} {index}: it has "
            f"{len(items)}, from 0 on"
        )
    return items[index]


def funnel_text(funnel: dict[str, Any]) -> str:
    """Return the funnel of a dataset: how many boxes come through each stage."""
    total = funnel["objects"]
    lines = [
        f"{funnel['images']} images, {total} ground-truth boxes"
        + (f" ({funnel['ignored']} more are ignored)" if funnel["ignored"] else "")
        + (f", AP50 {funnel['ap50']:.1f}" if funnel["ap50"] is not None else "")
    ]
    if total:
        lines.append(f"{'fate':<38} {'boxes':>6} {'share':>6}  small medium large  AP50 if mended")
    sizes = funnel["by"]["size"]
    for fate, count in funnel["fates"].items():
        shares = "  ".join(
            f"{sizes.get(s, {}).get(fate, 0):>5}" for s in ("small", "medium", "large")
        )
        mended = funnel["mend"].get(fate)
        gain = "" if mended is None else f"{mended:>6.1f} (+{mended - (funnel['ap50'] or 0):.1f})"
        lines.append(f"{FATES[fate]:<38} {count:>6} {count / total:>6.1%}  {shares}  {gain}")
    if funnel["verdicts"]:
        parts = [f"{VERDICTS[v].partition(':')[0]} {n}" for v, n in funnel["verdicts"].items()]
        lines += textwrap.wrap("detections: " + ", ".join(parts), WIDTH)
    return "\n".join(lines)


def _stages(stages: Sequence[Stage]) -> list[str]:
    rows = []
    for stage in stages:
        mark = "x" if stage.lost else "-"
        text = f"{mark} {stage.title}: {stage.text}"
        rows += textwrap.wrap(text, WIDTH, subsequent_indent="    ")
    return rows


def _at_most(rows: list[str], count: int) -> list[str]:
    if len(rows) <= count:
        return rows
    return [*rows[: count - 1], f"... and {len(rows) - count + 1} lines more"]


def _size(box: Sequence[float]) -> str:
    return f"{box[2] - box[0]:.0f} x {box[3] - box[1]:.0f}"
