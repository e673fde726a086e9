"""Choices about the model: classes, image size, pretrained or random start, anchors."""

from __future__ import annotations

import math

import numpy as np

from lucidet.engine.checks import num_classes_key
from lucidet.engine.recipe.anchors import anchor_shapes, best_factor, share_covered
from lucidet.engine.recipe.facts import DataFacts
from lucidet.engine.recipe.plan import Plan, Request

__all__ = ["choose_anchors", "choose_classes", "choose_size", "choose_start"]

#: a box narrower than this after resizing covers too few locations of the finest map (stride 4)
SMALL_BOX = 16
#: images are made larger than the config says by this factor at most
LARGEST_GROWTH = 2.0
#: standard deviation of ImageNet's pixels, BGR, 0..255: for weights that don't have it built in
_PIXEL_STD = [57.375, 57.120, 58.395]
#: anchors stay as they are where they cover this share of the boxes
GOOD_COVERAGE = 0.95
SHOWN_CLASSES = 8


def choose_classes(plan: Plan, facts: DataFacts) -> None:
    """Set the number of classes of the head that this architecture has."""
    key = num_classes_key(plan.cfg)
    count = len(facts.classes)
    if key is not None:
        plan.set(key, count)
        plan.set("MODEL.CLASS_MAP", [])
    names = ", ".join([*facts.classes[:SHOWN_CLASSES], *(["..."] if count > SHOWN_CLASSES else [])])
    plural = "class" if count == 1 else "classes"
    empty = f" ({facts.empty} without boxes are left out)" if facts.empty else ""
    plan.say(
        "data",
        f"{facts.images} images to train on{empty}, {facts.val_images or 'none'} to validate; "
        f"{count} {plural}: {names}",
    )
    absent = [n for n, c in zip(facts.classes, facts.boxes_per_class, strict=True) if not c]
    if absent:
        more = len(absent) - SHOWN_CLASSES
        named = ", ".join(absent[:SHOWN_CLASSES]) + (f" and {more} more" if more > 0 else "")
        plan.warnings.append(f"no box to train on of class {named}")


def choose_size(plan: Plan, request: Request, facts: DataFacts) -> None:
    """Set the size that images are resized to."""
    cfg = plan.cfg
    width, height = np.median(facts.image_sizes, axis=0).astype(int)
    if request.size is not None:
        _set_size(plan, [request.size], request.size)
        why = "--size"
    else:
        why = "the config's"
        factor = _growth(facts, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN)
        if factor > 1:
            shorter = [round(s * factor / 32) * 32 for s in cfg.INPUT.MIN_SIZE_TRAIN]
            _set_size(plan, shorter, round(cfg.INPUT.MAX_SIZE_TRAIN * factor / 32) * 32)
            why = "more than the config's, for small boxes"
        elif not (cfg.MODEL.WEIGHTS if request.weights is None else request.weights):
            # weights of a training elsewhere expect its sizes; random ones expect nothing
            longest = _no_larger_than_files(facts, cfg.INPUT.MAX_SIZE_TRAIN)
            if longest < cfg.INPUT.MAX_SIZE_TRAIN:
                _set_size(plan, [longest], longest)
                why = "as the files: enlarging shows nothing new"
    boxes = _resized(plan, facts)
    small = np.quantile(np.sqrt(boxes.prod(axis=1)), 0.05)
    longest = cfg.INPUT.MAX_SIZE_TRAIN
    plan.say(
        "size",
        f"longer side {longest} ({why}); files have about {width} x {height}, the smallest boxes "
        f"then {small:.0f} pixels",
    )
    if small < SMALL_BOX / 2:
        plan.warnings.append(
            f"the smallest boxes have {small:.0f} pixels after resizing and will hardly be found; "
            f"a larger --size helps (now {longest})"
        )


def _set_size(plan: Plan, shorter: list[int], longest: int) -> None:
    plan.set("INPUT.MIN_SIZE_TRAIN", tuple(shorter))
    plan.set("INPUT.MAX_SIZE_TRAIN", longest)
    plan.set("INPUT.MIN_SIZE_TEST", max(shorter))
    plan.set("INPUT.MAX_SIZE_TEST", longest)


