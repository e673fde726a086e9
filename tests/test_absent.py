"""Names of detectron2 that lucidet has no use for: one table, and every row is used once."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from lucidet._absent import GROUPS, absent

PACKAGE = Path(__file__).resolve().parents[1] / "lucidet"
NAMES = [name for group in GROUPS for name in group.names]


def test_the_table_and_the_modules_agree() -> None:
    used = Counter(
        ast.literal_eval(node.args[0])
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "absent"
    )
    assert used == Counter(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_using_one_says_what_it_is_for(name: str) -> None:
    stand_in = absent(name)
    sub_class = type("Mine", (stand_in,), {})  # user code may subclass it
    assert not isinstance(3, stand_in)
    with pytest.raises(NotImplementedError, match=f"{name} is for .*detects boxes"):
        sub_class(1, key=2)
    with pytest.raises(AttributeError, match=f"no 'from_files': {name} is for"):
        stand_in.from_files([])
