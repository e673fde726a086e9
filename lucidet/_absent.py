"""Names of detectron2 that lucidet has no use for: they import, and using one says why not.

Programs for boxes often name parts for masks or keypoints among their imports.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["absent"]


class _Absent(type):
    """The type of an absent name: neither it nor a subclass can be called."""

    reason: str

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(cls.reason)

    def __getattr__(cls, name: str) -> NoReturn:
        raise AttributeError(f"no {name!r}: {cls.reason}")


def absent(name: str, purpose: str, instead: str = "") -> Any:
    """Return what stands for `name`: a class to import, subclass and ask for with isinstance.

    >>> BitMasks = absent("BitMasks", "masks")
    >>> isinstance(3, BitMasks)
    False
    >>> BitMasks([])
    Traceback (most recent call last):
    ...
    NotImplementedError: BitMasks is for masks; lucidet detects boxes and does not have it

    Args:
        name: detectron2's.
        purpose: what it is for.
        instead: what to do, for the end of the message.
    """
    reason = f"{name} is for {purpose}; lucidet detects boxes and does not have it"
    return _Absent(name, (), {"reason": f"{reason}: {instead}" if instead else reason})
