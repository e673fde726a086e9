"""Compute ``[[x, x * 2**(1.0/3)] for x in [32, 64]]`` without `eval`: numbers, lists and loops.

detectron2's RetinaNet config gives its anchor sizes in this form. Everything else that Python
could say (calls, attributes, names, strings, conditions) is refused, and so is what would take
long or much memory.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from lucidet.config.unfolded import check_unfolded

MAX_TEXT = 2000  # characters
MAX_STEPS = 10_000  # evaluated nodes; the anchor sizes take 120
MAX_VALUES = 10_000  # of the result, where lists that loops repeat are written out
MAX_NUMBER = 2.0**64

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def evaluate(text: str) -> Any:
    """Return the value of an expression of numbers, ``+ - * / // % **``, lists, tuples and loops.

    Numbers stay below 2**64 and finite, so that no product or power can grow without bound.

    Raises:
        ValueError: the text holds something else, or is too large; the message says which.

    >>> evaluate("[[x, x * 2**(1.0/2)] for x in [4, 16]]")
    [[4, 5.656854249492381], [16, 22.627416997969522]]
    >>> evaluate("9**9**9")
    Traceback (most recent call last):
    ...
    ValueError: 9 ** 387420489 is too large
    >>> evaluate("exit()")
    Traceback (most recent call last):
    ...
    ValueError: 'exit()' is not arithmetic on numbers, a list, or a loop over a list
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"an expression of {len(text)} characters; at most {MAX_TEXT}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        found = _Evaluation().value(tree, {})
        check_unfolded(found, MAX_VALUES)
        return found
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is not an expression that can be read") from error


class _Evaluation:
    """One evaluation, with the number of steps that it may still take."""

    def __init__(self) -> None:
        self._steps_left = MAX_STEPS

    def value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ValueError(f"takes more than {MAX_STEPS} steps")
        match node:
            case ast.Constant(value=int() | float() as number) if type(number) is not bool:
                return _bounded(number, node)
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)](_number(self.value(operand, names), operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                a = _number(self.value(left, names), left)
                b = _number(self.value(right, names), right)
                return _compute(op, a, b, node)
            case ast.List(elts=items):
                return [self.value(item, names) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item, names) for item in items)
            case ast.ListComp(elt=item, generators=loops):
                return [self.value(item, inner) for inner in self._loop(loops, names)]
        raise ValueError(
            f"{ast.unparse(node)!r} is not arithmetic on numbers, a list, or a loop over a list"
        )

    def _loop(
        self, loops: list[ast.comprehension], names: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the names' values in each turn of nested ``for x in list``."""
        if not loops:
            yield names
            return
        loop = loops[0]
        if not isinstance(loop.target, ast.Name) or loop.ifs or loop.is_async:
            raise ValueError("a loop must have the form `for x in list`")
        items = self.value(loop.iter, names)
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"cannot loop over {items!r}; a list is needed")
        for item in items:
            self._steps_left -= 1  # an inner loop over an empty list takes a step too
            yield from self._loop(loops[1:], {**names, loop.target.id: item})


def _number(value: Any, node: ast.expr) -> int | float:
    if isinstance(value, (int, float)):
        return value
    raise ValueError(f"{ast.unparse(node)!r} is not a number")


def _compute(op: ast.operator, a: int | float, b: int | float, node: ast.expr) -> int | float:
    # the size of an integer power is known before it is computed
    if isinstance(op, ast.Pow) and abs(a) > 1 and b * math.log2(abs(a)) > math.log2(MAX_NUMBER):
        raise ValueError(f"{a} ** {b} is too large")
    try:
        return _bounded(_BINARY[type(op)](a, b), node)
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"{ast.unparse(node)!r}: {error}") from error


def _bounded(number: Any, node: ast.expr) -> int | float:
    if isinstance(number, complex) or not abs(number) <= MAX_NUMBER:
        raise ValueError(f"{ast.unparse(node)!r} is not a number below 2**64")
    return number
