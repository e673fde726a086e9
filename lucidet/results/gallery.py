"""The best and the worst images of a validation set, drawn with what was right and wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from lucidet.analysis.judged import ImageVerdict
from lucidet.data.detection_utils import read_image
from lucidet.pages.colors import VERDICT_COLORS
from lucidet.utils.visualizer import Visualizer

__all__ = ["COLORS", "best_and_worst", "draw_verdict"]

COLORS = {
    "right": VERDICT_COLORS["found"],
    "wrong": VERDICT_COLORS["wrong"],
    "missed": VERDICT_COLORS["missed"],
}
#: longer side of a picture on the page, pixels; small images are enlarged, so that labels fit
_LONGEST = 720
_MOST_ENLARGED = 4.0


def best_and_worst(
    images: Sequence[ImageVerdict], count: int
) -> tuple[list[ImageVerdict], list[ImageVerdict]]:
    """Return up to `count` images of highest and of lowest F1; no image is in both.

    Among images of equal F1 those with more boxes come first: they show more.
    """

    def boxes(image: ImageVerdict) -> int:
        return len(image.right) + len(image.wrong) + len(image.missed)

    best = sorted(images, key=lambda i: (-i.f1, -boxes(i)))
    count = min(count, (len(best) + 1) // 2)
    worst = sorted(best[count:], key=lambda i: (i.f1, -boxes(i)))
    return best[:count], worst[:count]


def draw_verdict(image: ImageVerdict, classes: Sequence[str]) -> Image.Image:
    """Return the picture with boxes in `COLORS`: right and wrong detections, missed boxes."""
    pixels = read_image(image.file_name, format="RGB")
    scale = min(_MOST_ENLARGED, _LONGEST / max(pixels.shape[:2]))
    visualizer = Visualizer(pixels, scale=scale)
    for kind in ("right", "wrong", "missed"):
        boxes: np.ndarray = getattr(image, kind)
        if len(boxes):
            visualizer.overlay_instances(
                boxes=boxes[:, :4],
                labels=[_label(kind, row, classes) for row in boxes],
                assigned_colors=[COLORS[kind]] * len(boxes),
                alpha=0.9,
            )
    return Image.fromarray(visualizer.get_output().get_image())


def _label(kind: str, row: np.ndarray, classes: Sequence[str]) -> str:
    name = classes[int(row[-1])]
    return f"missed: {name}" if kind == "missed" else f"{name} {row[4]:.0%}"
