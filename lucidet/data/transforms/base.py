"""What a transform is: one deterministic change of an image and of everything that lies on it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

# H, W image size, N boxes or points
T = TypeVar("T", bound="type[Transform]")


class Transform:
    """A deterministic change of an image together with the boxes and points on it.

    All random choices were made before: an :class:`Augmentation` makes them and returns one of
    these. Coordinates are continuous: pixel ``i`` covers ``[i, i + 1)``, so a 4-pixel-wide image
    spans 0 to 4.

    Every ``apply_*`` returns a new array (or a view of the input) and never writes into its input.
    """

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Change an image: (H, W) or (H, W, C), uint8 in 0..255 or floating point."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does to an image")

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Move points: (N, 2) floating point, (x, y) in pixels of the image before."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does to points")

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Change a label map (H, W) of integers; must not mix labels. Default: as an image."""
        return self.apply_image(segmentation)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Move boxes: (N, 4) XYXY -> (N, 4) float, the upright boxes around the moved corners.

        Boxes are not clipped to the image: who knows the image's final size clips.
        """
        box = np.asarray(box)
        if not np.issubdtype(box.dtype, np.floating):
            box = box.astype(np.float64)
        box = box.reshape(-1, 4)
        corners = box[:, [0, 1, 2, 1, 2, 3, 0, 3]]  # around the box: (N, 4) -> (N, 4 corners x 2)
        moved = self.apply_coords(corners.reshape(-1, 2)).reshape(-1, 4, 2)
        return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Move polygons, each (P, 2)."""
        return [self.apply_coords(polygon) for polygon in polygons]

    def inverse(self) -> Transform:
        """Return the transform that undoes this one on coordinates.

        Raises:
            NotImplementedError: there is none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    @classmethod
    def register_type(
        cls, data_type: str, func: Callable[[Any, Any], Any] | None = None
    ) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]] | None:
        """Teach this transform a further kind of data as method ``apply_<data_type>``.

        Args:
            data_type: for example ``"rotated_box"``.
            func: called with the transform and the data. Left out: works as a decorator.

        >>> class Shift(Transform):
        ...     pass
        >>> @Shift.register_type("clock")
        ... def shift_clock(transform, hour):
        ...     return hour + 1
        >>> Shift().apply_clock(2)
        3
        """
        if func is None:

            def decorator(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
                cls.register_type(data_type, function)
                return function

            return decorator
        parameters = inspect.signature(func).parameters
        if len(parameters) < 2:
            raise ValueError(
                f"register_type({data_type!r}, ...): the function is called with the transform and "
                f"the data, so it needs 2 parameters, got {list(parameters)}"
            )
        setattr(cls, f"apply_{data_type}", func)
        return None

    def _set_attributes(self, params: dict[str, Any] | None = None) -> None:
        """Keep constructor arguments (``locals()``) as attributes of the same names."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def __add__(self, other: Transform) -> TransformList:
        return TransformList([self]) + other

    def __repr__(self) -> str:
        return describe(self)

    __str__ = __repr__


def describe(obj: object) -> str:
    """``ClassName(argument=value, ...)`` for each constructor argument kept as an attribute.

    >>> from lucidet.data.transforms import HFlipTransform
    >>> HFlipTransform(width=32)
    HFlipTransform(width=32)
    """
    shown = []
    for name, parameter in inspect.signature(type(obj)).parameters.items():
        if not hasattr(obj, name):
            continue
        value = getattr(obj, name)
        if parameter.default is not parameter.empty and value is parameter.default:
            continue
        text = f"array{value.shape}" if isinstance(value, np.ndarray) else repr(value)
        shown.append(f"{name}={text}")
    return f"{type(obj).__name__}({', '.join(shown)})"


def is_transform(obj: object) -> bool:
    """Return whether `obj` can stand for a Transform, as one of fvcore's can.

    >>> is_transform(NoOpTransform()), is_transform(NoOpTransform)
    (True, False)
    """
    if isinstance(obj, Transform):
        return True
    wanted = ("apply_image", "apply_coords", "apply_box")
    return not isinstance(obj, type) and all(callable(getattr(obj, name, None)) for name in wanted)


class TransformList(Transform):
    """Several transforms, one after another; nested lists are flattened.

    >>> from lucidet.data.transforms import HFlipTransform, VFlipTransform
    >>> both = TransformList([HFlipTransform(10), VFlipTransform(20)])
    >>> both.apply_coords(np.array([[1.0, 2.0]])).tolist()
    [[9.0, 18.0]]
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms: list[Transform] = []
        for transform in transforms:
            if not is_transform(transform):
                raise ValueError(
                    f"TransformList takes Transform objects, got {type(transform).__name__}; "
                    "an Augmentation becomes one by calling it: augmentation(aug_input)"
                )
            nested = isinstance(transform, TransformList)
            self.transforms += transform.transforms if nested else [transform]  # type: ignore[attr-defined]

    def _apply(self, data: Any, method: str) -> Any:
        for transform in self.transforms:
            data = getattr(transform, method)(data)
        return data

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self._apply(img, "apply_image")

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return self._apply(coords, "apply_coords")

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        # step by step, not by the corners through all steps: a rotation there and back would
        # otherwise give the box before, where a crop in between has seen the larger one
        return self._apply(np.asarray(box), "apply_box")

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._apply(segmentation, "apply_segmentation")

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        for transform in self.transforms:
            # what only looks like a Transform may not have it: its points move all the same
            move = getattr(transform, "apply_polygons", None)
            polygons = move(polygons) if move else [*map(transform.apply_coords, polygons)]
        return polygons

    def __getattr__(self, name: str) -> Any:
        # kinds of data added by register_type: they exist here if every member knows them
        if name.startswith("apply_"):
            lacking = [t for t in self.transforms if not hasattr(t, name)]
            if lacking:
                raise AttributeError(f"{type(lacking[0]).__name__} has no method {name}")
            return lambda data: self._apply(data, name)
        raise AttributeError(f"TransformList has no attribute {name!r}")

    def __add__(self, other: Transform) -> TransformList:
        return TransformList([self, other])

    def __iadd__(self, other: Transform) -> TransformList:
        self.transforms.extend(TransformList([other]).transforms)
        return self

    def __radd__(self, other: Transform) -> TransformList:
        return TransformList([other, self])

    def __repr__(self) -> str:
        return f"TransformList({self.transforms!r})"

    __str__ = __repr__

    def __len__(self) -> int:
        return len(self.transforms)

    def __getitem__(self, index: int) -> Transform:
        return self.transforms[index]

    def inverse(self) -> TransformList:
        return TransformList([t.inverse() for t in reversed(self.transforms)])


class NoOpTransform(Transform):
    """Changes nothing."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        return np.asarray(box)

    def inverse(self) -> Transform:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("apply_"):
            return lambda data: data
        raise AttributeError(f"NoOpTransform has no attribute {name!r}")
