"""Anchor sizes and ratios that fit the boxes of a dataset better than the config's."""

# M ground-truth boxes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from lucidet.config import CfgNode
from lucidet.coverage.objects import Objects
from lucidet.engine.recipe.anchors import anchor_shapes, best_factor, shape_iou, share_covered

__all__ = ["Proposal", "propose", "sample", "with_anchors"]

#: boxes that before and after are compared on
MOST_COMPARED = 5_000
#: a change that covers less than this share of boxes more is none
GAIN = 0.005


@dataclass(frozen=True)
class Proposal:
    """Anchors for the max-IoU rule; as many sizes and ratios a cell as the config has.

    Attributes:
        sizes, ratios: as ``MODEL.ANCHOR_GENERATOR.SIZES`` and ``ASPECT_RATIOS``.
        covered: shares of the boxes, 0..1, whose best shape has an IoU of 0.5 or more: with the
            config's anchors and with these.
        mean_iou: means of the IoU with the best shape, likewise.
        changed: they are not the config's.
    """

    sizes: list[list[float]]
    ratios: list[list[float]]
    covered: tuple[float, float]
    mean_iou: tuple[float, float]
    changed: bool

    def yaml(self) -> str:
        """Return the keys to merge into a config."""
        keys: dict[str, Any] = {"SIZES": self.sizes, "ASPECT_RATIOS": self.ratios}
        node = {"MODEL": {"ANCHOR_GENERATOR": keys}}
        return yaml.safe_dump(node, default_flow_style=None, sort_keys=False)


def propose(cfg: CfgNode, objects: Objects) -> Proposal:
    """Return the anchors that cover most boxes: the config's sizes by a factor, ratios of the data.

    The ratios are the middles of as many equal parts of the boxes, by height / width. A small
    gain is no reason to part from anchors that pretrained weights know.
    """
    generator = cfg.MODEL.ANCHOR_GENERATOR
    sizes = [[float(s) for s in level] for level in generator.SIZES]
    ratios = [[float(r) for r in level] for level in generator.ASPECT_RATIOS]
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).astype(np.float64)
    fitted = _ratios(sides, len(ratios[0]))
    candidates = [(sizes, ratios)]
    for own in (ratios, [fitted] * len(ratios)):
        factor = best_factor(sides, anchor_shapes(sizes, own))
        scaled = [[round(size * factor, 1) for size in level] for level in sizes]
        candidates.append((scaled, own))
    scores = [_scores(sides, *pair) for pair in candidates]
    best = max(range(len(candidates)), key=lambda n: scores[n])
    changed = scores[best][0] >= scores[0][0] + GAIN or scores[best][1] >= scores[0][1] + 2 * GAIN
    best = best if changed else 0
    covered, mean_iou = zip(scores[0], scores[best], strict=True)
    return Proposal(*candidates[best], covered, mean_iou, best != 0)


def _scores(
    sides: np.ndarray, sizes: list[list[float]], ratios: list[list[float]]
) -> tuple[float, float]:
    shapes = anchor_shapes(sizes, ratios)
    return share_covered(sides, shapes), float(shape_iou(sides, shapes).mean())


def _ratios(sides: np.ndarray, number: int) -> list[float]:
    ratio = np.log(np.maximum(sides[:, 1], 1e-3) / np.maximum(sides[:, 0], 1e-3))
    middles = (np.arange(number) + 0.5) / number
    return [round(float(np.exp(value)), 2) for value in np.quantile(ratio, middles)]


def with_anchors(cfg: CfgNode, proposal: Proposal) -> CfgNode:
    """Return a copy of a config with the proposed anchors."""
    changed = cfg.clone()
    changed.defrost()
    changed.MODEL.ANCHOR_GENERATOR.SIZES = proposal.sizes
    changed.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = proposal.ratios
    return changed


def sample(objects: Objects) -> Objects:
    """Return evenly spread images with about `MOST_COMPARED` boxes."""
    step = max(1, len(objects.boxes) // MOST_COMPARED)
    kept = np.arange(0, len(objects.sizes), step)
    rows = np.isin(objects.image, kept)
    return Objects(
        objects.boxes[rows],
        objects.category[rows],
        np.searchsorted(kept, objects.image[rows]),
        objects.sizes[kept],
        objects.records[kept],
        objects.classes,
    )
