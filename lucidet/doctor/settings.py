"""The config against the data: classes, rate, schedule, memory, anchors, unread keys."""

# M ground-truth boxes

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from lucidet.config import CfgNode, get_cfg
from lucidet.config.checks import check_supported
from lucidet.doctor.boxes import sizes_of_input
from lucidet.doctor.findings import Case, Finding, finding
from lucidet.doctor.material import Material, Split
from lucidet.engine.checks import num_classes_key
from lucidet.engine.config_report import value_at
from lucidet.engine.recipe.anchors import COVERED, anchor_shapes, share_covered
from lucidet.engine.recipe.facts import resize_scale
from lucidet.engine.recipe.model import GOOD_COVERAGE
from lucidet.engine.recipe.recipe import memory_estimate
from lucidet.model_zoo.listing import count_parameters

__all__ = ["check_settings", "epochs_of"]

#: SOLVER.BASE_LR of SGD for a batch of 16, as published with each architecture
_RATES = {"GeneralizedRCNN": 0.02, "RetinaNet": 0.01, "ATSS": 0.01, "FCOS": 0.01}
_RATE_BATCH = 16
#: a rate is odd when it is this many times larger or smaller than the linear rule says
_RATE_FACTOR = 5.0
#: of AdamW, whatever the batch
_ADAM_RATES = (1e-6, 1e-3)
FEW_EPOCHS, MANY_EPOCHS = 1.0, 1000.0
#: sections that building the model reads completely
_READ_BY_BUILDING = ("MODEL.",)


def check_settings(material: Material) -> list[Finding]:
    """Return findings about a config and the data that it is to be trained on."""
    cfg, train = material.cfg, material.train
    if cfg is None:
        return []
    findings = [*_builds(cfg), *_frozen(cfg)]
    if train is None:
        return findings
    return [
        *findings,
        *_classes(cfg, train),
        *_rate(cfg),
        *_schedule(cfg, train),
        *_memory(cfg),
        *_anchors(cfg, train),
    ]


def epochs_of(cfg: CfgNode, images: int) -> float:
    """Return how often a training sees each image."""
    return cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH / max(1, images)


def _builds(cfg: CfgNode) -> Iterator[Finding]:
    """Build the model without memory for its weights; name keys that nobody has read by then."""
    try:
        check_supported(cfg)
        count_parameters(cfg)
    except (ValueError, KeyError) as error:
        yield finding("config-refused", str(error.args[0] if error.args else error))
        return
    default = get_cfg()
    unread = [
        key
        for key in cfg.unread_keys()
        if key.startswith(_READ_BY_BUILDING)
        and "TEST" not in key
        and key != "MODEL.WEIGHTS"
        and value_at(cfg, key) != value_at(default, key)
    ]
    if unread:
        cases = [Case(cfg.origin(key), text=key) for key in unread]
        name = cfg.MODEL.META_ARCHITECTURE
        yield finding("config-unread", f"{{n}} keys are set and have no effect in {name}", cases)


def _frozen(cfg: CfgNode) -> Iterator[Finding]:
    model = cfg.MODEL
    if model.WEIGHTS or "resnet" not in model.BACKBONE.NAME:
        return
    cases = []
    if model.BACKBONE.FREEZE_AT > 0:
        cases.append(Case(text=f"MODEL.BACKBONE.FREEZE_AT {model.BACKBONE.FREEZE_AT}"))
    if model.RESNETS.NORM == "FrozenBN":
        cases.append(Case(text="MODEL.RESNETS.NORM FrozenBN"))
    if cases:
        text = "MODEL.WEIGHTS is empty, and layers with random weights would never be trained"
        yield finding("frozen-random", text, cases)


def _classes(cfg: CfgNode, train: Split) -> Iterator[Finding]:
    key = num_classes_key(cfg)
    if key is None or cfg.MODEL.CLASS_MAP or not train.classes:
        return
    number = value_at(cfg, key)
    if number != len(train.classes):
        shown = ", ".join(train.classes[:5]) + (" ..." if train.classes[5:] else "")
        yield finding(
            "num-classes",
            f"{key} is {number}, but the data have {len(train.classes)} classes ({shown})",
            [Case(cfg.origin(key), text=f"{key} {number}")],
            repair=f"set {key} {len(train.classes)} (background is not counted)",
        )


