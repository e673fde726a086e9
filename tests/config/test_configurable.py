"""@configurable on classes and functions."""

from __future__ import annotations

from typing import Any

import pytest

from lucidet.config import CN, configurable

CFG = CN({"A": 1, "B": 2})


class Base:
    @configurable
    def __init__(self, a: int, b: int = 5, *, c: int = 7) -> None:
        """Keep the arguments."""
        self.values = (a, b, c)

    @classmethod
    def from_config(cls, cfg: Any, shape: int = 0) -> dict[str, Any]:
        return {"a": cfg.A + shape, "b": cfg.B}


class Explicit(Base):
    """Inherits both."""


class Extended(Base):
    @configurable
    def __init__(self, extra: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra = extra

    @classmethod
    def from_config(cls, cfg: Any, shape: int = 0) -> dict[str, Any]:
        return {**super().from_config(cfg, shape), "extra": "cfg"}


class Plain(Base):
    """Overrides __init__ without @configurable, and calls the parent with a config."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg, 30)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: Base(3), (3, 5, 7)),
        (lambda: Base(a=3, c=9), (3, 5, 9)),
        (lambda: Base(CFG), (1, 2, 7)),
        (lambda: Base(cfg=CFG), (1, 2, 7)),
        (lambda: Base(CFG, 10), (11, 2, 7)),  # to from_config
        (lambda: Base(CFG, shape=20), (21, 2, 7)),
        (lambda: Base(CFG, c=0), (1, 2, 0)),  # to __init__
        (lambda: Base(CFG, b=0, shape=1), (2, 0, 7)),  # an argument wins over from_config
        (lambda: Explicit(CFG), (1, 2, 7)),
        (lambda: Extended(CFG, 1, c=4), (2, 2, 4)),
        (lambda: Extended(extra="x", a=1), (1, 5, 7)),
        (lambda: Plain(CFG), (31, 2, 7)),
    ],
)
def test_class(made: Any, expected: tuple[int, int, int]) -> None:
    assert made().values == expected


def test_signature_and_docstring_stay() -> None:
    assert Base.__init__.__doc__ == "Keep the arguments."


def test_inherited_from_config_is_of_the_subclass() -> None:
    assert Extended(CFG).extra == "cfg"


def test_function() -> None:
    @configurable(from_config=lambda cfg, size=0: {"a": cfg.A, "size": size})
    def build(a: int, size: int, c: int = 3) -> tuple[int, int, int]:
        return a, size, c

    assert build(8, 9) == (8, 9, 3)
    assert build(CFG) == (1, 0, 3)
    assert build(CFG, 4, c=5) == (1, 4, 5)
    assert build(cfg=CFG, size=6) == (1, 6, 3)


def test_from_config_may_take_anything() -> None:
    @configurable(from_config=lambda cfg, **kwargs: {"a": cfg.A, **kwargs})
    def build(a: int, b: int = 0) -> tuple[int, int]:
        return a, b

    assert build(CFG, b=3) == (1, 3)


def test_misuse() -> None:
    class Without:
        @configurable
        def __init__(self) -> None: ...

    class NoClassmethod:
        @configurable
        def __init__(self) -> None: ...

        def from_config(self, cfg: Any) -> dict[str, Any]:
            return {}

    class WrongFirst:
        @configurable
        def __init__(self) -> None: ...

        @classmethod
        def from_config(cls, config: Any) -> dict[str, Any]:
            return {}

    with pytest.raises(AttributeError, match="Without is @configurable: it needs a classmethod"):
        Without()
    with pytest.raises(TypeError, match=r"NoClassmethod.from_config must be a classmethod"):
        NoClassmethod()
    with pytest.raises(TypeError, match="must have cfg as its first argument, got 'config'"):
        WrongFirst(CFG)
    with pytest.raises(TypeError, match="goes on __init__"):
        configurable(lambda: 0)
    with pytest.raises(TypeError, match="from_config must be a function"):
        configurable(from_config=3)
