"""The weights against config and data: what fits, what starts from random values, pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from lucidet.checkpoint.description import KEY, Description
from lucidet.checkpoint.detection_checkpoint import load_weights
from lucidet.checkpoint.formats import rename_weights
from lucidet.checkpoint.reading import load_weights_file, local_weights_path
from lucidet.checkpoint.report import LoadReport
from lucidet.config import CfgNode
from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.material import Material
from lucidet.doctor.rules import WARNING
from lucidet.modeling import build_model

__all__ = ["check_weights"]

#: pixels that foreign weights expect, in the order of their channels
_TORCHVISION = ("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
#: means differ by less than this many grey levels, standard deviations by less than this share
_SAME_MEAN, _SAME_STD = 8.0, 0.3


def check_weights(material: Material, download: bool = True) -> list[Finding]:
    """Return findings about ``MODEL.WEIGHTS``; none where training starts from random weights.

    Args:
        material: with a config.
        download: fetch weights that are an address and not in the cache.
    """
    cfg = material.cfg
    if cfg is None or not cfg.MODEL.WEIGHTS:
        return []
    if "://" in cfg.MODEL.WEIGHTS and not download:
        return []
    path = cfg.MODEL.WEIGHTS
    try:
        content = load_weights_file(local_weights_path(path))
    except (OSError, ValueError) as error:
        return [finding("weights-unreadable", str(error), [Case(path)])]
    findings = [*_fit(cfg, content)]
    described = content.get(KEY)
    if isinstance(described, dict):
        with suppress(ValueError, TypeError):  # reading them for training says what is wrong
            findings += _description(material, Description.from_dict(described))
    else:
        findings += _foreign_pixels(cfg, content["model"])
    return findings


def _fit(cfg: CfgNode, content: dict[str, Any]) -> Iterator[Finding]:
    """Load the weights into a model and say what they do not fill."""
    trial = cfg.clone()
    trial.defrost()
    trial.MODEL.DEVICE, trial.MODEL.TIMM.PRETRAINED, trial.MODEL.CLASS_MAP = "cpu", False, []
    path = cfg.MODEL.WEIGHTS
    try:
        with torch.random.fork_rng(devices=[]):
            model = build_model(trial)
    except (ValueError, KeyError):
        return  # the config's own finding
    try:
        weights = {k: torch.as_tensor(v) for k, v in content["model"].items()}
        report: LoadReport = load_weights(model, weights, bool(content.get("matching_heuristics")))
    except ValueError as error:
        yield finding("weights-architecture", str(error), [Case(path)])
        return
    if report.complete:
        return
    cases = [
        Case(path, text=f"{s.name}: {s.in_file} in the file, {s.in_model} in the model")
        for s in report.incorrect_shapes
    ]
    cases += [Case(path, text=f"{name}: not in the file") for name in report.missing_keys]
    total = len(report.loaded) + len(cases)
    why = "as expected: other classes, or a backbone's weights" if report.expected else ""
    text = f"{{n}} of {total} tensors are not in the weights and start from random values"
    if cases:
        yield finding(
            "weights-partial",
            f"{text} ({why})" if why else text,
            cases,
            severity="" if report.expected else WARNING,
            repair="" if report.expected else "use the config that the weights were trained with",
        )


def _description(material: Material, found: Description) -> Iterator[Finding]:
    cfg, train = material.cfg, material.train
    if cfg is None:
        return
    pixels = found.pixels
    if pixels:
        expected = (pixels.get("format"), pixels.get("mean"), pixels.get("std"))
        yield from _pixels(cfg, *expected)
    classes = list(found.classes)
    known = train is not None and classes and not cfg.MODEL.CLASS_MAP
    if known and train is not None and len(classes) == len(train.classes):
        differ = [
            (k, a, b) for k, (a, b) in enumerate(zip(classes, train.classes, strict=True)) if a != b
        ]
        if differ:
            cases = [
                Case(
                    cfg.MODEL.WEIGHTS, text=f"class {k} is {a!r} in the weights, {b!r} in the data"
                )
                for k, a, b in differ
            ]
            text = "{n} classes stand for something else in the weights than in the data"
            yield finding("weights-classes", text, cases)


def _foreign_pixels(cfg: CfgNode, weights: dict[str, Any]) -> Iterator[Finding]:
    """Compare with what torchvision's weights expect; detectron2's are what the defaults say."""
    tensors = {k: torch.as_tensor(v) for k, v in weights.items()}
    origin = rename_weights(tensors).format
    if "torchvision" in origin or cfg.MODEL.WEIGHTS.startswith("torchvision://"):
        yield from _pixels(cfg, *_TORCHVISION)


def _pixels(cfg: CfgNode, order: Any, mean: Any, std: Any) -> Iterator[Finding]:
    """Yield a finding if the weights expect other pixels; channels are compared in their order."""
    ours = (cfg.INPUT.FORMAT, list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD))
    differ = []
    if order and order != ours[0]:
        differ.append(f"INPUT.FORMAT {order}, not {ours[0]}")
    if mean and (
        len(mean) != len(ours[1])
        or any(abs(a - b) > _SAME_MEAN for a, b in zip(mean, ours[1], strict=True))
    ):
        differ.append(f"MODEL.PIXEL_MEAN {_shown(mean)}, not {_shown(ours[1])}")
    if std and (
        len(std) != len(ours[2])
        or any(abs(a / max(b, 1e-9) - 1) > _SAME_STD for a, b in zip(std, ours[2], strict=True))
    ):
        differ.append(f"MODEL.PIXEL_STD {_shown(std)}, not {_shown(ours[2])}")
    if differ:
        yield finding(
            "weights-pixels",
            f"the weights expect {'; '.join(differ)}",
            [Case(cfg.MODEL.WEIGHTS, text=text) for text in differ],
            count=1,
        )


def _shown(values: Any) -> str:
    return "[" + ", ".join(f"{float(v):.4g}" for v in values) + "]"
