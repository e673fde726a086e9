"""A training and a validation part for data that are not divided, written down in a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucidet.data.specification.reading import Reading
from lucidet.utils.cache_folder import cache_folder

logger = logging.getLogger(__name__)

VAL_SHARE = 0.2
SEED = 0


def split_images(
    classes_of: Mapping[str, Sequence[int]],
    val_share: float = VAL_SHARE,
    seed: int = SEED,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Assign each image to "train" or "val", so that every class is divided as the images are.

    Iterative stratification (Sechidis et al. 2011): images of the rarest class first, each to the
    part that lacks most of that class. A class with a single image goes to training. Validation
    gets at least half of its share if there are images whose classes stay in training.

    Args:
        classes_of: image -> classes of its boxes, with repetitions.
        val_share: of the images.
        seed: of the order in which images are looked at.
        fixed: images that are assigned already and stay so.

    >>> split_images({"a": [0], "b": [0], "c": [1]}, 0.5)["c"]
    'train'
    """
    result = {image: part for image, part in (fixed or {}).items() if image in classes_of}
    images = sorted(classes_of)
    np.random.default_rng(seed).shuffle(images)
    shares = {"train": 1 - val_share, "val": val_share}
    kinds: dict[str, set[int | None]] = {i: {*own} or {None} for i, own in classes_of.items()}
    groups: dict[int | None, list[str]] = defaultdict(list)
    for image in images:
        for k in kinds[image]:
            groups[k].append(image)
    # what each part still lacks, in images with the class
    lacking = {
        part: {k: share * len(own) for k, own in groups.items()} for part, share in shares.items()
    }
    open_places = {part: share * len(images) for part, share in shares.items()}

    def assign(image: str, part: str) -> None:
        result[image] = part
        open_places[part] -= 1
        for k in kinds[image]:
            lacking[part][k] -= 1

    for image, part in list(result.items()):
        assign(image, part)
    rarest = sorted(groups, key=lambda k: (len(groups[k]), -1 if k is None else k))
    for k in rarest:
        for image in groups[k]:
            if image in result:
                continue
            train, val = ((lacking[p][k], open_places[p]) for p in ("train", "val"))
            needs_one = k is not None and not any(
                result.get(other) == "train" for other in groups[k]
            )
            assign(image, "train" if needs_one or train >= val else "val")
    _fill_validation(result, kinds, [i for i in images if i not in (fixed or {})], val_share)
    return result


def _fill_validation(
    result: dict[str, str],
    kinds: Mapping[str, set[int | None]],
    movable: Sequence[str],
    val_share: float,
) -> None:
    """Move images to validation where many rare classes left it less than half of its share.

    Only images whose classes all keep another image in training are moved.
    """
    parts = Counter(result.values())
    wanted = int(val_share * len(result))
    if 2 * parts["val"] >= wanted:
        return
    in_train = Counter(k for i, part in result.items() if part == "train" for k in kinds[i])
    for image in movable:
        if parts["val"] >= wanted:
            return
        if result[image] == "train" and all(in_train[k] > 1 for k in kinds[image]):
            result[image] = "val"
            parts["val"] += 1
            in_train.subtract(kinds[image])


def divided(reading: Reading, root: Path, label: str) -> tuple[dict[str, Reading], Path | None]:
    """Return a reading's training and validation part, and the file that holds the division.

    Images that the file lists keep their part; others (added since) are assigned now, and the file
    is written again.

    Args:
        reading: of all images.
        root: the folder or file that the data come from; with it the division is found again.
        label: readable beginning of the file's name.
    """
    records = list(reading.records)
    names = [_key(record, root) for record in records]
    classes_of = {
        name: [a["category_id"] for a in record["annotations"]]
        for name, record in zip(names, records, strict=True)
    }
    path = split_file(root, label)
    stored = _stored(path)
    parts = split_images(classes_of, fixed=stored)
    if len(parts) > 1 and set(parts.values()) == {"train"}:  # few images of one class
        parts[max(parts)] = "val"
    added = len(parts.keys() - stored.keys())
    if added:
        if stored:
            logger.info("%s: %d new images were assigned to train and val", path, added)
        _write(path, {**stored, **parts}, root)
    result = {}
    for part in ("train", "val"):
        kept = [r for n, r in zip(names, records, strict=True) if parts[n] == part]
        result[part] = Reading(
            reading.classes, kept, reading.declared, reading.report, reading.id_map
        )
    return result, path if path.is_file() else None


def split_file(root: Path, label: str) -> Path:
    """Return where the division of the data at `root` is kept."""
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:10]
    return cache_folder() / "splits" / f"{label}-{digest}.json"


def _key(record: dict[str, Any], root: Path) -> str:
    base = root if root.is_dir() else root.parent
    return os.path.relpath(record["file_name"], base).replace(os.sep, "/")


def _stored(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: part for part in ("train", "val") for name in content[part]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(path: Path, parts: Mapping[str, str], root: Path) -> None:
    content = {
        "of": str(root),
        "made": f"by image, stratified by class, {VAL_SHARE:.0%} val, seed {SEED}",
        **{part: sorted(n for n, p in parts.items() if p == part) for part in ("train", "val")},
    }
    counts = Counter(parts.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
        os.replace(file.name, path)
    except OSError as error:
        logger.warning("the division into train and val can't be written to %s: %s", path, error)
        return
    logger.info(
        "%s has no validation split: %d images for training and %d for validation, kept in %s",
        root,
        counts["train"],
        counts["val"],
        path,
    )
