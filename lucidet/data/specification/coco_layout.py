"""COCO JSON: beside its images, above them, or one in each of train/, valid/ and test/."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lucidet._regular_file import open_regular
from lucidet.data.datasets.coco import coco_records
from lucidet.data.datasets.coco_json import read_coco
from lucidet.data.fields import id_order
from lucidet.data.specification.image_folder import ImageFolder
from lucidet.data.specification.layout import SPLIT_WORDS, TRAIN, VAL, WHOLE, Layout, split_word
from lucidet.data.specification.reading import Reading, Report, SpecificationError

ROBOFLOW = "_annotations.coco.json"
#: other tasks' files beside instances_*.json in COCO's own folder
_OTHER_TASKS = ("person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")
_PROBED = 50  # names that decide which folder holds the images


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file's head has the sections of COCO's layout."""
    with open_regular(path, "JSON") as file:
        head = file.read(1 << 16)
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        text = (head + file.read()).replace(b"\0", b"").decode("latin-1")
    return text.lstrip("\ufeffÿþï»¿ \r\n\t").startswith("{") and (
        ('"images"' in text and ('"annotations"' in text or '"categories"' in text))
        or ('"categories"' in text and '"annotations"' in text)
    )


def recognize(folder: Path, images: Path | None = None) -> Layout | None:
    """Return the layout of a folder that holds COCO files; None if it holds none.

    Raises:
        SpecificationError: several files, and nothing says which is for what.
    """
    exports = {
        SPLIT_WORDS[child.name.lower()]: child / ROBOFLOW
        for child in sorted(folder.iterdir())
        if child.name.lower() in SPLIT_WORDS and (child / ROBOFLOW).is_file()
    }
    if exports:
        splits = {s: partial(read, file, file.parent) for s, file in exports.items()}
        return Layout("coco", folder, f"folders with {ROBOFLOW} (Roboflow)", splits)
    if (folder / ROBOFLOW).is_file():
        return from_file(folder / ROBOFLOW, images)
    files = _candidates(folder)
    if not files:
        return None
    if len(files) == 1:
        found = from_file(files[0], images, folder)
        found.path = folder
        return found
    words = {file: split_word(file.stem) for file in files}
    if {TRAIN, VAL} <= set(words.values()):  # beside them, trainval.json says nothing new
        files = [file for file in files if "trainval" not in file.stem.lower()]
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_word(file.stem) or file.stem, []).append(file)
    doubled = [s for s, own in by_split.items() if len(own) > 1 or s not in SPLIT_WORDS.values()]
    if doubled:
        names = ", ".join(str(f.relative_to(folder)) for f in files[:8])
        raise SpecificationError(
            f"{folder}: {len(files)} COCO files ({names}), and their names do not say which is for "
            f"training and which for validation. Name one: coco:{files[0]}@IMAGES"
        )
    splits = {s: partial(read, own[0], images, folder) for s, own in by_split.items()}
    return Layout("coco", folder, "COCO JSON, one file for each split", splits, images)


def _candidates(folder: Path) -> list[Path]:
    """Return the COCO files of a folder: in it, or in ``annotations/`` below it."""
    places = [folder]
    places += [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name.lower() in _PLACES]
    files = [f for place in places for f in sorted(place.glob("*.json")) if looks_like_coco(f)]
    instances = [f for f in files if f.name.startswith("instances_")]
    return instances or [f for f in files if not f.name.startswith(_OTHER_TASKS)]


_PLACES = ("annotations", "annotation", "labels", "json")


def from_file(path: Path, images: Path | None = None, top: Path | None = None) -> Layout:
    """Return the layout of one COCO file.

    Args:
        path: the file.
        images: folder of its images; looked for without it.
        top: no folder above this one is looked into.
    """
    whole = partial(read, path, images, top, whole=True)
    return Layout("coco", path, "COCO JSON", {WHOLE: whole}, images)


def image_root(json_file: Path, names: Sequence[str], top: Path | None = None) -> Path:
    """Return the folder that most of a COCO file's image names are relative to.

    Args:
        json_file: the file.
        names: some of its images'.
        top: no folder above this one is looked into.

    Looked at: the file's own folder, the one above, and in each ``images``, the split's name
    (``train2017``), and both together.
    """
    bases = [json_file.parent]
    if top is None or json_file.parent != top:
        bases.append(json_file.parent.parent)
    split = split_word(json_file.stem)
    inside = ["", "images", "Images", "JPEGImages", "imgs", "img", "data"]
    tokens = [json_file.stem, json_file.stem.rpartition("_")[2], *(_folders_of(split))]
    inside += [t for token in tokens for t in (token, f"images/{token}")]
    candidates = list(dict.fromkeys(base / part for base in bases for part in inside))
    best, most = bases[0], 0
    for folder in candidates:
        if folder.is_dir():
            hits = sum((folder / name.replace("\\", "/")).is_file() for name in names)
            if hits > most:
                best, most = folder, hits
    if most == 0:  # names with lost folders, other suffixes: the image folder's index finds them
        below = [b / part for b in bases for part in inside[1:] if (b / part).is_dir()]
        best = next((f for f in (*below, *bases) if ImageFolder(f).files), bases[0])
    return best


