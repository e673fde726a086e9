"""What the result view shows of an explained image: boxes with their states, chains, tiles."""

from __future__ import annotations

from typing import Any

__all__ = ["Titles", "result_view", "state_of_fate", "state_of_verdict"]

#: ``fates`` and ``verdicts``: key -> title
Titles = dict[str, dict[str, str]]


def state_of_fate(fate: str) -> str:
    """Return "found", "missed" or "ignored" for the fate of a ground-truth box."""
    return {"detected": "found", "ignored": "ignored"}.get(fate, "missed")


def state_of_verdict(verdict: str) -> str:
    """Return "found", "wrong" or "ignored" for the verdict on a detection."""
    return {"true_positive": "found", "ignored": "ignored"}.get(verdict, "wrong")


def result_view(explanation: dict[str, Any], image: str, titles: Titles) -> dict[str, Any]:
    """Return the view of an explained image.

    Args:
        explanation: plain data, as `lucidet.explain.record` describes it.
        image: key of the picture among the page's images.
        titles: of ``fates`` and of ``verdicts``.

    Returns:
        ``truth`` and ``detections`` with boxes in pixels of the file, ``tiles``, ``size``.
    """
    file = explanation["image"]
    width, height = float(file["width"]), float(file["height"])
    resized = file.get("resized") or [width, height]
    scale = (width / max(resized[0], 1), height / max(resized[1], 1))
    truth = [
        {
            "box": entry["box"],
            "name": entry["name"],
            "state": state_of_fate(entry["fate"]),
            "title": _with_score(titles, entry, explanation),
            "reason": entry["text"],
            "partner": entry["detection"],
            "chain": [_step(stage, scale) for stage in entry["chain"]],
        }
        for entry in explanation["objects"]
    ]
    detections = [
        {
            "box": entry["box"],
            "name": entry["name"],
            "score": entry["score"],
            "state": state_of_verdict(entry["verdict"]),
            "title": titles.get("verdicts", {}).get(entry["verdict"], entry["verdict"]),
            "reason": entry["text"],
            "partner": entry["object"],
            "chain": [_step(stage, scale) for stage in entry["origin"]],
        }
        for entry in explanation["detections"]
    ]
    view = {"image": image, "size": [width, height], "truth": truth, "detections": detections}
    return {**view, "tiles": _tiles(truth, detections)}


def _with_score(titles: Titles, entry: dict[str, Any], explanation: dict[str, Any]) -> str:
    title = titles.get("fates", {}).get(entry["fate"], entry["fate"])
    index = entry.get("detection")
    if entry["fate"] != "detected" or index is None:
        return title
    return f"{title} {explanation['detections'][index]['score']:.2f}"


def _step(stage: dict[str, Any], scale: tuple[float, float]) -> dict[str, Any]:
    factors = (*scale, *scale)
    boxes = [
        {
            "box": [round(v * f, 2) for v, f in zip(shown["box"], factors, strict=True)],
            "label": shown["label"],
            "kind": shown["role"],
        }
        for shown in stage.get("boxes", [])
    ]
    state = "lost" if stage.get("lost") else "passed"
    return {
        "key": stage["key"],
        "title": stage["title"],
        "text": stage["text"],
        "state": state,
        "boxes": boxes,
    }


def _tiles(truth: list[dict[str, Any]], detections: list[dict[str, Any]]) -> list[dict[str, str]]:
    counts = {
        "found": sum(t["state"] == "found" for t in truth),
        "missed": sum(t["state"] == "missed" for t in truth),
        "wrong": sum(d["state"] == "wrong" for d in detections),
    }
    tiles = [{"value": str(n), "label": name, "state": name} for name, n in counts.items()]
    return [*tiles, {"value": str(len(detections)), "label": "detections", "state": ""}]
