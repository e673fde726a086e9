"""All checks in order: the quick ones, and those that decode every image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from lucidet.doctor.boxes import check_boxes
from lucidet.doctor.duplicates import check_duplicates
from lucidet.doctor.findings import Finding, Report, merged
from lucidet.doctor.health import check_health
from lucidet.doctor.images import Picture, check_heads, check_pictures, look_at
from lucidet.doctor.material import Material
from lucidet.doctor.rules import WARNING
from lucidet.doctor.settings import check_settings, epochs_of
from lucidet.doctor.splits import check_splits
from lucidet.doctor.weights import check_weights
from lucidet.engine.recipe.recipe import memory_estimate

__all__ = ["Progress", "examine"]

#: what DATALOADER.ON_ERROR skip goes on with
_SKIPPED = ("image-missing", "image-unreadable", "image-size")

#: text and number of steps -> context in which a function counts the steps
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def examine(
    material: Material,
    found: list[Finding] | None = None,
    *,
    subject: str = "",
    quick: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Return what all checks find.

    Args:
        material: data, and config and weights where they are known.
        found: findings of reading the data.
        subject: what is looked at, for the report.
        quick: read the heads of image files only; no search for duplicates.
        progress: shows how far the decoding is.
    """
    findings = list(found or ())
    for split in material.splits:
        known = {one.code for one in found or () for case in one.cases if case.split == split.role}
        findings += check_health(split, known)
        findings += check_boxes(split, material.cfg)
    findings += [*check_splits(material), *check_settings(material)]
    findings += check_weights(material, download=not quick)
    if quick:
        for split in material.splits:
            findings += check_heads(split)
    else:
        pictures = _look(material, progress)
        for split, own in zip(material.splits, pictures, strict=True):
            findings += check_pictures(split, own)
        findings += check_duplicates(material.splits, pictures)
    findings = [_as_trained(one, material) for one in findings]
    return Report(subject, _facts(material), merged(findings), quick)


def _as_trained(one: Finding, material: Material) -> Finding:
    """Return a finding; images that a training is to skip are no error."""
    skips = material.cfg is not None and material.cfg.DATALOADER.ON_ERROR == "skip"
    return replace(one, severity=WARNING) if skips and one.code in _SKIPPED else one


def _look(material: Material, progress: Progress | None) -> list[list[Picture]]:
    if progress is None:
        return [look_at(split) for split in material.splits]
    total = sum(len(split.records) for split in material.splits)
    with progress("decode", total) as advance:
        return [look_at(split, advance) for split in material.splits]


def _facts(material: Material) -> list[tuple[str, str]]:
    facts = []
    for split in material.splits:
        boxes = len(split.boxes.xyxy)
        text = f"{len(split.records):,} images, {boxes:,} boxes, {len(split.classes)} classes"
        facts.append((split.role, text))
    cfg, train = material.cfg, material.train
    if cfg is None:
        return facts
    solver = cfg.SOLVER
    facts.append(("model", f"{cfg.MODEL.META_ARCHITECTURE}, weights {cfg.MODEL.WEIGHTS or 'none'}"))
    epochs = f", {epochs_of(cfg, len(train.records)):.3g} epochs" if train else ""
    facts.append(
        (
            "schedule",
            f"{solver.MAX_ITER:,} iterations of {solver.IMS_PER_BATCH} images{epochs}, rate "
            f"{solver.BASE_LR:g} ({solver.OPTIMIZER})",
        )
    )
    facts.append(("memory", f"about {memory_estimate(cfg) / 2**30:.1f} GiB a step"))
    return facts
