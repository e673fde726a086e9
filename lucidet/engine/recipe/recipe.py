"""The choices, in the order in which each depends on those before."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch

from lucidet.config import CfgNode
from lucidet.engine.recipe.facts import DataFacts
from lucidet.engine.recipe.model import choose_anchors, choose_classes, choose_size, choose_start
from lucidet.engine.recipe.plan import Plan, Request, count

__all__ = ["memory_estimate", "plan_training"]

#: epochs without --epochs: random weights need more; large datasets fewer, as they have more steps
EPOCHS_RANDOM, EPOCHS_PRETRAINED, LARGE_DATASET, SHARE_LARGE = 50, 20, 10_000, 0.6
WARMUP_SHARE = 0.1
#: a training is evaluated at most this often, and never more than once an epoch
MOST_EVALUATIONS = 10
CHECKPOINTS = 3
#: bytes of GPU memory for an image of 800 x 1333 pixels through a ResNet-50-FPN at training
_BYTES_PER_IMAGE = 2.2 * 2**30


def plan_training(
    cfg: CfgNode, request: Request, facts: DataFacts, overrides: Sequence[str] = ()
) -> Plan:
    """Fill in what a training of the config's model on this dataset needs.

    Args:
        cfg: the model's config; changed in place.
        request: the short options.
        facts: of the dataset.
        overrides: ``[KEY, VALUE, ...]`` of the user: they stay, and what follows from them follows.

    Returns:
        The plan with the config and a line for each choice.
    """
    batch, iterations = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER
    cfg.merge_from_list(list(overrides))
    plan = Plan(cfg, frozenset(overrides[::2]), batch, iterations)
    plan.set("DATASETS.TRAIN", facts.train)
    plan.set("DATASETS.TEST", facts.test)
    choose_device(plan)
    choose_classes(plan, facts)
    choose_size(plan, request, facts)
    choose_start(plan, request)
    choose_anchors(plan, facts)
    choose_batch(plan, request, facts)
    choose_schedule(plan, request, facts)
    choose_evaluation(plan, facts)
    choose_loading(plan)
    return plan


def choose_device(plan: Plan) -> None:
    """Set the device: a GPU where there is one."""
    if torch.cuda.is_available():
        plan.set("MODEL.DEVICE", "cuda")
    else:
        plan.set("MODEL.DEVICE", "mps" if torch.backends.mps.is_available() else "cpu")


def choose_batch(plan: Plan, request: Request, facts: DataFacts) -> None:
    """Set the batch, and the rate for it by the linear rule (Goyal et al. 2017)."""
    cfg = plan.cfg
    reference, rate = plan.reference_batch or cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR
    if plan.is_explicit("SOLVER.IMS_PER_BATCH"):
        batch, why = cfg.SOLVER.IMS_PER_BATCH, "as set"
    else:
        batch, why = request.batch, "--batch"
        if batch is None:
            batch, why = _fitting_batch(plan, request, facts)
        plan.set("SOLVER.IMS_PER_BATCH", batch)
    scaled = plan.set("SOLVER.BASE_LR", rate * batch / reference)
    epoch = max(1, round(facts.images / batch))
    plan.say("batch", f"{count(batch, 'image')} ({why}); an epoch is {count(epoch, 'iteration')}")
    rule = (
        "as set"
        if plan.is_explicit("SOLVER.BASE_LR")
        else f"{rate:g} x {batch}/{reference}, the linear rule"
    )
    plan.say("rate", f"{scaled:g} ({rule}), {cfg.SOLVER.OPTIMIZER}")
    if batch % request.processes:
        raise ValueError(
            f"a batch of {batch} images cannot be split over {request.processes} processes; set "
            f"--batch to a multiple of {request.processes}"
        )
    norms_see = batch // request.processes
    if cfg.MODEL.RESNETS.NORM == "BN" and norms_see < 4 and not cfg.MODEL.WEIGHTS:
        plan.warnings.append(
            f"BatchNorm over {norms_see} images is noisy; train with --batch 8, or with "
            "MODEL.RESNETS.NORM GN MODEL.FPN.NORM GN"
        )


def _fitting_batch(plan: Plan, request: Request, facts: DataFacts) -> tuple[int, str]:
    """Return the config's batch, or what memory and dataset allow, and why."""
    cfg, processes = plan.cfg, request.processes
    wanted = cfg.SOLVER.IMS_PER_BATCH
    if cfg.MODEL.DEVICE.startswith("cuda"):
        memory = torch.cuda.get_device_properties(0).total_memory * 0.8
        room = memory / (memory_estimate(cfg) / wanted)
        limit, why = int(room) * processes, "what the GPU's memory holds"
    else:
        limit, why = (2 if _cost(cfg) > 0.5 else wanted), "a CPU is slow with more"
    if facts.images < min(limit, wanted):
        limit, why = facts.images, "all images there are"
    if wanted <= limit:
        return wanted, "the config's"
    part = max(1, 2 ** int(math.log2(max(1, limit / processes))))
    return part * processes, why


