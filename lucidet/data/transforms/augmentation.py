"""Augmentations: random choices that become transforms, and what they are applied to.

An augmentation looks at the input (its size, perhaps its boxes), draws random numbers from
``numpy.random`` and returns the :class:`Transform` it settled on. The transform can then be applied
to anything else that belongs to the image, and undone.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucidet.data.transforms.base import Transform, TransformList, describe, is_transform
from lucidet.utils.probe import probe

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]


class AugInput:
    """An image and what lies on it; augmentations change its fields.

    Args:
        image: (H, W) or (H, W, C), uint8 in 0..255 or floating point.
        boxes: (N, 4) XYXY in pixels of the image, float.
        sem_seg: (H, W) label map of integers.

    Further attributes may be set; an augmentation asks for them by naming them as parameters
    of its ``get_transform``.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        boxes: np.ndarray | None = None,
        sem_seg: np.ndarray | None = None,
    ) -> None:
        check_image_array(image)
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Replace each field by what `tfm` makes of it."""
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: Sequence[Augmentation | Transform]) -> Transform:
        """Apply `augmentations` in order; return them as one transform."""
        return AugmentationList(augmentations)(self)


StandardAugInput = AugInput


def check_image_array(image: object) -> None:
    """Raise ValueError unless `image` is an array that transforms accept."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be a numpy array, got {type(image).__name__}")
    if image.ndim not in (2, 3):
        raise ValueError(f"an image must be (H, W) or (H, W, C), got shape {image.shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(
            f"an image must be uint8 (0..255) or floating point, got {image.dtype}; "
            "convert it with image.astype(numpy.uint8)"
        )


class Augmentation:
    """Makes random choices for one input and returns them as a :class:`Transform`.

    A subclass writes ``get_transform(self, image)`` (or with further parameters such as ``boxes``
    and ``sem_seg``, each the name of a field of the :class:`AugInput`).

    >>> class Darker(Augmentation):
    ...     def get_transform(self, image):
    ...         from lucidet.data.transforms import BlendTransform
    ...         return BlendTransform(src_image=0, src_weight=0.5, dst_weight=0.5)
    >>> data = AugInput(np.full((2, 2, 3), 100, np.uint8))
    >>> transform = Darker()(data)
    >>> int(data.image[0, 0, 0])
    50
    """

    #: names of the input's fields that ``get_transform`` wants, where its parameters do not say it
    input_args: Sequence[str] | None = None

    def get_transform(self, *args: Any) -> Transform:
        """Choose, and return the choice. Must not change its arguments."""
        raise NotImplementedError(f"{type(self).__name__} lacks get_transform(self, image)")

    def __call__(self, aug_input: AugInput) -> Transform:
        """Choose a transform for `aug_input`, change `aug_input` by it and return it."""
        transform = self.get_transform(*_arguments_from(self, aug_input))
        if not is_transform(transform):
            raise TypeError(
                f"{type(self).__name__}.get_transform must return a Transform, "
                f"got {type(transform).__name__}"
            )
        aug_input.transform(transform)
        return transform

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Keep constructor arguments (``locals()``) as attributes of the same names."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """Uniform in [low, high); with one argument in [0, low)."""
        if high is None:
            low, high = 0.0, low
        return np.random.uniform(low, high, size)

    def __repr__(self) -> str:
        return describe(self)

    __str__ = __repr__


def wanted_fields(augmentation: Augmentation) -> tuple[str, ...]:
    """Return the names of the input's fields that ``get_transform`` wants.

    ``input_args`` counts; else the parameters without defaults. A single one, whatever its name,
    is the image.

    Raises:
        TypeError: ``*args`` or ``**kwargs`` beside other parameters hide what is wanted.
    """
    if augmentation.input_args is not None:
        return tuple(augmentation.input_args)
    parameters = list(inspect.signature(augmentation.get_transform).parameters.values())
    if len(parameters) == 1 and parameters[0].default is parameters[0].empty:
        return ("image",)
    hidden = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(parameter.kind in hidden for parameter in parameters):
        raise TypeError(
            f"{type(augmentation).__name__}.get_transform must name what it needs, as in "
            "get_transform(self, image, boxes), or set input_args"
        )
    return tuple(p.name for p in parameters if p.default is p.empty)


def _arguments_from(augmentation: Augmentation, aug_input: Any) -> list[Any]:
    names = wanted_fields(augmentation)
    missing = [name for name in names if not hasattr(aug_input, name)]
    if missing:
        raise AttributeError(
            f"{type(augmentation).__name__}.get_transform wants {', '.join(names)}, but the input "
            f"has no {missing[0]!r}; give it, as in AugInput(image, {missing[0]}=...)"
        )
    return [getattr(aug_input, name) for name in names]


class _FixedTransform(Augmentation):
    """A transform in the place of an augmentation: no choice to make."""

    def __init__(self, tfm: Transform) -> None:
        self.tfm = tfm

    def get_transform(self, image: np.ndarray) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)


def as_augmentation(aug: Augmentation | Transform) -> Augmentation:
    """Return `aug` itself, or a wrapper around a transform."""
    if isinstance(aug, Augmentation):
        return aug
    if is_transform(aug):
        return _FixedTransform(aug)
    raise TypeError(f"expected an Augmentation or a Transform, got {type(aug).__name__}")


class AugmentationList(Augmentation):
    """Augmentations in sequence; each sees the result of those before it."""

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        self.augs = [as_augmentation(aug) for aug in augs]

    def __call__(self, aug_input: AugInput) -> TransformList:
        chosen = []
        for aug in self.augs:
            transform = aug(aug_input)
            chosen.append(transform)
            if not isinstance(aug, AugmentationList):  # a nested list has shown its own steps
                probe(
                    "input.transform",
                    transform=transform,
                    image=aug_input.image,
                    boxes=getattr(aug_input, "boxes", None),
                )
        return TransformList(chosen)

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(repr, self.augs))}]"

    __str__ = __repr__


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: AugInput | np.ndarray
) -> tuple[Any, TransformList]:
    """Apply `augmentations` in order.

    Args:
        augmentations: augmentations or transforms.
        inputs: an :class:`AugInput` (changed in place), or an image array.

    Returns:
        what came in, changed (an array for an array), and the transforms that were chosen.

    >>> from lucidet.data.transforms import RandomFlip
    >>> image = np.arange(3, dtype=np.uint8).reshape(1, 3)
    >>> apply_augmentations([RandomFlip(prob=1.0)], image)
    (array([[2, 1, 0]], dtype=uint8), TransformList([HFlipTransform(width=3)]))
    """
    if isinstance(inputs, np.ndarray):
        aug_input = AugInput(inputs)
        transforms = AugmentationList(augmentations)(aug_input)
        return aug_input.image, transforms
    return inputs, AugmentationList(augmentations)(inputs)


apply_transform_gens = apply_augmentations
# detectron2's names, which augmentations that hold others import
_get_aug_input_args = _arguments_from
_transform_to_aug = as_augmentation
TransformGen = Augmentation
