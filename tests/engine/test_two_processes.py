"""Dense detectors in two processes learn as in one with the same images in a batch.

What is compared: the losses that are reported and, through the later iterations, the updates.

- ATSS divides its losses by the positives of *all* processes, so nothing else is needed.
- RetinaNet, as in detectron2, divides by a running mean of the positives of its *own* process
  (``MODEL.RETINANET.LOSS_NORMALIZER "ema"``), which starts from 100 whatever the batch. Two
  processes with one image each then start from 100 an image, one process with two images from 100
  for both: the losses differ by nearly a factor of 2 at first, and by less and less. With "image"
  every image is divided by its own positives and the mean is taken, so both must agree.

Faster R-CNN is in `test_processes`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.engine import launch
from tests.engine.test_processes import train

LOSSES = {
    "RetinaNet": {"total_loss", "loss_cls", "loss_box_reg"},
    "ATSS": {"total_loss", "loss_cls", "loss_box_reg", "loss_centerness"},
}


def as_dense(cfg: Any, architecture: str) -> None:
    """Turn the tiny Faster R-CNN config into that of a dense detector."""
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.NORM = "FrozenBN"  # batch norm would see other batches
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    section = cfg.MODEL[architecture.upper()]
    section.NUM_CLASSES = 2
    section.NUM_CONVS = 1
    section.NORM = ""
    if architecture == "RetinaNet":
        section.LOSS_NORMALIZER = "image"
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.DATASETS.TEST = ()


def losses_of(cfg: Any, processes: int, folder: Path) -> dict[str, list[float]]:
    config = folder / "c.yaml"
    config.write_text(cfg.dump())
    out = folder / str(processes)
    out.mkdir()
    launch(train, processes, dist_url="auto", args=(str(folder), str(config), str(out)))
    return json.loads((out / "losses.json").read_text())


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="meant for machines without GPU")
@pytest.mark.parametrize("architecture", list(LOSSES))
def test_two_processes_equal_one(tiny_cfg: Any, tmp_path: Path, architecture: str) -> None:
    as_dense(tiny_cfg, architecture)
    one, two = (losses_of(tiny_cfg, processes, tmp_path) for processes in (1, 2))
    assert set(one) == set(two) == LOSSES[architecture]
    for name, values in one.items():
        assert len(values) == tiny_cfg.SOLVER.MAX_ITER
        assert two[name] == pytest.approx(values, rel=1e-3), name
