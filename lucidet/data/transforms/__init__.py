"""Transforms (what is done to an image) and augmentations (random choices of transforms)."""

from lucidet.data.transforms.augmentation import *  # noqa: F403
from lucidet.data.transforms.augmentation_impl import *  # noqa: F403
from lucidet.data.transforms.transform import *  # noqa: F403
