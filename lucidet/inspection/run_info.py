"""Plain facts on a run: config values, limits, schedule, gradients, the optimiser's groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lucidet.config import CfgNode
from lucidet.config.tracked_node import state_of
from lucidet.config.values import to_yaml
from lucidet.solver import build_lr_scheduler, scale_to_batch

__all__ = ["config_rows", "gradient_rows", "limits_of", "optimizer_groups", "schedule_points"]


def config_rows(cfg: CfgNode) -> list[list[Any]]:
    """Return [key, value, origin, read] for every key, sorted by key."""
    rows: list[list[Any]] = []
    for key, node in sorted(cfg._leaves(), key=lambda leaf: leaf[0]):
        name = key.rpartition(".")[2]
        read = name in state_of(node).read
        rows.append([key, to_yaml(node._raw(name)), cfg.origin(key), read])
    return rows


def schedule_points(cfg: CfgNode, count: int = 400) -> dict[str, Any]:
    """Return the batch, the full rate, and the learning rate at points of the whole run."""
    own = cfg.clone()  # reading it here is not the model's reading
    for node in {id(n): n for _, n in own._leaves()}.values():
        state_of(node).source = None
    try:
        own, _ = scale_to_batch(own)
        solver = own.SOLVER
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=solver.BASE_LR)
        schedule: Any = build_lr_scheduler(own, optimizer)
        last = solver.MAX_ITER
        warmup = min(solver.WARMUP_ITERS, last)
        positions = {round(i * last / count) for i in range(count + 1)}
        positions |= {round(i * warmup / 40) for i in range(41)}
        positions |= {s + d for s in solver.STEPS for d in (-1, 0) if 0 < s + d <= last}
        points = [[p, solver.BASE_LR * schedule._multiplier(p / last)] for p in sorted(positions)]
    except (ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        return {"error": str(error), "points": []}
    return {
        "batch": solver.IMS_PER_BATCH,
        "base_lr": solver.BASE_LR,
        "max_iter": last,
        "warmup": warmup,
        "steps": list(solver.STEPS),
        "name": solver.LR_SCHEDULER_NAME,
        "points": points,
        "error": "",
    }


def limits_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the numbers by which checks and drawings judge a trace."""
    name = cfg.MODEL.META_ARCHITECTURE
    two_stage = name in ("GeneralizedRCNN", "ProposalNetwork")
    section = cfg.MODEL.ROI_HEADS if two_stage else cfg.MODEL.get(name.upper(), {})
    dense_thresholds = list(section.get("IOU_THRESHOLDS", []) or [])
    return {
        "num_classes": None if name == "ProposalNetwork" else section.get("NUM_CLASSES", None),
        "pixel_mean": [float(v) for v in cfg.MODEL.PIXEL_MEAN],
        "pixel_std": [float(v) for v in cfg.MODEL.PIXEL_STD],
        "format": cfg.INPUT.FORMAT,
        "masks": cfg.MODEL.MASK_ON,
        "keypoints": cfg.MODEL.KEYPOINT_ON,
        "thresholds": {
            "rpn.assign": list(cfg.MODEL.RPN.IOU_THRESHOLDS) if two_stage else [],
            "roi.assign": list(cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS) if two_stage else [],
            "dense.assign": dense_thresholds if name == "RetinaNet" else [],
        },
        "detections": cfg.TEST.DETECTIONS_PER_IMAGE,
        "proposals": {
            "train": cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN if two_stage else 0,
            "eval": cfg.MODEL.RPN.POST_NMS_TOPK_TEST if two_stage else 0,
        },
        "candidates": section.get("TOPK_CANDIDATES_TEST", 0) if not two_stage else 0,
        "nms": {
            "rpn": cfg.MODEL.RPN.NMS_THRESH if two_stage else 0.0,
            "detections": section.get("NMS_THRESH_TEST", 0.5),
        },
    }


def gradient_rows(model: nn.Module) -> list[list[Any]]:
    """Return [name, numbers, norm of the weight, norm of the gradient] for every parameter.

    The gradient's norm is None for a parameter that has none, -1 for a frozen one.
    """
    rows: list[list[Any]] = []
    for name, parameter in model.named_parameters():
        norm: float | None = -1.0
        if parameter.requires_grad:
            grad = parameter.grad
            norm = None if grad is None else float(grad.detach().double().norm())
        weight = float(parameter.detach().double().norm())
        rows.append([name, parameter.numel(), weight, norm])
    return rows


def optimizer_groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return each group's settings that are plain numbers, and what it holds."""
    groups = []
    for group in optimizer.param_groups:
        settings = {
            key: value
            for key, value in group.items()
            if isinstance(value, bool | int | float) and key not in ("foreach", "fused")
        }
        tensors = len(group["params"])
        numbers = sum(p.numel() for p in group["params"])
        groups.append({"tensors": tensors, "numbers": numbers, **settings})
    return groups
