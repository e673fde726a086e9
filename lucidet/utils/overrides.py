"""Whether user code replaces a method."""

from __future__ import annotations

__all__ = ["is_overridden"]


def is_overridden(instance: object, base: type, *names: str) -> bool:
    """Return whether `instance` has another method than `base` under one of these names.

    Methods that take one image are called image by image where a subclass, or an attribute of the
    instance, replaces them; elsewhere the whole batch is handled at once.

    >>> class Upper(str):
    ...     def lower(self) -> str:
    ...         return self.upper()
    >>> is_overridden(Upper("a"), str, "upper", "lower"), is_overridden(Upper("a"), str, "upper")
    (True, False)
    """
    return any(
        name in getattr(instance, "__dict__", ())
        or getattr(type(instance), name) is not getattr(base, name)
        for name in names
    )