def memory_estimate(cfg: CfgNode) -> float:
    """Return about how many bytes a training step of SOLVER.IMS_PER_BATCH images takes."""
    pixels = max(cfg.INPUT.MIN_SIZE_TRAIN) * cfg.INPUT.MAX_SIZE_TRAIN / (800 * 1333)
    depth = cfg.MODEL.RESNETS.DEPTH / 50
    return cfg.SOLVER.IMS_PER_BATCH * _BYTES_PER_IMAGE * max(pixels, 0.05) * max(depth, 0.3)


def _cost(cfg: CfgNode) -> float:
    """Return the pixels times layers of an image, relative to 800 x 1333 in a ResNet-50."""
    pixels = max(cfg.INPUT.MIN_SIZE_TRAIN) * cfg.INPUT.MAX_SIZE_TRAIN / (800 * 1333)
    return pixels * cfg.MODEL.RESNETS.DEPTH / 50


def choose_schedule(plan: Plan, request: Request, facts: DataFacts) -> None:
    """Set iterations from epochs, and the steps and the warm-up within them."""
    cfg = plan.cfg
    solver = cfg.SOLVER
    reference, batch = plan.reference_iterations or solver.MAX_ITER, solver.IMS_PER_BATCH
    epochs, why = request.epochs, "--epochs"
    if epochs is None:
        epochs = EPOCHS_PRETRAINED if cfg.MODEL.WEIGHTS else EPOCHS_RANDOM
        if facts.images >= LARGE_DATASET:
            epochs *= SHARE_LARGE
        why = "for pretrained weights" if cfg.MODEL.WEIGHTS else "for random weights"
    iterations = plan.set("SOLVER.MAX_ITER", max(1, math.ceil(epochs * facts.images / batch)))
    if plan.is_explicit("SOLVER.MAX_ITER"):
        epochs, why = iterations * batch / facts.images, "SOLVER.MAX_ITER as set"
    warm_up = min(solver.WARMUP_ITERS, round(iterations * WARMUP_SHARE))
    warm_up = plan.set("SOLVER.WARMUP_ITERS", warm_up)
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = tuple(sorted({round(iterations * step / reference) for step in solver.STEPS}))
        steps = plan.set("SOLVER.STEPS", tuple(s for s in steps if 0 < s < iterations))
        shape = f"rate x {solver.GAMMA:g} at {', '.join(map(str, steps)) or 'no iteration'}"
    else:
        shape = {"WarmupCosineLR": "cosine"}.get(solver.LR_SCHEDULER_NAME, solver.LR_SCHEDULER_NAME)
    plan.say(
        "schedule",
        f"{count(epochs, 'epoch')} ({why}) = {count(iterations, 'iteration')}; {shape}; warm-up "
        f"{warm_up}",
    )


def choose_evaluation(plan: Plan, facts: DataFacts) -> None:
    """Set when to evaluate and to save, and how many detections an image may have."""
    cfg = plan.cfg
    iterations = cfg.SOLVER.MAX_ITER
    epoch = max(1, round(facts.images / cfg.SOLVER.IMS_PER_BATCH))
    period = math.ceil(max(epoch, iterations / MOST_EVALUATIONS) / epoch) * epoch
    if facts.test:
        period = plan.set("TEST.EVAL_PERIOD", period)
        metric = plan.set("SOLVER.BEST_CHECKPOINT.METRIC", "bbox/AP")
        best = f"; the best {metric} is kept as model_best.pth" if metric else ""
        when = f"every {count(period, 'iteration')}" if 0 < period < iterations else "at the end"
        plan.say("evaluate", f"{when}{best}")
    else:
        plan.say("evaluate", "never: there is no validation data (--val SPEC names some)")
    plan.set("SOLVER.CHECKPOINT_PERIOD", max(epoch, math.ceil(iterations / CHECKPOINTS)))
    if facts.most_boxes > cfg.TEST.DETECTIONS_PER_IMAGE:
        most = plan.set("TEST.DETECTIONS_PER_IMAGE", math.ceil(facts.most_boxes * 1.5 / 100) * 100)
        plan.say("detections", f"{most} an image, as one image has {facts.most_boxes} boxes")


def choose_loading(plan: Plan) -> None:
    """Set the worker processes and the seed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    device = plan.cfg.MODEL.DEVICE
    # on a CPU the training itself uses the cores; reading takes a hundredth of its time
    workers = min(4, cores // 8) if device == "cpu" else min(plan.cfg.DATALOADER.NUM_WORKERS, cores)
    workers = plan.set("DATALOADER.NUM_WORKERS", workers)
    plan.set("SEED", max(0, plan.cfg.SEED))
    plan.say("device", f"{device}, {cores} cores; {workers} processes read images")
