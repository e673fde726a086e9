"""Sending functions to other processes."""

from __future__ import annotations

from typing import Any

__all__ = ["PicklableWrapper"]


def _cloudpickle() -> Any:
    """Return the module cloudpickle (it takes lambdas and closures), None where not installed."""
    try:
        import cloudpickle  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    return cloudpickle


def _rebuild(data: bytes) -> PicklableWrapper:
    # bytes made by `__reduce__` below, inside the pickle that is being read already: whoever could
    # change them could change that pickle just as well
    return PicklableWrapper(_cloudpickle().loads(data))


class PicklableWrapper:
    """Wraps an object so that it reaches worker processes, lambdas too with cloudpickle installed.

    Calls and attributes go to the object inside.

    >>> PicklableWrapper(abs)(-2)
    2
    """

    def __init__(self, obj: Any) -> None:
        # a wrapper in a wrapper would only make calls longer
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple[Any, ...]:
        codec = _cloudpickle()
        if codec is None:
            return PicklableWrapper, (self._obj,)
        return _rebuild, (codec.dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_obj":  # asked for before __init__, by copy
            raise AttributeError(name)
        return getattr(self._obj, name)
