"""Values of config keys: from text, into the type of the default, and back into YAML."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
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
    kind = type(default).__name__
    raise ValueError(
        f"{where}: {key} must be {'an' if kind[0] in 'aeiou' else 'a'} {kind} such as {default!r}, "
        f"got the {type(value).__name__} {value!r}{_repair(value, default)}"
    )


def plain(value: Any) -> Any:
    """Return numpy's numbers and arrays, paths and torch's devices as a config holds them.

    >>> from pathlib import PurePosixPath
    >>> plain(PurePosixPath("out/run"))
    'out/run'
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if (type(value).__module__, type(value).__name__) == ("torch", "device"):
        return str(value)
    return value


def adapt(value: Any, default: Any, key: str) -> Any:
    """Return a value that code sets, ``cfg.KEY = value``, in the type of the key's default.

    As :func:`coerce`, and what has one meaning besides: ``90.0`` for a whole number, 0 or 1 for a
    switch, a single value for a tuple or list that has one by default, numbers written as text.

    Raises:
        ValueError: another type; names the key, expected and got, and how to write it.

    >>> adapt("my_train", (), "DATASETS.TRAIN"), adapt(800, (640,), "INPUT.MIN_SIZE_TRAIN")
    (('my_train',), (800,))
    >>> adapt(90.0, 40000, "SOLVER.MAX_ITER"), adapt("0.02", 0.001, "SOLVER.BASE_LR")
    (90, 0.02)
    """
    if isinstance(default, bool) and type(value) in (int, float) and value in (0, 1):
        return bool(value)
    if type(default) is int:
        number = decode(value)
        if isinstance(number, bool):
            return int(number)
        if isinstance(number, float) and number.is_integer():
            return int(number)
    if isinstance(default, (list, tuple)):
        decoded = decode(value)
        if isinstance(decoded, (list, tuple)):
            return type(default)(_with_numbers(decoded, default))
        single = not default or (len(default) == 1 and _like(decoded, default[0]))
        if value is not None and single:
            return type(default)([value if isinstance(value, str) else decoded])
    return coerce(value, default, key, "code")


def _like(value: Any, example: Any) -> bool:
    numbers = isinstance(value, (int, float)) and isinstance(example, (int, float))
    return numbers or type(value) is type(example)


def _with_numbers(values: Sequence[Any], default: Sequence[Any]) -> list[Any]:
    """Return `values` with numbers written as text as numbers, where the default has numbers."""
    if default and all(isinstance(v, (int, float)) for v in default):
        return [decode(v) for v in values]
    return list(values)


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
