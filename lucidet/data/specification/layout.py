"""What a recognized folder or file is: a kind, and its splits, each of which can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lucidet.data.specification.reading import Reading

TRAIN, VAL, TEST = "train", "val", "test"
WHOLE = ""  # the split of data that are not divided
ALL = "all"  # every image of every split

#: folder, list and file names -> split
SPLIT_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}


def split_word(text: str) -> str | None:
    """Return the split that a folder's or file's name means, None if it means none.

    >>> split_word("valid"), split_word("instances_train2017"), split_word("trains.csv")
    ('val', 'train', None)
    """
    for part in _parts(text):
        if part in SPLIT_WORDS:
            return SPLIT_WORDS[part]
    return None


def _parts(text: str) -> list[str]:
    """Return the words of a name, last first, without digits at their ends."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return [word.rstrip("0123456789") for word in reversed(words)]


@dataclass
class Layout:
    """A recognized dataset.

    Attributes:
        kind: ``coco``, ``voc``, ``yolo``, ``cvat`` or ``csv``: the prefix of its explicit form.
        path: the folder or file that stands in the explicit form.
        described: the layout in words.
        splits: split -> function that reads it; the one key "" if the data are not divided.
        images: the folder of an explicit ``@FOLDER``.
        hidden: names of further splits that can be asked for, such as VOC's ``trainval``.
        notes: what was decided on the way.
    """

    kind: str
    path: Path
    described: str
    splits: Mapping[str, Callable[[], Reading]]
    images: Path | None = None
    hidden: Mapping[str, Callable[[], Reading]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
