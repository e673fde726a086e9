"""How far a reader walks through a training forward: files, functions, and lines of these.

`python -m tests.walk` prints the walks, and says what counts. The numbers here are ceilings that
only ever go down: after a change that shortens a walk, write the new numbers in.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests import walk
from tests.walk import training_walk, walk_of


class Counts(NamedTuple):
    """Numbers of a walk."""

    files: int
    functions: int
    lines: int


#: where it should get to; detectron2's Faster R-CNN: 24 / 91 / 2103, its RetinaNet: 14 / 50 / 928
AIMS = {
    "Faster R-CNN FPN": Counts(22, 85, 1450),
    "RetinaNet": Counts(15, 55, 800),
    "ATSS": Counts(15, 55, 800),
    "FCOS": Counts(15, 55, 800),
}
CEILINGS = {
    "Faster R-CNN FPN": Counts(29, 106, 1853),
    "RetinaNet": Counts(21, 68, 972),
    "ATSS": Counts(21, 73, 955),
    "FCOS": Counts(21, 69, 902),
}


@pytest.mark.parametrize("name", CEILINGS)
def test_the_walk_does_not_grow(name: str) -> None:
    found = Counts(*training_walk(name).counts)
    ceiling = CEILINGS[name]
    assert all(a <= b for a, b in zip(found, ceiling, strict=True)), (
        f"{name}: {found} is above {ceiling} (the aim is {AIMS[name]}); "
        f"`python -m tests.walk {name.split()[0]}` shows which functions a reader passes"
    )


CODE = '''\
import functools


def outer(values):
    """Two lines of text

    count too."""

    def inner(x):
        return [y + 1 for y in x]

    return inner(values), (lambda: Tower().height)()


def never():
    return 0


class Tower:
    @property
    @functools.cache
    def height(self):
        return sum(i for i in range(3))
'''


def test_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested functions belong to the outer one; decorators and text to their function."""
    monkeypatch.setattr(walk, "PACKAGE", tmp_path)
    file = tmp_path / "part.py"
    file.write_text(CODE)
    space: dict[str, object] = {}
    exec(compile(CODE, str(file), "exec"), space)
    found = walk_of(lambda: [space["outer"]([1, 2]) for _ in range(3)])  # type: ignore[operator]
    assert [(f.name, f.first, f.lines) for f in found.functions] == [
        ("outer", 4, 9),
        ("Tower.height", 20, 4),
    ]
    assert found.counts == (1, 2, 13)


def test_nothing_of_the_package_is_no_walk() -> None:
    assert walk_of(lambda: sorted([2, 1])).counts == (0, 0, 0)
