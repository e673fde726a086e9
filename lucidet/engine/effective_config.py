"""What the trainer works out from the config's values."""

from __future__ import annotations

import logging

import torch

from lucidet.config import CfgNode
from lucidet.solver import scale_to_batch
from lucidet.utils import comm

logger = logging.getLogger(__name__)


def for_one_batch(cfg: CfgNode) -> CfgNode:
    """Return the config for loading: ``IMS_PER_BATCH`` is split into ``ACCUMULATE`` batches.

    Raises:
        ValueError: it cannot be split evenly.
    """
    images, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE
    if parts == 1:
        return cfg
    if parts < 1 or images % parts:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {images} (images of one update) must be a multiple of "
            f"SOLVER.ACCUMULATE {parts} (batches of one update)"
        )
    part = cfg.clone()
    part.defrost()
    part.SOLVER.IMS_PER_BATCH = images // parts
    part.freeze()
    return part


def with_seed(cfg: CfgNode) -> CfgNode:
    """Return the config with a SEED >= 0: a negative one is drawn here, once for all processes."""
    if cfg.SEED >= 0:
        return cfg
    frozen, seeded = cfg.is_frozen(), cfg.clone()
    seeded.defrost()
    seeded.SEED = comm.shared_random_seed()
    if frozen:
        seeded.freeze()
    return seeded


def amp_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the 16-bit type called ``SOLVER.AMP.DTYPE``: bf16, fp16, or "" for what suits."""
    known = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if name in known:
        return known[name]
    if name:
        raise ValueError(f"SOLVER.AMP.DTYPE must be one of bf16, fp16 and '', got {name!r}")
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float16


def scale_to_processes(cfg: CfgNode, num_workers: int) -> CfgNode:
    """Return a config scaled from ``SOLVER.REFERENCE_WORLD_SIZE`` to `num_workers` processes.

    See `DefaultTrainer.auto_scale_workers`.

    Raises:
        ValueError: the batch is no multiple of REFERENCE_WORLD_SIZE.
    """
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference in (0, num_workers):
        return cfg
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % reference:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {batch} is no multiple of SOLVER.REFERENCE_WORLD_SIZE "
            f"{reference}"
        )
    frozen = cfg.is_frozen()
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.REFERENCE_BATCH = batch
    scaled.SOLVER.IMS_PER_BATCH = batch // reference * num_workers
    scaled, table = scale_to_batch(scaled)
    scaled.defrost()
    scaled.SOLVER.REFERENCE_WORLD_SIZE = num_workers
    logger.info("Scaled from %d to %d processes:\n%s", reference, num_workers, table)
    if frozen:
        scaled.freeze()
    return scaled
