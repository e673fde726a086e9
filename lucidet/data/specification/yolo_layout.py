"""YOLO: a ``data.yaml`` and text files of labels in shares of the image's size."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lucidet.config import safe_yaml
from lucidet.data.specification.image_folder import ImageFolder
from lucidet.data.specification.layout import SPLIT_WORDS, WHOLE, Layout
from lucidet.data.specification.reading import (
    Reading,
    Report,
    SpecificationError,
    add_box,
    finished,
    new_record,
)
from lucidet.data.text_files import name_forms, read_lines, read_text

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = ("classes.txt", "obj.names", "data.names", "classes.names", "labels.txt")
_FAR_OUTSIDE = 0.5  # of the image's size: further out, the numbers are no shares of it


def recognize(folder: Path, images: Path | None = None) -> Layout | None:
    """Return the layout of a folder with YOLO labels; None if it has none."""
    named = [folder / name for name in _YAML if (folder / name).is_file()]
    found = named[:1] or [f for f in sorted(folder.glob("*.y*ml")) if _is_dataset(f)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise SpecificationError(f"{folder}: which of {names}? Name one: yolo:{found[0]}")
    if found and _is_dataset(found[0]):
        return from_file(found[0])
    return _without_yaml(folder, images)


def _is_dataset(path: Path) -> bool:
    try:
        content = safe_yaml.load(read_text(path), str(path)).values
    except ValueError:
        return path.name in _YAML
    return isinstance(content, dict) and ("names" in content or "nc" in content)


def from_file(path: Path) -> Layout:
    """Return the layout that a ``data.yaml`` describes.

    Raises:
        SpecificationError: no names, or no split whose images are there.
    """
    content = safe_yaml.load(read_text(path), str(path)).values
    if not isinstance(content, dict):
        raise SpecificationError(f"{path}: expected `names:`, `train:` and `val:` lines")
    names = _names(content, path)
    keypoints = content.get("kpt_shape") is not None
    splits: dict[str, Callable[[], Reading]] = {}
    missing = []
    for key, value in content.items():
        if key in SPLIT_WORDS and value:
            places = [_place(path, content, str(v)) for v in _listed(value)]
            if all(place.exists() for place in places):
                splits[SPLIT_WORDS[key]] = partial(read, names, places, keypoints)
            else:
                missing += [f"{key}: {p}" for p in places if not p.exists()]
    if not splits:
        fallback = _without_yaml(path.parent, None, names)
        if fallback is not None:
            fallback.path = path
            fallback.notes += [
                f"{path.name} names {entry}, which is not there: the images beside it are read"
                for entry in missing
            ]
            return fallback
        raise SpecificationError(
            f"{path}: none of its image folders is there ({', '.join(missing) or 'none named'}); "
            "set `path:` to the dataset's folder, and `train:` and `val:` relative to it"
        )
    layout = Layout("yolo", path, f"YOLO, {path.name}", splits)
    layout.notes += [f"{path.name} names {entry}, which is not there" for entry in missing]
    return layout


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _names(content: dict[str, Any], path: Path) -> list[str]:
    """Return the class names, from a list or from a dict of numbers 0..K-1."""
    names = content.get("names")
    if isinstance(names, dict):
        try:
            numbered = {int(k): str(v) for k, v in names.items()}
        except (TypeError, ValueError) as error:
            raise SpecificationError(f"{path}: the keys of `names` must be numbers") from error
        if sorted(numbered) != list(range(len(numbered))):
            raise SpecificationError(
                f"{path}: the keys of `names` must be 0..{len(numbered) - 1}, "
                f"got {sorted(numbered)}"
            )
        found = [numbered[k] for k in range(len(numbered))]
    elif isinstance(names, (list, tuple)):
        found = [str(name) for name in names]
    elif content.get("nc"):
        found = [str(k) for k in range(int(content["nc"]))]
    else:
        raise SpecificationError(f"{path}: `names` must be a list, or a dict of number: name")
    found = [name.strip() for name in found]
    if len(set(found)) < len(found):
        raise SpecificationError(f"{path}: a name stands twice in `names`: {found}")
    if content.get("nc") not in (None, len(found)):
        raise SpecificationError(f"{path}: nc is {content['nc']}, but `names` has {len(found)}")
    return found


def _place(path: Path, content: dict[str, Any], value: str) -> Path:
    """Return the folder or list that a split's value means.

    Relative to ``path:`` (itself relative to the file), else to the file; Roboflow writes
    ``../train/images`` for ``train/images`` beside the file.
    """
    roots = [path.parent]
    if content.get("path"):
        roots.insert(0, path.parent / str(content["path"]))
        roots.append(Path(str(content["path"])))
    forms = name_forms(value)
    forms += [form[3:] for form in forms if form.startswith("../")]
    candidates = [root / form for root in roots for form in forms]
    return next((c for c in candidates if c.exists()), candidates[0])


def _without_yaml(
    folder: Path, images: Path | None, names: list[str] | None = None
) -> Layout | None:
    """Return the layout of ``images/`` and ``labels/`` with a list of names, or of darknet's."""
    list_file = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if names is None and list_file is not None:
        names = list(dict.fromkeys(read_lines(list_file)))
    data = _darknet(folder, names)
    if data is not None:
        return data
    labels = folder / "labels"
    root = images or next((folder / n for n in ("images", "imgs") if (folder / n).is_dir()), None)
    if not labels.is_dir() or root is None or not next(labels.rglob("*.txt"), None):
        return None
    if names is None:
        raise SpecificationError(
            f"{folder} has images/ and labels/ as YOLO has, but no class names: add a data.yaml "
            "with `names: [...]`, or a classes.txt with one name on each line"
        )
    below = {
        SPLIT_WORDS[d.name.lower()]: d
        for d in sorted(root.iterdir())
        if d.is_dir() and d.name.lower() in SPLIT_WORDS
    }
    places = below or {WHOLE: root}
    splits = {s: partial(read, names, [place], False) for s, place in places.items()}
    return Layout("yolo", folder, "YOLO, images/ and labels/", splits, images)