def _rate(cfg: CfgNode) -> Iterator[Finding]:
    solver = cfg.SOLVER
    rate, batch = solver.BASE_LR, solver.IMS_PER_BATCH
    case = [Case(cfg.origin("SOLVER.BASE_LR"), text=f"SOLVER.BASE_LR {rate:g}")]
    if solver.OPTIMIZER != "SGD":
        low, high = _ADAM_RATES
        if not low <= rate <= high:
            name = solver.OPTIMIZER
            text = f"SOLVER.BASE_LR is {rate:g}; usual for {name} is {low:g} to {high:g}"
            yield finding("learning-rate", text, case, repair="set SOLVER.BASE_LR 0.0001")
        return
    usual = _RATES.get(cfg.MODEL.META_ARCHITECTURE)
    if usual is None or solver.REFERENCE_BATCH > 0:
        return
    expected = usual * batch / _RATE_BATCH
    if not expected / _RATE_FACTOR <= rate <= expected * _RATE_FACTOR:
        yield finding(
            "learning-rate",
            f"SOLVER.BASE_LR is {rate:g} for a batch of {batch}; the linear rule gives "
            f"{expected:g} ({usual:g} for a batch of {_RATE_BATCH})",
            case,
            repair=f"set SOLVER.BASE_LR {expected:g}",
        )


def _schedule(cfg: CfgNode, train: Split) -> Iterator[Finding]:
    solver = cfg.SOLVER
    epochs = epochs_of(cfg, len(train.records))

    def odd(text: str, repair: str, key: str) -> Finding:
        return finding("schedule", text, [Case(cfg.origin(key), text=key)], repair=repair)

    iterations = f"SOLVER.MAX_ITER {solver.MAX_ITER} with a batch of {solver.IMS_PER_BATCH}"
    if epochs < FEW_EPOCHS:
        text = f"{iterations} sees {epochs:.0%} of the {len(train.records):,} images"
        yield odd(text, "raise SOLVER.MAX_ITER, or use --epochs N", "SOLVER.MAX_ITER")
    elif epochs > MANY_EPOCHS:
        text = f"{iterations} is {epochs:,.0f} epochs of {len(train.records):,} images"
        yield odd(text, "lower SOLVER.MAX_ITER, or use --epochs N", "SOLVER.MAX_ITER")
    if 0 < solver.MAX_ITER <= solver.WARMUP_ITERS:
        yield odd(
            f"SOLVER.WARMUP_ITERS is {solver.WARMUP_ITERS}, the run has {solver.MAX_ITER} "
            "iterations: the rate never reaches BASE_LR",
            f"set SOLVER.WARMUP_ITERS {solver.MAX_ITER // 10}",
            "SOLVER.WARMUP_ITERS",
        )
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if late and solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        wanted = tuple(round(solver.MAX_ITER * share) for share in (0.67, 0.89))
        yield odd(
            f"the rate is to fall at {late}, the run ends at {solver.MAX_ITER}",
            f'set SOLVER.STEPS "{wanted}"',
            "SOLVER.STEPS",
        )


def _memory(cfg: CfgNode) -> Iterator[Finding]:
    device = cfg.MODEL.DEVICE
    if device.startswith("cuda") and torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
    elif device == "cpu" and hasattr(os, "sysconf"):
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return
    needed = memory_estimate(cfg)
    if needed > there:
        yield finding(
            "memory",
            f"a batch of {cfg.SOLVER.IMS_PER_BATCH} images takes about {needed / 2**30:.0f} GiB, "
            f"{device} has {there / 2**30:.0f}",
        )


def _anchors(cfg: CfgNode, train: Split) -> Iterator[Finding]:
    if (
        cfg.MODEL.META_ARCHITECTURE in ("FCOS", "ATSS")
        or "rotated" in str(cfg.MODEL.ANCHOR_GENERATOR.NAME).lower()
    ):
        return
    table = train.boxes
    sides = table.xyxy[~table.crowd, 2:] - table.xyxy[~table.crowd, :2]
    if not len(sides):
        return
    image = train.sizes[table.image[~table.crowd]].clip(min=1)
    sides = sides * resize_scale(image, *sizes_of_input(cfg, "train"))[:, None]
    generator = cfg.MODEL.ANCHOR_GENERATOR
    covered = share_covered(sides, anchor_shapes(generator.SIZES, generator.ASPECT_RATIOS))
    if covered < GOOD_COVERAGE - 0.15:
        text = f"only {covered:.0%} of the boxes reach IoU {COVERED:g} with their best anchor shape"
        yield finding("anchors", text, [Case(cfg.origin("MODEL.ANCHOR_GENERATOR.SIZES"))])
