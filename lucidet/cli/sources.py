"""Find the images and videos that a command line names."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
# formats that a picture is written in again; the others become PNG
WRITTEN_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Source:
    """One image or video, and the file its picture or video goes to."""

    path: Path
    target: Path
    is_video: bool


def find_sources(inputs: Iterable[str], out: str | Path) -> tuple[list[Source], list[str]]:
    """Return what to read, in order, and a sentence for each input that is not there.

    A folder gives its images and videos, sorted by name, sub-folders included. Targets keep the
    path inside that folder; where two inputs share a target, the later gets a number.

    Raises:
        ValueError: a target is one of the inputs: it would be overwritten.
    """
    sources: list[Source] = []
    problems: list[str] = []
    taken: set[Path] = set()
    for word in inputs:
        found = list(_files(word))
        if not found:
            problems.append(_absent(word))
        for path, inside in found:
            is_video = path.suffix.lower() in VIDEO_SUFFIXES
            target = _free(Path(out) / _written_name(inside, is_video), taken)
            if target.resolve() == path.resolve():
                raise ValueError(f"{target} would be overwritten; choose another --out folder")
            taken.add(target)
            sources.append(Source(path, target, is_video))
    return sources, problems


def _files(word: str) -> Iterator[tuple[Path, Path]]:
    """Yield each file of an input with its path inside the input's folder."""
    path = Path(word).expanduser()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and file.is_file():
                yield file, file.relative_to(path)
    elif path.exists():
        yield path, Path(path.name)
    else:
        for name in sorted(glob.glob(str(path))):  # a pattern in quotes
            yield Path(name), Path(Path(name).name)


def _absent(word: str) -> str:
    if Path(word).is_dir():
        return (
            f"{word}: no image or video in this folder (looked for {_listed(IMAGE_SUFFIXES)} ...)"
        )
    return f"{word}: no such file or folder"


def _listed(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))


def _written_name(inside: Path, is_video: bool) -> Path:
    if is_video:
        return inside.with_name(inside.name + ".mp4" if inside.suffix != ".mp4" else inside.name)
    if inside.suffix.lower() in WRITTEN_SUFFIXES:
        return inside
    return inside.with_name(inside.name + ".png")


def _free(target: Path, taken: set[Path]) -> Path:
    candidate, number = target, 2
    while candidate in taken:
        candidate = target.with_name(f"{target.stem}_{number}{target.suffix}")
        number += 1
    return candidate