def _folders_of(split: str | None) -> list[str]:
    return [word for word, meant in SPLIT_WORDS.items() if meant == split]


def read(
    json_file: Path, images: Path | None = None, top: Path | None = None, whole: bool = False
) -> Reading:
    """Read a COCO file, and match its image names with the files in the folder of its images.

    Args:
        json_file: the file.
        images: folder of its images; looked for without it, see `image_root`.
        top: no folder above this one is looked into.
        whole: the file is all there is: images that it does not name are counted.
    """
    content = read_coco(json_file)
    names = [str(entry["file_name"]) for entry in content["images"][:_PROBED]]
    folder = ImageFolder(images or image_root(json_file, names, top))
    report = Report(str(json_file))
    report.boxes.form = "XYWH"
    categories = sorted(content["categories"], key=lambda entry: id_order(entry["id"]))
    categories = _without_supercategory(categories, content["annotations"], report)
    classes = [str(entry["name"]).strip() for entry in categories]
    id_map = {entry["id"]: k for k, entry in enumerate(categories)}
    found = _found_images(content["images"], folder, report)
    if not found and content["images"]:
        raise SpecificationError(
            f"{json_file}: none of its {len(content['images'])} images is in {folder.root}, for "
            f"example {content['images'][0]['file_name']!r}. Name the folder: "
            f"coco:{json_file}@IMAGES"
        )
    if whole:
        _note_unlisted(folder, found, json_file, report)
    known = {entry["id"] for entry in found}
    kept = [entry for entry in content["annotations"] if entry["image_id"] in known]
    usable = {**content, "images": found, "annotations": kept}
    records = coco_records(usable, "", id_map, report.boxes, ("difficult",))
    report.finish()
    difficult = any(a.get("difficult") for record in records for a in record["annotations"])
    as_on_disk = (
        not difficult
        and len(found) == len(content["images"])
        and len(classes) == len(content["categories"])
    )
    return Reading(classes, records, True, report, id_map, json_file if as_on_disk else None)


def _note_unlisted(
    folder: ImageFolder, found: list[dict[str, Any]], json_file: Path, report: Report
) -> None:
    used = {entry["file_name"] for entry in found}
    others = [file for file in folder.files if str(folder.root / file) not in used]
    if others:
        report.note(
            f"{len(others)} images in {folder.root} are not in {json_file.name}, for example "
            f"{others[0]}"
        )


def _found_images(
    images: list[dict[str, Any]], folder: ImageFolder, report: Report
) -> list[dict[str, Any]]:
    """Return the images that are there, with their path as name, and with a size."""
    kept = []
    names: dict[Path, str] = {}
    for entry in images:
        name = str(entry["file_name"])
        path = folder.find(name)
        if path is not None and names.setdefault(path, name) != name:
            where = f"image {entry['id']}: {name}, as {names[path]}"
            report.drop(f"names lead to one image file in {folder.root} and are left out", where)
            continue
        if path is None:
            report.drop(folder.reason_missing(name), f"image {entry['id']}: {name}")
            continue
        found = {**entry, "file_name": str(path)}
        if not {"width", "height"} <= found.keys():
            size = folder.size(path, report)
            if size is None:
                continue
            found["width"], found["height"] = size
        kept.append(found)
    return kept


def _without_supercategory(
    categories: list[dict[str, Any]], annotations: list[dict[str, Any]], report: Report
) -> list[dict[str, Any]]:
    """Leave out the category that Roboflow adds: the project's name, parent of all, no boxes."""
    for entry in categories:
        others = [c for c in categories if c is not entry]
        is_parent = bool(others) and all(c.get("supercategory") == entry["name"] for c in others)
        if is_parent and not any(a["category_id"] == entry["id"] for a in annotations):
            report.note(
                f"category {entry['id']} {entry['name']!r} only groups the others (Roboflow) and "
                "is no class"
            )
            return others
    return categories
