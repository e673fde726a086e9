"""Splits that do not fit each other: classes, their order, and files in both."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.material import Material, Split

__all__ = ["check_splits"]


def check_splits(material: Material) -> list[Finding]:
    """Return findings about the splits together."""
    train = material.train
    findings = [*_alike(material.splits)]
    if train is None:
        return findings
    if not len(train.boxes.xyxy) or train.boxes.crowd.all():
        text = f"{train.role}: none of {len(train.records):,} images has a box"
        findings.append(finding("no-boxes", text, [Case(train.name, train.role)]))
    for other in material.held_out:
        findings += [*_order(train, other), *_not_trained(train, other), *_shared(train, other)]
    return findings


def _alike(splits: list[Split]) -> list[Finding]:
    groups: dict[str, set[str]] = defaultdict(set)
    for name in {name for split in splits for name in split.classes}:
        groups["".join(c for c in name.casefold() if c.isalnum())].add(name)
    alike = [sorted(own) for form, own in groups.items() if len(own) > 1 and form]
    if not alike:
        return []
    cases = [Case(splits[0].name, text=" and ".join(map(repr, own))) for own in alike]
    return [finding("class-names-alike", "{n} groups of class names are nearly equal", cases)]


def _order(train: Split, other: Split) -> list[Finding]:
    """Compare the ids that two annotation files give to the classes of the same name."""
    ours, theirs = train.category_ids, other.category_ids
    if train.json_file == other.json_file:
        return []
    differ = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if not differ:
        return []
    cases = [
        Case(
            str(other.json_file),
            other.role,
            text=f"{name!r} is {ours[name]} in {train.role} and {theirs[name]} in {other.role}",
        )
        for name in differ
    ]
    text = f"{{n}} classes have other ids in {other.role} than in {train.role}"
    return [finding("category-order", text, cases)]


def _not_trained(train: Split, other: Split) -> list[Finding]:
    counts = dict(zip(train.classes, train.per_class.tolist(), strict=True))
    lacking = [
        (name, int(count))
        for name, count in zip(other.classes, other.per_class, strict=True)
        if count and not counts.get(name)
    ]
    if not lacking or not np.any(train.per_class):
        return []
    cases = [Case(other.name, other.role, text=f"{name}: {count} boxes") for name, count in lacking]
    text = f"{other.role}: {{n}} classes have boxes here and none in {train.role}"
    return [finding("class-not-trained", text, cases)]


def _shared(train: Split, other: Split) -> list[Finding]:
    files = {str(record["file_name"]) for record in train.records}
    cases = [
        other.case(position)
        for position, record in enumerate(other.records)
        if str(record["file_name"]) in files
    ]
    if not cases:
        return []
    text = f"{{n}} of {len(other.records):,} images of {other.role} are trained on too"
    return [finding("leak-file", text, cases)]
