"""Image files: are they there, whole, of the size that the annotations say, and worth a look."""

# N images

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lucidet._regular_file import open_regular
from lucidet.data.image_io import image_orientation, image_size, read_image
from lucidet.doctor.appearance import Appearance, appearance_of
from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.material import Split

__all__ = ["Picture", "check_heads", "check_pictures", "cores", "look_at"]

#: quick: heads of at most this many files are read, spread over the split
MOST_HEADS = 5000
#: what a whole file ends with, looked for in its last bytes
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
_TAIL = 64 << 10


@dataclass(frozen=True)
class Picture:
    """What one decoding of an image showed.

    Attributes:
        problem: why it cannot be decoded; "" if it was.
        size: (width, height), upright; (0, 0) where it cannot be decoded.
        orientation: EXIF's, 1 is upright.
        seen: brightness, blur and the like, and what duplicates are found by.
    """

    problem: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    seen: Appearance | None = None


def look_at(
    split: Split, advance: Callable[[], None] | None = None, threads: int = 0
) -> list[Picture]:
    """Decode every image of a split once, in several threads; return what was seen, in order.

    Args:
        split: with N records.
        advance: called after each image.
        threads: default: a thread for each core.
    """
    names = [str(record["file_name"]) for record in split.records]
    with ThreadPoolExecutor(threads or max(1, len(cores()))) as pool:
        pictures = []
        for picture in pool.map(_look, names):
            pictures.append(picture)
            if advance is not None:
                advance()
    return pictures


def cores() -> Sequence[int]:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return list(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def _look(name: str) -> Picture:
    try:
        pixels = read_image(name, format="RGB")
    except (OSError, ValueError) as error:
        return Picture(problem=_short(error, name))
    height, width = pixels.shape[:2]
    return Picture(
        size=(width, height),
        orientation=image_orientation(name),
        seen=appearance_of(Image.fromarray(np.ascontiguousarray(pixels))),
    )


def _short(error: Exception, name: str) -> str:
    return str(error).removeprefix(f"image file {name} ")


def check_pictures(split: Split, pictures: Sequence[Picture]) -> list[Finding]:
    """Return findings about the images that were decoded."""
    findings = [*_of_files(split, ((n, p.problem, p.size) for n, p in enumerate(pictures)))]
    turned = [
        split.case(n, f"EXIF orientation {p.orientation}")
        for n, p in enumerate(pictures)
        if p.orientation != 1
    ]
    if turned:
        text = f"{split.role}: {{n}} images are stored turned or mirrored, and marked so in EXIF"
        findings.append(finding("image-turned", text, turned))
    kinds = {
        "image-dark": ("dark", "99 % of the pixels are darker than 0.32"),
        "image-bright": ("bright", "95 % of the pixels are brighter than 0.95"),
        "image-blurred": ("blurred", "their edges score less than 0.29"),
        "image-low-information": ("uniform", "their entropy scores less than 0.3"),
    }
    for code, (name, meaning) in kinds.items():
        cases = [
            split.case(n, f"score {getattr(p.seen.scores, name):.3f}")
            for n, p in enumerate(pictures)
            if p.seen is not None and name in p.seen.odd
        ]
        if cases:
            text = f"{split.role}: {{n}} images are {name}: {meaning} (cleanvision's threshold)"
            findings.append(finding(code, text, cases))
    return findings


def _of_files(split: Split, seen: Iterable[tuple[int, str, tuple[int, int]]]) -> Iterator[Finding]:
    """Yield findings about files: position, problem and size of each."""
    missing: list[Case] = []
    broken: list[Case] = []
    wrong: list[Case] = []
    for position, problem, (width, height) in seen:
        name = str(split.records[position]["file_name"])
        said = tuple(split.sizes[position].astype(int).tolist())
        if problem:
            there = os.path.exists(name)
            (broken if there else missing).append(split.case(position, problem))
        elif min(said) > 0 and said != (width, height):
            turned = ", each other's transpose" if said == (height, width) else ""
            text = f"the file is {width} x {height}, annotations say {said[0]} x {said[1]}{turned}"
            wrong.append(split.case(position, text))
    for code, cases, message in (
        ("image-missing", missing, "{n} image files are not there"),
        ("image-unreadable", broken, "{n} image files cannot be decoded"),
        ("image-size", wrong, "{n} images have another size than their annotations say"),
    ):
        if cases:
            yield finding(code, f"{split.role}: {message}", cases)


def check_heads(split: Split) -> list[Finding]:
    """Return what the heads and ends of the files say, without decoding them.

    A file without the end that its format has is decoded: some of them are whole all the same.
    """

    def heads() -> Iterator[tuple[int, str, tuple[int, int]]]:
        step = max(1, -(-len(split.records) // MOST_HEADS))
        for position in range(0, len(split.records), step):
            name = str(split.records[position]["file_name"])
            size = None if "://" in name else image_size(name)
            if size is None or not _has_end(name):
                picture = _look(name)
                yield position, picture.problem, picture.size
            else:
                yield position, "", size

    return list(_of_files(split, heads()))


def _has_end(name: str) -> bool:
    with open_regular(name, "image") as file:
        end = _ENDS.get(file.read(2))
        if end is None:
            return True
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        return end in file.read(_TAIL)
