"""Where one side of a comparison has its detections from: a model, a file of them, or a trace."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucidet._regular_file import read_regular
from lucidet.checkpoint.description import config_of_weights
from lucidet.config import CfgNode, get_cfg
from lucidet.config.names import find_config
from lucidet.data import MetadataCatalog
from lucidet.data.detection_utils import read_image
from lucidet.data.fields import id_order
from lucidet.engine.predictor import DefaultPredictor
from lucidet.explain.compare import Detections
from lucidet.inspection.event import whole
from lucidet.inspection.ground_truth import class_name
from lucidet.inspection.trace import Trace, trace_files

__all__ = ["RESULTS_FILE", "Side", "config_difference", "find_side", "is_trace", "trace_detections"]

#: keys that differ between any two runs
_EXPECTED = ("OUTPUT_DIR", "MODEL.WEIGHTS")

#: what an evaluation writes
RESULTS_FILE = "coco_instances_results.json"


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        title: by which the page calls it.
        detect: the detections of a record.
        cfg: of the model; None for a file.
    """

    title: str
    detect: Callable[[dict[str, Any]], Detections]
    cfg: CfgNode | None = None


def find_side(
    word: str,
    *,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    dataset: str | None = None,
    partial: bool = False,
) -> Side:
    """Return the side that a word names.

    Args:
        word: weights, a config (with `weights`), or detections as an evaluation writes them
            (``coco_instances_results.json``, or a folder with it).
        weights: of a config.
        overrides: KEY, VALUE pairs of the config.
        dataset: registered name, whose class ids a file of detections uses.
        partial: weights may fit in part.

    Raises:
        ValueError: the word names nothing of these.
    """
    path = Path(word)
    results = _results_file(path)
    if results is not None:
        return Side(f"{path.name or path}", _reader(results, dataset))
    cfg = get_cfg()
    if word.lower().endswith((".yaml", ".yml")) or not path.is_file():
        try:
            file = find_config(word)
        except FileNotFoundError as error:
            raise ValueError(
                f"{word} is no trace, no weights, no file of detections and no config: {error}"
            ) from error
        cfg.merge_from_file(file)
        cfg.MODEL.WEIGHTS = weights or cfg.MODEL.WEIGHTS
        if not cfg.MODEL.WEIGHTS:
            raise ValueError(f"the config {word} names no weights: add --weights W")
    else:
        cfg = config_of_weights(word)
        cfg.MODEL.WEIGHTS = word
    cfg.merge_from_list(list(overrides))
    cfg.TEST.ALLOW_PARTIAL_WEIGHTS |= partial
    return Side(path.name or word, _predictor(cfg), cfg)


def is_trace(word: str) -> bool:
    """Return whether a word names a trace, as ``lucidet inspect --out DIR`` writes it."""
    return all(file.is_file() for file in trace_files(word))


def trace_detections(trace: Trace) -> Detections | None:
    """Return the detections of a traced image; None: the run did not come so far."""
    if "detections.final" not in trace:
        return None
    event = trace["detections.final"]
    names = [class_name(trace, int(k)) for k in whole(event["classes"])]
    return Detections(whole(event["boxes"]).numpy(), whole(event["scores"]).numpy(), names)


def config_difference(first: CfgNode, second: CfgNode) -> str:
    """Return the keys whose values differ, one a line."""
    a, b = dict(_leaves(first)), dict(_leaves(second))
    keys = [key for key in a if key in b and a[key] != b[key] and key not in _EXPECTED]
    return "\n".join(f"{key}: {a[key]} against {b[key]}" for key in keys)


def _leaves(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _results_file(path: Path) -> Path | None:
    if path.is_dir():
        for inside in (path / RESULTS_FILE, path / "inference" / RESULTS_FILE):
            if inside.is_file():
                return inside
        raise ValueError(
            f"{path} has neither {RESULTS_FILE} nor inference/{RESULTS_FILE}, which an evaluation "
            "writes; name weights, a config, a trace or such a file"
        )
    return path if path.suffix == ".json" and path.is_file() else None


def _predictor(cfg: CfgNode) -> Callable[[dict[str, Any]], Detections]:
    predictor = DefaultPredictor(cfg)
    names = list(predictor.metadata.get("thing_classes", None) or [])

    def detect(record: dict[str, Any]) -> Detections:
        found = predictor(read_image(record["file_name"], format="BGR"))["instances"].to("cpu")
        labels = [int(k) for k in found.pred_classes]
        shown = [names[k] if k < len(names) else f"class {k}" for k in labels]
        return Detections(found.pred_boxes.tensor.numpy(), found.scores.numpy(), shown)

    return detect


def _reader(path: Path, dataset: str | None) -> Callable[[dict[str, Any]], Detections]:
    by_image = _records_by_image(path)
    metadata = MetadataCatalog.get(dataset) if dataset else None
    names = list(metadata.get("thing_classes", None) or []) if metadata else []
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id", None) if metadata else None

    def name_of(category: Any) -> str:
        index = contiguous.get(category) if contiguous else category
        known = isinstance(index, int) and 0 <= index < len(names)
        return names[index] if known else f"class {category}"

    def detect(record: dict[str, Any]) -> Detections:
        own = by_image.get(str(record.get("image_id")), [])
        boxes = np.array([d["bbox"] for d in own], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array([d["score"] for d in own], np.float64)
        return Detections(boxes, scores, [name_of(d["category_id"]) for d in own])

    return detect


def _records_by_image(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(read_regular(path, "text").decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of detections, got {type(content).__name__}")
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for n, entry in enumerate(content):
        by_image[str(_checked(entry, n, path)["image_id"])].append(entry)
    return dict(sorted(by_image.items(), key=lambda item: id_order(item[0])))


def _checked(entry: Any, number: int, path: Path) -> dict[str, Any]:
    """Return a detection of a file; an entry that is none is an error that names it."""
    box = entry.get("bbox") if isinstance(entry, dict) else None
    numbers = [*box, entry.get("score")] if isinstance(box, list) and len(box) == 4 else []
    whole = numbers and all(isinstance(v, int | float) and np.isfinite(v) for v in numbers)
    if not whole or "image_id" not in entry or "category_id" not in entry:
        raise ValueError(
            f"{path}: entry {number} is no detection: expected image_id, category_id, score and "
            f"bbox [x, y, width, height], got {str(entry)[:80]}"
        )
    return entry
