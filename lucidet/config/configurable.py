"""`@configurable`: build from a config or from explicit arguments, with the same call.

Behaviour of `detectron2.config.configurable`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from lucidet.config.node import CfgNode

__all__ = ["configurable"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def configurable(init_func: F) -> F: ...
@overload
def configurable(
    init_func: None = None, *, from_config: Callable[..., dict[str, Any]] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def configurable(
    init_func: Any = None, *, from_config: Callable[..., dict[str, Any]] | None = None
) -> Any:
    """Let a class or a function be called with a config instead of its arguments.

    On ``__init__`` of a class that has a classmethod ``from_config(cls, cfg, ...)``; or on a
    function, with ``from_config=`` a function of the same kind. It returns the arguments as a
    dict. A call whose first argument, or argument ``cfg``, is a config goes through it; arguments
    that it doesn't take are passed on and win over its own. Every other call is left alone.

    >>> class Head:
    ...     @configurable
    ...     def __init__(self, num_classes, prior=0.01):
    ...         self.num_classes, self.prior = num_classes, prior
    ...
    ...     @classmethod
    ...     def from_config(cls, cfg):
    ...         return {"num_classes": cfg.NUM_CLASSES}
    >>> Head(num_classes=3).num_classes, Head(CfgNode({"NUM_CLASSES": 80})).num_classes
    (3, 80)
    >>> Head(CfgNode({"NUM_CLASSES": 80}), prior=0.5).prior
    0.5

    >>> @configurable(from_config=lambda cfg: {"size": cfg.SIZE})
    ... def area(size):
    ...     return size * size
    >>> area(3), area(CfgNode({"SIZE": 4}))
    (9, 16)
    """
    if init_func is not None:
        if not inspect.isfunction(init_func) or init_func.__name__ != "__init__":
            raise TypeError(
                "@configurable without arguments goes on __init__; on a function write "
                "@configurable(from_config=...)"
            )
        if from_config is not None:
            raise TypeError("@configurable on __init__ takes from_config from the class")
        return _configurable_init(init_func)
    if from_config is None:
        return configurable
    if not inspect.isfunction(from_config):
        raise TypeError(f"from_config must be a function, got {type(from_config).__name__}")
    return functools.partial(_configurable_function, from_config)


def _configurable_init(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        make = getattr(type(self), "from_config", None)
        if make is None:
            raise AttributeError(
                f"{type(self).__name__} is @configurable: "
                "it needs a classmethod from_config(cls, cfg)"
            )
        if not inspect.ismethod(make):
            raise TypeError(f"{type(self).__name__}.from_config must be a classmethod")
        if _called_with_config(args, kwargs):
            init(self, **_arguments(make, args, kwargs))
        else:
            init(self, *args, **kwargs)

    return wrapped


def _configurable_function(make: Callable[..., dict[str, Any]], function: Any) -> Any:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _called_with_config(args, kwargs):
            return function(**_arguments(make, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = make  # type: ignore[attr-defined]
    return wrapped


def _called_with_config(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return isinstance(args[0] if args else kwargs.get("cfg"), CfgNode)


def _arguments(
    make: Callable[..., dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return the explicit arguments: what `make` returns, then the keywords it doesn't take."""
    parameters = inspect.signature(make).parameters
    first = next(iter(parameters), None)
    if first != "cfg":
        raise TypeError(f"{make.__qualname__} must have cfg as its first argument, got {first!r}")
    kinds = {parameter.kind for parameter in parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return make(*args, **kwargs)  # it takes whatever is given
    taken = {name: value for name, value in kwargs.items() if name in parameters}
    passed_on = {name: value for name, value in kwargs.items() if name not in parameters}
    return {**make(*args, **taken), **passed_on}
