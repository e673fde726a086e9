"""Augmentations of colour: contrast, brightness, saturation, lighting."""

from __future__ import annotations

import numpy as np

from lucidet.data.transforms.augmentation import Augmentation
from lucidet.data.transforms.base import Transform
from lucidet.data.transforms.basic import BlendTransform

# weights of red, green and blue in perceived brightness (ITU-R BT.601)
LUMA_RGB = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class _RandomIntensity(Augmentation):
    """Blend with some other image by a weight drawn from ``[intensity_min, intensity_max]``.

    Weight 1 changes nothing, below 1 weakens, above 1 strengthens.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        super().__init__()
        if not 0 <= intensity_min <= intensity_max:
            raise ValueError(
                f"{type(self).__name__} needs 0 <= intensity_min <= intensity_max, "
                f"got {intensity_min} and {intensity_max}"
            )
        self.intensity_min, self.intensity_max = intensity_min, intensity_max

    def _other(self, image: np.ndarray) -> np.ndarray | float:
        raise NotImplementedError

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = float(np.random.uniform(self.intensity_min, self.intensity_max))
        return BlendTransform(self._other(image), src_weight=1 - weight, dst_weight=weight)


class RandomContrast(_RandomIntensity):
    """Move values from or towards the image's mean. 0: all grey; 1: unchanged."""

    def _other(self, image: np.ndarray) -> float:
        return float(image.mean())


class RandomBrightness(_RandomIntensity):
    """Multiply values. 0: black; 1: unchanged."""

    def _other(self, image: np.ndarray) -> float:
        return 0.0


class RandomSaturation(_RandomIntensity):
    """Move colours from or towards grey. 0: grey; 1: unchanged. The image is (H, W, 3) RGB."""

    def _other(self, image: np.ndarray) -> np.ndarray:
        if image.shape[-1] != 3 or image.ndim != 3:
            raise ValueError(f"RandomSaturation works on RGB images (H, W, 3), got {image.shape}")
        return image.astype(np.float32).dot(LUMA_RGB)[..., None]


class RandomLighting(Augmentation):
    """Shift colours along the principal axes of ImageNet's colours, "fancy PCA".

    Args:
        scale: standard deviation of the shift in each axis, before the axis' own variance, in the
            unit of the image's values (AlexNet's 0.1 is ``0.1 * 255`` for an image of 0..255).

    After Krizhevsky et al. 2012 (AlexNet), section 4.1. The image is (H, W, 3) RGB.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        # covariance of ImageNet's RGB values in 0..1: axes in the columns, and their variances
        self.eigen_vecs = np.array(
            [
                [-0.5675, 0.7192, 0.4009],
                [-0.5808, -0.0045, -0.8140],
                [-0.5836, -0.6948, 0.4203],
            ]
        )
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        if image.shape[-1] != 3 or image.ndim != 3:
            raise ValueError(f"RandomLighting works on RGB images (H, W, 3), got {image.shape}")
        weights = np.random.normal(scale=self.scale, size=3)
        shift = self.eigen_vecs @ (weights * self.eigen_vals)
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)