def _growth(facts: DataFacts, shorter: tuple[int, ...], longest: int) -> float:
    """Return by how much images are to be larger, so that the small boxes have 16 pixels."""
    boxes = facts.resized_boxes(max(shorter), longest)
    small = np.quantile(np.sqrt(boxes.prod(axis=1)), 0.05)
    original = facts.image_sizes.max(axis=1).mean() / longest  # more shows nothing new
    return float(min(SMALL_BOX / max(small, 1e-3), LARGEST_GROWTH, original))


def _no_larger_than_files(facts: DataFacts, longest: int) -> int:
    """Return the longer side of most files, in steps of 32, if it is below `longest`."""
    side = float(np.quantile(facts.image_sizes.max(axis=1), 0.9))
    files = math.ceil(side / 32) * 32
    boxes = facts.resized_boxes(files, files)
    small = np.quantile(np.sqrt(boxes.prod(axis=1)), 0.05)
    return min(files, longest) if small >= SMALL_BOX else longest


def _resized(plan: Plan, facts: DataFacts) -> np.ndarray:
    sizes = plan.cfg.INPUT
    return facts.resized_boxes(max(sizes.MIN_SIZE_TRAIN), sizes.MAX_SIZE_TRAIN)


def choose_start(plan: Plan, request: Request) -> None:
    """Set where the weights start, and the norms and frozen layers that go with that.

    Random weights need norms that train and nothing frozen (He et al. 2019, "Rethinking ImageNet
    pre-training"): a frozen norm with statistics of no training does nothing useful.
    """
    cfg = plan.cfg
    if request.weights is not None:
        plan.set("MODEL.WEIGHTS", request.weights)
    if cfg.MODEL.WEIGHTS:
        frozen = cfg.MODEL.BACKBONE.FREEZE_AT
        plan.say(
            "start",
            f"weights {cfg.MODEL.WEIGHTS}; norm {cfg.MODEL.RESNETS.NORM}, "
            f"the first {frozen} stages stay as they are",
        )
        return
    plan.set("MODEL.BACKBONE.FREEZE_AT", 0)
    norm = cfg.MODEL.RESNETS.NORM
    if norm == "FrozenBN":
        norm = plan.set("MODEL.RESNETS.NORM", "GN")
        if not cfg.MODEL.FPN.NORM:
            plan.set("MODEL.FPN.NORM", "GN")
        if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" and not cfg.MODEL.RETINANET.NORM:
            plan.set("MODEL.RETINANET.NORM", "GN")
    if all(std == 1.0 for std in cfg.MODEL.PIXEL_STD):
        plan.set("MODEL.PIXEL_STD", _PIXEL_STD)
    plan.say("start", f"random weights: norm {norm} is trained, nothing is frozen")


def choose_anchors(plan: Plan, facts: DataFacts) -> None:
    """Scale the anchors to the boxes where they cover too few of them.

    Their number at a location stays, so that weights of a trained head still fit.
    """
    cfg, boxes = plan.cfg, _resized(plan, facts)
    if cfg.MODEL.META_ARCHITECTURE == "FCOS":
        plan.say("anchors", "none in this architecture")
        return
    if cfg.MODEL.META_ARCHITECTURE == "ATSS":
        plan.say("anchors", "the config's; ATSS sets its threshold for each box, whatever its size")
        return
    sizes, ratios = cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
    shapes = anchor_shapes(sizes, ratios)
    covered = share_covered(boxes, shapes)
    why = "the config's"
    if covered < GOOD_COVERAGE:
        factor = best_factor(boxes, shapes)
        if factor != 1 and not plan.is_explicit("MODEL.ANCHOR_GENERATOR.SIZES"):
            scaled = [[round(float(s) * factor, 1) for s in level] for level in sizes]
            sizes = plan.set("MODEL.ANCHOR_GENERATOR.SIZES", scaled)
            shapes = anchor_shapes(sizes, ratios)
            why = f"the config's x {factor:.2g}, to fit the boxes"
            covered = share_covered(boxes, shapes)
    flat = [size for level in sizes for size in level]
    plan.say(
        "anchors",
        f"{min(flat):.0f} to {max(flat):.0f} pixels ({why}); {covered:.0%} of the boxes reach IoU "
        "0.5 with their best shape",
    )
