"""Single fields of annotations as exporters write them: null, empty, text, numpy values.

Each function returns what a value means, None where it says nothing (null, empty, NaN), and raises
a ValueError where it has no meaning. The caller adds file and id to the message.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = [
    "IdTable",
    "as_area",
    "as_box",
    "as_flag",
    "as_id",
    "as_number",
    "as_size",
    "id_order",
    "is_crowd",
    "shown",
]

_LARGEST = (1 << 63) - 1  # of whole numbers; evaluators keep ids in 64 bits
_TRUE, _FALSE = ("1", "1.0", "true"), ("0", "0.0", "false")


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: Any) -> str:
    """Return a value for a message: short, however long or deep it is.

    >>> shown([[[[[[[[1]]]]]]]]), len(shown("a" * 1000)) < 70
    ('[[[[[[[...]]]]]]]', True)
    """
    return _SHORT.repr(value)


def _is_absent(value: Any) -> bool:
    """Return whether a field says nothing: null, an empty text, NaN."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def as_number(value: Any) -> float | int | None:
    """Return a number that is written as a number or as text; None for anything else.

    >>> as_number("12.5"), as_number(np.int64(3)), as_number(True), as_number("wide")
    (12.5, 3, None, None)
    """
    if type(value) is float or (type(value) is int and -_LARGEST <= value <= _LARGEST):
        return value
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (float, np.number)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        try:
            whole = re.fullmatch(r"\s*[-+]?\d{1,18}\s*", value)
            return int(value) if whole else float(value)
        except ValueError:
            return None
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return as_number(value.item())
    return None


def as_box(value: Any) -> list[float | int] | None:
    """Return a box's numbers; None where it is not a list of numbers. NaN stays NaN.

    >>> as_box(["5", "5", "20", "20"]), as_box("[5, 5, 20.5, 20]"), as_box([]), as_box(None)
    ([5, 5, 20, 20], [5, 5, 20.5, 20], None, None)
    """
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip().strip("[]()").strip())
    elif hasattr(value, "tolist"):  # numpy, torch
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not value:
        return None
    numbers = [as_number(v) for v in value]
    return None if None in numbers else numbers  # type: ignore[return-value]


def as_flag(value: Any) -> int | None:
    """Return 0 or 1.

    >>> as_flag("0"), as_flag(False), as_flag(1.0), as_flag("true"), as_flag(None)
    (0, 0, 1, 1, None)
    """
    if _is_absent(value):
        return None
    text = str(value).strip().lower() if not isinstance(value, (list, dict)) else ""
    if text in _TRUE or text in _FALSE:
        return int(text in _TRUE)
    raise ValueError(f"must be 0 or 1, got {shown(value)}")


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation marks a crowd region, which is no object to find.

    >>> is_crowd({"iscrowd": None}), is_crowd({"iscrowd": "0"}), is_crowd({"iscrowd": True})
    (False, False, True)
    """
    value = annotation.get("iscrowd")
    if value is None or value is False or (type(value) is int and value == 0):
        return False
    try:
        return bool(as_flag(value))
    except ValueError as error:
        raise ValueError(f"annotation {annotation.get('id', '(no id)')}: iscrowd {error}") from None


def as_size(value: Any) -> int | None:
    """Return the width or height of an image in pixels; 0 and -1 mean "not known".

    >>> as_size("60"), as_size(60.0), as_size(-1), as_size(0), as_size(None)
    (60, 60, None, None, None)
    """
    if _is_absent(value):
        return None
    number = as_number(value)
    if number is None or not abs(number) <= _LARGEST or number != int(number):
        raise ValueError(f"must be a whole number of pixels, got {shown(value)}")
    return int(number) if number > 0 else None


def as_area(value: Any) -> float | int | None:
    """Return an area in square pixels; an area that is not positive says nothing.

    >>> as_area("400"), as_area(0), as_area(""), as_area(12.5)
    (400, None, None, 12.5)
    """
    if _is_absent(value):
        return None
    number = as_number(value)
    if number is None or not math.isfinite(number):
        raise ValueError(f"must be a number of square pixels, got {shown(value)}")
    return number if number > 0 else None


def as_id(value: Any) -> int | str:
    """Return an id: a whole number, or text.

    >>> as_id(np.int64(7)), as_id(7.0), as_id("0007")
    (7, 7, '0007')
    """
    if isinstance(value, str) and value.strip():
        return value
    number = None if isinstance(value, str) else as_number(value)
    if number is None or not abs(number) <= _LARGEST or number != int(number):
        raise ValueError(f"must be a number or text, got {shown(value)}")
    return int(number)


def id_order(value: int | str) -> tuple[bool, float, str]:
    """Return a key to sort ids of any kind by: numbers first, also those written as text.

    >>> sorted(["b", "10", 2, "a", "1"], key=id_order)
    ['1', 2, '10', 'a', 'b']
    """
    number = _whole(value)
    return number is None, 0 if number is None else number, str(value)


class IdTable:
    """Known ids, and the way to them from ids that are written in another form.

    ``"1"`` finds 1 and 1 finds ``"1"``, unless both are known. Leading zeros belong to an id:
    ``"0001"`` is found by 1 only where no other id has that number.

    >>> table = IdTable([0, 1, "a"])
    >>> table.find("0"), table.find(1), table.find("a"), table.find("7") is None
    (0, 1, 'a', True)
    """

    def __init__(self, ids: Iterable[int | str]) -> None:
        self._known = {i: i for i in ids}
        by_number: dict[int, set[int | str]] = {}
        for i in self._known:
            number = _whole(i)
            if number is not None:
                by_number.setdefault(number, set()).add(i)
        self._by_number = {n: found.pop() for n, found in by_number.items() if len(found) == 1}

    def find(self, value: Any) -> Any:
        """Return the known id that `value` stands for; None if there is none."""
        try:
            if value in self._known:
                return self._known[value]
        except TypeError:  # a list, say
            return None
        number = _whole(value)
        return None if number is None else self._by_number.get(number)

    @property
    def ids(self) -> list[int | str]:
        """The known ids."""
        return list(self._known)


def _whole(value: Any) -> int | None:
    """Return the whole number that an id is or spells; None for other ids."""
    number = as_number(value)
    if number is None or not abs(number) <= _LARGEST or number != int(number):
        return None
    return int(number)
