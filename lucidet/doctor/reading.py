"""Read the splits of a specification or config; what cannot be read becomes a finding."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.record_fields import check_records
from lucidet.data.specification import coco_layout, connect, dataset_names, every_split, resolve
from lucidet.data.specification.datasets import union
from lucidet.data.specification.layout import split_word
from lucidet.data.specification.parse import Item, parse
from lucidet.data.specification.reading import Reading, Report
from lucidet.data.specification.recognize import layout_of
from lucidet.data.specification.register import described
from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.material import Split
from lucidet.doctor.structure import repaired_content

__all__ = ["read_datasets", "read_specification"]

#: what reading raises for files that are not as they should be
REFUSED = (ValueError, OSError, KeyError)
#: begin of a reason in a reader's report -> code
_REASONS = {
    "boxes not": "box-invalid",
    "boxes without area": "box-degenerate",
    "boxes outside the image": "box-outside",
    "boxes reach": "box-over-border",
    "image files can't be read": "image-unreadable",
    "images are": "image-missing",
    "names lead to one image file": "image-missing",
}
_ANNOTATION = re.compile(r"annotation (\S+) of image ([^:]+): (.*)", re.DOTALL)


def read_specification(
    texts: Sequence[str], held_out: Sequence[str] = ()
) -> tuple[list[Split], list[Finding]]:
    """Return every split of a specification; a file that is refused is read in a repaired copy.

    Args:
        texts: the specification.
        held_out: another one for validation; `texts` are then for training only.
    """
    try:
        if held_out:
            names = [resolve(list(texts), splits=("train",))["train"]]
            classes = list(MetadataCatalog.get(names[0]).thing_classes)
            names += resolve(list(held_out), splits=("val",), classes=classes).values()
        else:
            names = every_split(list(texts))
    except REFUSED as error:
        known = DatasetCatalog.list()
        with suppress(*REFUSED):
            items = [(item, "") for item in parse(list(texts), known)]
            items += [(item, "val") for item in parse(list(held_out), known)] if held_out else []
            return _piece_by_piece(items, error)
        return [], [_unreadable(error, "", "")]
    splits, findings = [], []
    for number, name in enumerate(names):
        role = ("train", "val")[number > 0] if held_out else ""
        split, own = _of_registered(name, role)
        splits += split
        findings += own
    return splits, findings


def read_datasets(train: Sequence[str], test: Sequence[str]) -> tuple[list[Split], list[Finding]]:
    """Return the splits of ``DATASETS.TRAIN`` and ``DATASETS.TEST``: names or specifications.

    Names in both are read once.
    """
    splits: list[Split] = []
    findings: list[Finding] = []
    try:
        connect(train, test)
        names = [(n, "train") for n in dataset_names(train, "train")]
        names += [(n, "val") for n in dataset_names(test, "val")]
    except REFUSED as error:
        known = DatasetCatalog.list()
        items = [(item, "train") for text in train for item in _items(text, known)]
        items += [(item, "val") for text in test for item in _items(text, known)]
        return _piece_by_piece(items, error)
    for name, role in {pair[0]: pair for pair in reversed(names)}.values():
        own, problems = _of_registered(name, role)
        splits += own
        findings += problems
    splits.sort(key=lambda split: not split.role.startswith("train"))
    return splits, findings


def _items(text: str, known: Sequence[str]) -> list[Item]:
    with suppress(*REFUSED):
        return parse(text, known)
    return []


def _of_registered(name: str, role: str) -> tuple[list[Split], list[Finding]]:
    """Return a registered dataset, from a specification or not."""
    try:
        dataset = described(name)
    except KeyError:
        return _of_catalog(name, role)
    findings = _of_report(dataset.report, dataset.split)
    first = dataset.parts[0].reading if len(dataset.parts) == 1 else None
    split = Split(role or dataset.split or "train", name, list(dataset.classes), dataset.records())
    if first is not None and dataset.parts[0].layout and dataset.parts[0].layout.kind == "coco":
        split.json_file = _json_of(dataset.parts[0].item, first)
        split.category_ids = {first.classes[k]: i for i, k in (first.id_map or {}).items()}
    return [split], findings


def _json_of(item: Item, reading: Reading) -> Path | None:
    if reading.json_file is not None:
        return reading.json_file
    return item.path if item.path is not None and item.path.is_file() else None


def _of_catalog(name: str, role: str) -> tuple[list[Split], list[Finding]]:
    metadata = MetadataCatalog.get(name)
    json_file, root = metadata.get("json_file", None), metadata.get("image_root", None)
    if json_file and root and Path(json_file).is_file():
        split, findings = _of_coco_file(Path(json_file), Path(root), role or "train")
        return ([replace(split, name=name)] if split else []), findings
    try:
        records = DatasetCatalog.get(name)
        if isinstance(records, Dataset):
            return [], []  # a stream, or records that are made when they are asked for
        records = check_records(records, name)
    except REFUSED as error:
        return [], [_unreadable(error, role, name)]
    classes = list(MetadataCatalog.get(name).get("thing_classes", None) or ())
    used = 1 + max(
        (a["category_id"] for r in records for a in r.get("annotations", ())), default=-1
    )
    classes += [str(k) for k in range(len(classes), used)]
    return [Split(role or "train", name, classes, records)], []


def _unreadable(error: BaseException, role: str, name: str) -> Finding:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    code = "box-fractions" if "all" in text and "lie within 0..1" in text else "data-unreadable"
    code = "class-unknown" if "has boxes of" in text and "lacks" in text else code
    return finding(code, text, [Case(file=name, split=role)] if role else ())


def _piece_by_piece(
    items: Sequence[tuple[Item, str]], error: BaseException
) -> tuple[list[Split], list[Finding]]:
    """Return the splits of sources that together are refused, each read by itself."""
    splits: list[Split] = []
    findings: list[Finding] = []
    for item, role in items:
        if item.path is None:
            own, problems = _of_registered(item.name, role)
            splits += own
            findings += problems
            continue
        try:
            layout = layout_of(item.source)
        except REFUSED:
            continue  # `error` says what it is
        for name, reader in layout.splits.items():
            own_role = name or split_word(layout.path.stem) or role or "train"
            if item.split and name and split_word(item.split) != name:
                continue
            if layout.kind == "coco" and isinstance(reader, partial):
                file, images = reader.args[:2]
                split, problems = _of_coco_file(file, images, own_role)
            else:
                split, problems = _of_reader(reader, own_role, layout.path)
            splits += [split] if split else []
            findings += problems
    classes = union([split.classes for split in splits])
    splits = [_with_classes(split, classes) for split in splits]
    if not any(f.severity == "error" for f in findings):
        findings.append(_unreadable(error, "", ""))
    splits.sort(key=lambda split: not split.role.startswith("train"))
    return splits, findings


def _of_reader(reader: Any, role: str, path: Path) -> tuple[Split | None, list[Finding]]:
    try:
        reading: Reading = reader()
    except REFUSED as error:
        return None, [_unreadable(error, role, str(path))]
    split = Split(role, path.stem, list(reading.classes), reading.records)
    return split, _of_report(reading.report, role)


def _of_coco_file(path: Path, images: Path | None, role: str) -> tuple[Split | None, list[Finding]]:
    """Return the records of a COCO file; those of a repaired copy where it is refused."""
    findings: list[Finding] = []
    repaired = False
    try:
        try:
            reading = coco_layout.read(path, images)
        except REFUSED:
            content, findings = repaired_content(path)
            if not findings:
                raise
            names = [str(entry["file_name"]) for entry in content["images"][:200]]
            root = images or coco_layout.image_root(path, names)
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / path.name
                copy.write_text(json.dumps(content), encoding="utf-8")
                reading = coco_layout.read(copy, root)
            repaired = True
    except REFUSED as error:
        return None, [*findings, _unreadable(error, role, str(path))]
    split = Split(role, path.stem, list(reading.classes), reading.records, path, repaired=repaired)
    split.category_ids = {reading.classes[k]: i for i, k in (reading.id_map or {}).items()}
    findings = [_in_split(one, role) for one in findings]
    return split, [*findings, *_of_report(reading.report, role)]


def _in_split(one: Finding, role: str) -> Finding:
    return replace(one, cases=tuple(replace(case, split=role) for case in one.cases))


def _with_classes(split: Split, classes: list[str]) -> Split:
    """Return a split whose classes are numbered by another list."""
    order = [classes.index(name) for name in split.classes]
    records = [
        {
            **record,
            "annotations": [
                {**a, "category_id": order[a["category_id"]]} for a in record["annotations"]
            ],
        }
        for record in split.records
    ]
    return replace(split, classes=classes, records=records)


def _of_report(report: Report, role: str) -> list[Finding]:
    """Return what a reader left out or changed."""
    findings = []
    for reason, places in [*report.dropped.items(), *report.mended.items()]:
        known = next((c for start, c in _REASONS.items() if reason.startswith(start)), "")
        code = known or "data-changed"
        cases = [_case_of(place, role, str(report.source)) for place in places]
        findings.append(finding(code, f"{role}: {reason}: {{n}}", cases))
    return findings


def _case_of(place: str, role: str, source: str) -> Case:
    match = _ANNOTATION.match(place)
    if match is None:
        return Case(file=source, split=role, text=place)
    annotation, image, text = match.groups()
    return Case(source, role, _number(image), _number(annotation), text=text)


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text
