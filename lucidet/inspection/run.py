"""One image through training or inference, watched: from a config to a trace."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lucidet.checkpoint import DetectionCheckpointer
from lucidet.checkpoint.description import KEY, Description
from lucidet.config import CfgNode
from lucidet.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from lucidet.data.detection_utils import read_image
from lucidet.data.specification import dataset_names, every_split, is_specification
from lucidet.engine.setup import on_available_device
from lucidet.inspection.event import Event
from lucidet.inspection.model_tree import ModuleWatcher
from lucidet.inspection.run_info import (
    config_rows,
    gradient_rows,
    limits_of,
    optimizer_groups,
    schedule_points,
)
from lucidet.inspection.stages import CHAPTERS, STAGES
from lucidet.inspection.trace import Trace, watch
from lucidet.modeling import build_model
from lucidet.solver import build_optimizer
from lucidet.utils.env import seed_all_rng
from lucidet.utils.probe import probe

__all__ = ["find_record", "inspect_image", "stage_pattern"]


def stage_pattern(name: str) -> str:
    """Return the pattern of events that `name` means: a probe, a pattern or a chapter.

    Raises:
        ValueError: there is no such stage.

    >>> stage_pattern("anchors"), stage_pattern("rpn.*")
    ('anchors.grid', 'rpn.*')
    """
    if any(fnmatch.fnmatchcase(stage, name) for stage in STAGES):
        return name
    if name in CHAPTERS:
        names = [stage for stage, entry in STAGES.items() if entry.chapter == name]
        return names[0] if len(names) == 1 else f"{name}.*" if name in _PREFIXES else names[-1]
    near = difflib.get_close_matches(name, [*STAGES, *CHAPTERS], n=3)
    known = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(STAGES)}"
    raise ValueError(f"no stage {name!r}; {known}")


_PREFIXES = {name.split(".")[0] for name in STAGES}


def find_record(
    *,
    image: str | None = None,
    dataset: str | None = None,
    image_id: str | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the record of an image file, or of one image of a data set.

    Args:
        image: a file; it has no objects.
        dataset: name or specification of a dataset.
        image_id: of the image in it; None: the first.
        classes: the model's, which a specification's are matched to by name; default: its own.

    Raises:
        ValueError: both or neither is named, or the data set has no such image.
    """
    if (image is None) == (dataset is None):
        raise ValueError("name one image: either --image FILE, or --dataset NAME --id N")
    if image is not None:
        height, width = read_image(image, format="BGR").shape[:2]
        return {"file_name": image, "image_id": Path(image).stem, "height": height, "width": width}
    assert dataset is not None
    by_files = is_specification(dataset)
    name = dataset_names(dataset, classes=classes)[0] if by_files else dataset
    records = DatasetCatalog.get(name)
    if not records:
        raise ValueError(f"data set {dataset!r} is empty")
    if image_id is None:
        return records[0]
    # a specification without a split: any image of it is meant
    others = every_split(dataset, classes) if by_files else []
    for found in (records, *map(DatasetCatalog.get, others)):
        for record in found:
            if str(record.get("image_id")) == str(image_id):
                return record
    some = ", ".join(str(record.get("image_id")) for record in records[:5])
    raise ValueError(f"data set {dataset!r} has no image {image_id!r}; it has {some}, ...")


def class_names(
    cfg: CfgNode, dataset: str | None, described: Description | None = None
) -> list[str]:
    """Return the names of classes 0..K-1 where the weights or a dataset name them."""
    if described is not None and described.classes and not cfg.MODEL.CLASS_MAP:
        return list(described.classes)
    for name in (dataset, *cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if name:
            names = MetadataCatalog.get(name).get("thing_classes", None)
            if names:
                return list(names)
    return []


def inspect_image(
    cfg: CfgNode,
    record: dict[str, Any],
    *,
    training: bool,
    weights: str | None = None,
    model: nn.Module | None = None,
    dataset: str | None = None,
    until: str | None = None,
    seed: int = 0,
    on_event: Callable[[Event], None] | None = None,
    on_start: Callable[[Trace], None] | None = None,
    on_done: Callable[[nn.Module, Trace, dict[str, Any]], None] | None = None,
) -> Trace:
    """Walk one image through a detector and return what every stage showed.

    What the detector refuses is no error here: the trace ends there, and its context says why.

    Args:
        cfg: not changed.
        record: of a data set; see :func:`find_record`.
        training: losses and gradients; else detections.
        weights: file; None: random weights, whatever MODEL.WEIGHTS says.
        model: instead of building one from `cfg`.
        dataset: names the classes.
        until: stage or chapter at which the run ends.
        seed: of random weights, augmentations and sampling.
        on_event: called with each event at once, while the model waits.
        on_start: called with the trace, before its first event.
        on_done: called with the model, the trace and the record after a run without an error, so
            that facts of the model can be added to the context.
    """
    pattern = stage_pattern(until) if until is not None else None
    cfg = on_available_device(cfg.clone())
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights or ""
    seed_all_rng(seed)
    source, described = "as given", None
    if model is None:
        model = build_model(cfg)
        source = weights or "random"
        if weights:
            complete = not training and not cfg.TEST.ALLOW_PARTIAL_WEIGHTS
            content = DetectionCheckpointer(model, complete=complete).load(weights)
            described = Description.from_dict(content[KEY]) if KEY in content else None
    was_training = model.training
    model.train(training)
    mapper = DatasetMapper(**DatasetMapper.from_config(cfg, is_train=training))
    trace = Trace()
    trace.context = {
        "mode": "train" if training else "eval",
        "architecture": cfg.MODEL.META_ARCHITECTURE,
        "weights": source,
        "seed": seed,
        "file_name": str(record.get("file_name", "")),
        "image_id": record.get("image_id"),
        "classes": class_names(cfg, dataset, described),
        "class_map": list(cfg.MODEL.CLASS_MAP),
        "until": until or "",
        "error": "",
        "limits": limits_of(cfg),
    }
    objects = record.get("annotations")
    if on_start is not None:
        on_start(trace)
    seed_all_rng(seed)
    modules = ModuleWatcher(model)
    with modules, watch(trace, until=pattern, on_event=on_event):
        try:
            probe("config.values", rows=config_rows(cfg), schedule=schedule_points(cfg))
            probe("model.tree", rows=modules.rows(), weights=source)
            if training and objects is None:
                record = {**record, "annotations": []}
            entry = mapper(record)
            _pass(cfg, model, entry, training)
        except (ValueError, RuntimeError, FloatingPointError, ArithmeticError) as error:
            trace.context["error"] = f"{type(error).__name__}: {error}"
    _complete(trace, cfg, modules)
    if on_done is not None and not trace.context["error"]:
        on_done(model, trace, record)
    model.train(was_training)
    return trace


def _pass(cfg: CfgNode, model: nn.Module, entry: dict[str, Any], training: bool) -> None:
    if not training:
        with torch.no_grad():
            model([entry])
        return
    losses = model([entry])
    model.zero_grad(set_to_none=True)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    probe("loss.gradients", rows=gradient_rows(model))
    optimizer = build_optimizer(cfg, model)
    probe("loss.optimizer", name=type(optimizer).__name__, groups=optimizer_groups(optimizer))
    model.zero_grad(set_to_none=True)


def _complete(trace: Trace, cfg: CfgNode, modules: ModuleWatcher) -> None:
    """Put in what only the end of the run knows: shapes and times, and which keys were read."""
    if "config.values" in trace:
        trace["config.values"].values["rows"] = config_rows(cfg)
    if "model.tree" in trace:
        trace["model.tree"].values["rows"] = modules.rows()
