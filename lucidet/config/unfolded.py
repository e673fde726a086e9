"""How large a value is when each shared part of it is written out where it is used."""

from __future__ import annotations

from typing import Any

__all__ = ["MAX_DEPTH", "check_unfolded"]

MAX_DEPTH = 50  # lists and sections inside each other; detectron2's configs have 5
_CHARACTERS = 100  # of a text that count as one value


def check_unfolded(value: Any, limit: int) -> None:
    """Bound the number of values that copying, printing and dumping `value` would visit.

    A list of ten names of a list of ten names ... is small in memory and endless on paper.

    Args:
        value: lists, tuples and dicts that do not contain themselves; a text counts by its length.
        limit: number of values.

    Raises:
        ValueError: it has more values, or is nested more deeply than :data:`MAX_DEPTH`.

    >>> shared = [0] * 10
    >>> check_unfolded([shared] * 10, limit=111)
    >>> check_unfolded([shared] * 11, limit=111)
    Traceback (most recent call last):
    ...
    ValueError: more than 111 values, when each is written out where it is used
    """
    _Unfolding(limit).size(value, 0)


class _Unfolding:
    """Sizes of parts, each computed once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[int, tuple[int, int]] = {}  # id -> size, depth

    def size(self, value: Any, depth: int) -> tuple[int, int]:
        """Return the number of values in `value`, and how deeply they are nested."""
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, str):
            return 1 + len(value) // _CHARACTERS, 0
        if not isinstance(value, (list, tuple, dict)):
            return 1, 0
        if id(value) not in self._known:
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            sizes = [self.size(part, depth + 1) for part in parts]
            total = 1 + sum(size for size, _ in sizes)
            self._known[id(value)] = total, 1 + max((below for _, below in sizes), default=0)
        total, below = self._known[id(value)]
        if total > self._limit:
            raise ValueError(
                f"more than {self._limit} values, when each is written out where it is used"
            )
        if depth + below > MAX_DEPTH:
            raise _too_deep()
        return total, below


def _too_deep() -> ValueError:
    return ValueError(f"nested too deeply: more than {MAX_DEPTH} lists or sections in each other")
