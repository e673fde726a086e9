"""Values of config keys: from text, into the type of the default, and back into YAML."""

from __future__ import annotations

import ast
from typing import Any

_LONGEST_LITERAL = 100_000  # characters; a longer text is a text
VALID_TYPES = (tuple, list, str, int, float, bool, type(None))


def decode(value: Any) -> Any:
    """Return a text that is a Python literal as that value, and everything else as it is.

    >>> decode("(600, 800)"), decode("1e-3"), decode("coco_2017_train"), decode(7)
    ((600, 800), 0.001, 'coco_2017_train', 7)
    """
    if not isinstance(value, str) or len(value) > _LONGEST_LITERAL:
        return value
    try:
        found = ast.literal_eval(value.strip(" \t"))
        str(found)  # fails for whole numbers of thousands of digits, which nothing could print
        return found
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value  # a plain word or path


def coerce(raw: Any, default: Any, key: str, where: str) -> Any:
    """Return what the text or value `raw` means for a key whose present value is `default`.

    Legal besides the same type: None either way, list <-> tuple, int -> float, and for a text
    key a text that looks like a number.

    Args:
        raw: as written in a file or on the command line.
        default: the present value of the key.
        key: dotted path, for the error.
        where: file and line, for the error.

    Raises:
        ValueError: another type; names the key, expected and got, and how to write it.

    >>> coerce("[640, 800]", (800,), "INPUT.MIN_SIZE_TRAIN", "command line")
    (640, 800)
    """
    value = decode(raw)
    if type(value) is type(default) or value is None or default is None:
        if default is None or value is None:
            _check_valid(value, key, where)
        return value
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return type(default)(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, str) and isinstance(raw, str):
        return raw
    raise ValueError(
        f"{where}: {key} must be a {type(default).__name__} such as {default!r}, "
        f"got the {type(value).__name__} {value!r}{_repair(value, default)}"
    )


def _check_valid(value: Any, key: str, where: str) -> None:
    if type(value) not in VALID_TYPES:
        names = ", ".join(kind.__name__ for kind in VALID_TYPES[:-1])
        raise ValueError(
            f"{where}: {key} cannot hold a {type(value).__name__}; a config holds {names} and None"
        )


def check_valid(value: Any, key: str) -> None:
    """Raise a ValueError unless a config can hold `value`."""
    _check_valid(value, key, "code")


def _repair(value: Any, default: Any) -> str:
    if isinstance(default, (list, tuple)) and not isinstance(value, dict):
        return f"; write {type(default)([value])!r}"
    if isinstance(default, bool):
        return "; write True or False"
    if isinstance(default, int) and isinstance(value, float) and value == int(value):
        return f"; write {int(value)}"
    if isinstance(default, str):
        return f'; write "{value}"'
    return ""


def to_yaml(value: Any) -> Any:
    """Return `value` as something that plain YAML can hold and :func:`decode` turns back.

    Tuples become their Python text, as in detectron2's own files: ``(600, 800)``.

    >>> to_yaml((600, 800)), to_yaml([1, 2]), to_yaml("7")
    ('(600, 800)', [1, 2], "'7'")
    """
    if isinstance(value, str):
        return value if decode(value) == value and isinstance(decode(value), str) else repr(value)
    if _holds_tuple(value):
        return _literal(value)
    return value


def _holds_tuple(value: Any) -> bool:
    if isinstance(value, tuple):
        return True
    return isinstance(value, list) and any(_holds_tuple(item) for item in value)


def _literal(value: Any) -> str:
    """Return Python text of nested lists and tuples; infinity has no literal of its own."""
    if isinstance(value, (list, tuple)):
        inside = ", ".join(_literal(item) for item in value)
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)
