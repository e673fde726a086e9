"""How an image looks, in numbers: brightness, blur, information, and a hash that finds its like.

The scores and their thresholds are those that cleanvision 0.3.6 publishes (`IMAGE_THRESHOLDS`);
the hash is the signs of the lowest frequencies of a cosine transform (Zauner 2010, "Implementation
and benchmarking of perceptual image hash functions"), from which the hashes of all turns and
mirrorings follow: see docs/decisions/012-doctor.md.
"""

# V = 8 turns and mirrorings of an image

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageStat

__all__ = ["IMAGE_THRESHOLDS", "THUMB", "Appearance", "Scores", "appearance_of", "hashes", "turned"]

#: a score below its threshold is odd
IMAGE_THRESHOLDS = {"dark": 0.32, "bright": 0.05, "blurred": 0.29, "uniform": 0.3}
_BLUR_FACTOR, _HISTOGRAM_SHARE, _ENTROPY_FACTOR = 0.01, 0.18, 0.1
_BLUR_SIDE = 64  # pixels of the longer side that blur is judged at
_MOST_PIXELS = 1 << 15  # of an image, evenly spread, whose brightness is judged
#: side of the grey thumbnail that duplicates are compared by, pixels
THUMB = 64
_LOW = 8  # frequencies in x and in y
VARIANTS = 8


class Scores(NamedTuple):
    """cleanvision's scores, each 0..1; low is odd."""

    dark: float
    bright: float
    blurred: float
    uniform: float


class Appearance(NamedTuple):
    """What is kept of a decoded image.

    Attributes:
        scores: see `Scores`.
        thumb: (THUMB, THUMB) uint8, grey.
        digest: of the pixels: equal for equal images.
    """

    scores: Scores
    thumb: np.ndarray
    digest: bytes

    @property
    def odd(self) -> tuple[str, ...]:
        """Names of the scores that are below their threshold."""
        return tuple(n for n, limit in IMAGE_THRESHOLDS.items() if getattr(self.scores, n) < limit)


def appearance_of(image: Image.Image) -> Appearance:
    """Return how an upright RGB image looks."""
    grey = image.convert("L")
    thumb = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX))
    dark, bright = _brightness(np.asarray(image))
    digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    digest.update(image.tobytes())
    entropy = min(1.0, _ENTROPY_FACTOR * image.entropy())
    return Appearance(Scores(dark, bright, _sharpness(image), entropy), thumb, digest.digest())


def _brightness(pixels: np.ndarray) -> tuple[float, float]:
    """Return the 99th percentile of the brightness, and 1 - the 5th."""
    step = max(1, math.isqrt(pixels.shape[0] * pixels.shape[1] // _MOST_PIXELS))
    part = pixels[::step, ::step].astype(np.float32)
    weights = np.array([0.241, 0.691, 0.068], np.float32)
    brightness = np.sqrt(np.square(part) @ weights) / 255
    low, high = np.percentile(brightness, [5, 99])
    return float(high), float(1 - low)


def _sharpness(image: Image.Image) -> float:
    """Return the strength of the edges of the small image, raised for an uneven histogram."""
    ratio = max(image.size) / _BLUR_SIDE
    if ratio > 1:
        width, height = (max(1, int(side // ratio)) for side in image.size)
        # a coarse box first: the result differs in the third digit, at a third of the time
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    grey = image.convert("L")
    edges = math.sqrt(ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0])
    spread = float(np.std(grey.histogram()))
    score, uneven = (1 - math.exp(-_BLUR_FACTOR * value) for value in (edges, spread))
    return min(1.0, score + (uneven if uneven > _HISTOGRAM_SHARE else 0.0))


def turned(picture: np.ndarray, variant: int) -> np.ndarray:
    """Return one of the 8 turns and mirrorings of (H, W, ...): bit 0 left-right, 1 top-bottom, 2
    transposed after that.

    >>> turned(np.array([[1, 2], [3, 4]]), 5).tolist()
    [[2, 4], [1, 3]]
    """
    if variant & 1:
        picture = picture[:, ::-1]
    if variant & 2:
        picture = picture[::-1]
    return np.swapaxes(picture, 0, 1) if variant & 4 else picture


def _cosines() -> np.ndarray:
    """Return the rows (_LOW, THUMB) of a cosine transform."""
    at = (2 * np.arange(THUMB) + 1) * np.pi / (2 * THUMB)
    return np.cos(np.arange(_LOW)[:, None] * at).astype(np.float32)


def hashes(thumbs: np.ndarray) -> np.ndarray:
    """Return the hashes (V, N) uint64 of thumbnails (N, THUMB, THUMB) and of their turns.

    A mirroring changes the sign of the odd frequencies, a transposition exchanges x and y: the
    hash of a turned image is that of the image, with bits moved and flipped.
    """
    rows = _cosines()
    frequencies = np.einsum("vy,nyx,ux->nvu", rows, thumbs.astype(np.float32), rows, optimize=True)
    odd = np.where(np.arange(_LOW) % 2, -1.0, 1.0)
    bits = 2 ** np.arange(_LOW * _LOW, dtype=np.uint64)
    bits[0] = 0  # the mean: always positive
    result = np.empty((VARIANTS, len(thumbs)), np.uint64)
    for variant in range(VARIANTS):
        own = frequencies * (odd if variant & 1 else 1) * (odd[:, None] if variant & 2 else 1)
        own = own.swapaxes(1, 2) if variant & 4 else own
        result[variant] = (own.reshape(len(thumbs), -1) > 0) @ bits
    return result
