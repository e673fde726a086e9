"""The text of a specification: ``[KIND:]PATH[@IMAGES][:SPLIT]``, several joined by commas."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lucidet.data.specification.reading import SpecificationError
from lucidet.data.text_files import name_forms
from lucidet.utils.registry import nearest_names

KINDS = ("coco", "voc", "yolo", "cvat", "csv")
FORMS = (
    "FOLDER or FILE, FOLDER:SPLIT, coco:FILE.json@IMAGES, voc:FOLDER:SPLIT, yolo:data.yaml:SPLIT, "
    "cvat:annotations.xml@IMAGES, csv:FILE.csv@IMAGES"
)


@dataclass(frozen=True)
class Item:
    """One source of a specification.

    Attributes:
        path: absolute; a registered dataset's name has none.
        kind: one of `KINDS`; "" is recognized from the files.
        images: absolute folder of the images; None is looked for.
        split: "" stands for what is asked: training or validation.
        name: of a registered dataset, instead of a path.
    """

    path: Path | None
    kind: str = ""
    images: Path | None = None
    split: str = ""
    name: str = ""

    @property
    def source(self) -> Item:
        """The same without the split."""
        return replace(self, split="")

    @property
    def text(self) -> str:
        """The explicit form, the same wherever it is read."""
        if self.path is None:
            return self.name
        kind = f"{self.kind}:" if self.kind else ""
        images = f"@{self.images}" if self.images else ""
        return f"{kind}{self.path}{images}{f':{self.split}' if self.split else ''}"


def parse(
    spec: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], registered: Sequence[str] = ()
) -> list[Item]:
    """Return the sources that a specification names.

    Args:
        spec: one text, whose parts commas join, or a list of such texts.
        registered: names of datasets, which come before files.

    Raises:
        SpecificationError: a part is neither a name nor a file or folder.
    """
    if isinstance(spec, (str, os.PathLike)):
        return _parse_text(os.fspath(spec), registered)
    items = [item for text in spec for item in _parse_text(os.fspath(text), registered)]
    if not items:
        raise SpecificationError(f"no dataset named; a specification is {FORMS}")
    return items


def _parse_text(text: str, registered: Sequence[str]) -> list[Item]:
    with contextlib.suppress(SpecificationError):
        whole = _parse_item(text, registered)
        if whole is not None:
            return [whole]
    items = []
    parts = text.split(",")
    while parts:
        item, used = _first_item(parts, registered)
        if item is None:
            raise SpecificationError(_not_found(parts[0].strip() or text, registered))
        items.append(item)
        del parts[:used]
    return items


def _first_item(parts: Sequence[str], registered: Sequence[str]) -> tuple[Item | None, int]:
    """Return the source that the first parts name, and their number: a path may have commas."""
    problem: SpecificationError | None = None
    for used in range(1, len(parts) + 1):
        text = ",".join(parts[:used])
        try:
            item = _parse_item(text, registered) if text.strip() else None
        except SpecificationError as error:  # half of a folder's name may be left
            problem = problem or error
            continue
        if item is not None:
            return item, used
    if problem is not None:
        raise problem
    return None, 0


def _parse_item(text: str, registered: Sequence[str]) -> Item | None:
    """Return the source of a text without commas between sources; None if nothing is there."""
    text = text.strip()
    if text in registered:
        return Item(None, name=text)
    lacking: tuple[str, Path] | None = None
    for kind, rest in _with_kind(text):
        for path_text, split in _with_split(rest):
            path = existing(path_text)
            if path is not None:
                return Item(path, kind, None, split)
            before, at, after = path_text.rpartition("@")
            path = existing(before) if at else None
            if path is not None:
                images = existing(after) or existing(os.path.join(_folder_of(path), after))
                if images is not None and images.is_dir():
                    return Item(path, kind, images, split)
                lacking = lacking or (after, path)
    if lacking:
        raise SpecificationError(
            f"{text}: the image folder {lacking[0]!r} does not exist, neither here nor beside "
            f"{lacking[1]}"
        )
    return None


def _folder_of(path: Path) -> str:
    return str(path if path.is_dir() else path.parent)


def _with_kind(text: str) -> list[tuple[str, str]]:
    kind, colon, rest = text.partition(":")
    if colon and kind.lower() in KINDS and rest:
        return [(kind.lower(), rest), ("", text)]
    return [("", text)]


def _with_split(text: str) -> list[tuple[str, str]]:
    """Return the text as a path alone, and as a path with a split behind its last colon."""
    before, colon, split = text.rpartition(":")
    if not colon or len(before) < 2 or not re.fullmatch(r"[\w.+-]+", split):
        return [(text, "")]
    return [(text, ""), (before, split)]


def existing(text: str) -> Path | None:
    """Return the absolute path of a file or folder, whatever way it is written; None if absent."""
    if not text.strip():
        return None
    for form in name_forms(text.strip()):
        path = Path(os.path.abspath(os.path.expanduser(form)))
        try:
            if path.exists():
                return path
        except OSError:  # a name too long for a path
            return None
    return None


def _not_found(text: str, registered: Sequence[str]) -> str:
    near = nearest_names(text, registered)
    if near:
        return (
            f"{text!r} is no registered dataset, file or folder; did you mean {near[0]!r}? "
            f"Registered: {', '.join(sorted(registered))}"
        )
    kind, colon, rest = text.partition(":")
    path = os.path.expanduser(rest if colon and kind.lower() in KINDS else text)
    folder = Path(os.path.abspath(path)).parent
    hint = ""
    if folder.is_dir():
        inside = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        hint = f"; {folder} holds {', '.join(inside[:8]) or 'nothing'}"
        hint += " ..." if len(inside) > 8 else ""
    return f"{text!r} is no registered dataset, file or folder{hint}. A specification is {FORMS}"