def _darknet(folder: Path, names: list[str] | None) -> Layout | None:
    """Return the layout of ``obj.data`` (CVAT's YOLO 1.1 export): lists of images by split."""
    path = next((folder / n for n in ("obj.data", "data.data") if (folder / n).is_file()), None)
    if path is None or names is None:
        return None
    pairs = [line.partition("=") for line in read_lines(path)]
    values = {key.strip().lower(): value.strip() for key, _, value in pairs}
    splits: dict[str, Callable[[], Reading]] = {}
    for key, split in SPLIT_WORDS.items():
        forms = [values.get(key, ""), values.get(key, "").removeprefix("data/")]
        found = next((folder / f for f in forms if f and (folder / f).is_file()), None)
        if found is not None:
            splits[split] = partial(read, names, [found], False)
    if not splits:
        return None
    if list(splits) == ["train"]:  # CVAT puts everything there
        splits = {WHOLE: splits["train"]}
    return Layout("yolo", folder, "YOLO, darknet's lists (CVAT)", splits)


def read(names: Sequence[str], places: Sequence[Path], keypoints: bool) -> Reading:
    """Read the labels of all images in `places`: folders, or lists of images.

    An image without a label file, or with an empty one, is an image without objects.

    Args:
        names: of classes 0..K-1.
        places: folders of images, text files that list images, or patterns.
        keypoints: lines go on with keypoints after the box, not with a polygon.
    """
    report = Report(str(places[0]))
    records: list[dict[str, Any]] = []
    for place in places:
        index, images = _images(place, report)
        used = set()
        for image in images:
            label = _label_file(image)
            if label is None:
                report.note("images without a label file count as images without objects")
            else:
                used.add(label)
            record = _read_image(image, label, index, names, keypoints, report)
            if record is not None:
                records.append(record)
        if place.is_dir():
            for stray in sorted(_label_folder(place).rglob("*.txt")):
                if stray not in used and stray.name not in (*_NAMES, "train.txt", "val.txt"):
                    report.drop("label files have no image and are left out", str(stray))
    return finished(records, names, report)


def _images(place: Path, report: Report) -> tuple[ImageFolder, list[Path]]:
    if place.is_dir():
        index = ImageFolder(place)
        return index, [index.root / file for file in index.files]
    index = ImageFolder(place.parent)
    found = []
    for line in read_lines(place):
        image = index.find(line)
        if image is None:
            report.drop(index.reason_missing(line), f"{place.name}: {line}")
        else:
            found.append(image)
    return index, list(dict.fromkeys(found))


def _label_folder(images: Path) -> Path:
    """Return the folder of labels for a folder of images: ``labels`` for the last ``images``."""
    parts = list(images.parts)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i].lower() in ("images", "imgs", "jpegimages"):
            other = Path(*parts[:i], "labels", *parts[i + 1 :])
            return other if other.is_dir() else images
    return images


def _label_file(image: Path) -> Path | None:
    for folder in (_label_folder(image.parent), image.parent):
        path = folder / (os.path.splitext(image.name)[0] + ".txt")
        if path.is_file():
            return path
    return None


def _read_image(
    image: Path,
    label: Path | None,
    index: ImageFolder,
    names: Sequence[str],
    keypoints: bool,
    report: Report,
) -> dict[str, Any] | None:
    size = index.size(image, report)
    if size is None:
        return None
    record = new_record(image, index.label(image), size)
    for number, line in enumerate(read_lines(label) if label else (), 1):
        where = f"{label}, line {number}"
        _read_line(line, record, names, keypoints, report, where)
    return record


def _read_line(
    line: str,
    record: dict[str, Any],
    names: Sequence[str],
    keypoints: bool,
    report: Report,
    where: str,
) -> None:
    """Add ``class cx cy w h``, or the polygon ``class x1 y1 x2 y2 x3 y3 ...`` and its box."""
    try:
        number, *values = (float(word) for word in line.replace(",", " ").split())
    except ValueError:
        report.drop("label lines that are not numbers are left out", f"{where}: {line:.60}")
        return
    if len(values) < 4 or number != int(number):
        report.drop("label lines without class and box are left out", f"{where}: {line:.60}")
        return
    if not 0 <= number < len(names):
        raise SpecificationError(
            f"{where}: class {int(number)}, but there are {len(names)} names, counted from 0: "
            f"{list(names)}; add its name, or correct the label"
        )
    more = {}
    if keypoints or len(values) in (4, 5):
        cx, cy, w, h = values[:4]
        shares = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    else:
        xs, ys = values[: len(values) // 2 * 2 : 2], values[1::2]
        shares = [min(xs), min(ys), max(xs), max(ys)]
        sides = record["width"], record["height"]
        flat = [v * sides[i % 2] for i, v in enumerate(values[: len(values) // 2 * 2])]
        more["segmentation"] = [flat]
    if min(shares) < -_FAR_OUTSIDE or max(shares) > 1 + _FAR_OUTSIDE:
        report.drop(
            "label lines that are not shares of the image (0..1) are left out",
            f"{where}: {line:.60}",
        )
        return
    size = record["width"], record["height"]
    corners = [v * size[i % 2] for i, v in enumerate(shares)]
    add_box(record, names[int(number)], corners, report, where, **more)
