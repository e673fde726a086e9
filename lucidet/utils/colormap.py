"""Colours for drawing, generated so that neighbours in the list look unlike each other."""

from __future__ import annotations

import colorsys
import functools
import random

import numpy as np

__all__ = ["colormap", "random_color", "random_colors"]

_PALETTE_SIZE = 80
# turning the hue by the golden ratio spreads any number of colours evenly over the circle
_GOLDEN = 0.618033988749895


@functools.lru_cache(maxsize=1)
def _palette() -> np.ndarray:
    """Return (_PALETTE_SIZE, 3) RGB in [0, 1]; brightness and saturation cycle with the hue."""
    colors = [
        colorsys.hsv_to_rgb((i * _GOLDEN) % 1.0, (0.85, 0.6, 1.0)[i % 3], (1.0, 0.85)[i % 2])
        for i in range(_PALETTE_SIZE)
    ]
    return np.asarray(colors, dtype=np.float32)


def _check(maximum: int) -> None:
    if maximum not in (1, 255):
        raise ValueError(f"maximum is the largest colour value, 1 or 255, got {maximum}")


def colormap(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return all colours of the palette.

    Args:
        rgb: order of the channels; False: BGR.
        maximum: 255 for values in 0..255, 1 for 0..1.

    Returns:
        (80, 3) float32.
    """
    _check(maximum)
    colors = _palette() * maximum
    return colors if rgb else colors[:, ::-1]


def random_color(rgb: bool = False, maximum: int = 255) -> np.ndarray:
    """Return one colour of the palette, (3,) float32; drawn by Python's `random`."""
    return random.choice(list(colormap(rgb, maximum)))


def random_colors(n: int, rgb: bool = False, maximum: int = 255) -> list[np.ndarray]:
    """Return `n` different colours of the palette, each (3,) float32.

    Raises:
        ValueError: more are asked for than there are.
    """
    if not 0 <= n <= _PALETTE_SIZE:
        raise ValueError(f"n must be in 0..{_PALETTE_SIZE}, the size of the palette, got {n}")
    return random.sample(list(colormap(rgb, maximum)), n)
