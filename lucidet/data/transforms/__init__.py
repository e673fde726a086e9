"""Transforms (what is done to an image) and augmentations (random choices of transforms)."""

from .augmentation import *  # noqa: F403
from .augmentation_impl import *  # noqa: F403
from .transform import *  # noqa: F403
