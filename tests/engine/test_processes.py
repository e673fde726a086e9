"""A real detector in two processes learns as in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog
from lucidet.data.datasets import register_coco_instances
from lucidet.engine import DefaultTrainer, launch
from lucidet.utils import comm
from lucidet.utils.env import seed_all_rng


def train(folder: str, config: str, out: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(config)
    name = cfg.DATASETS.TRAIN[0]
    if name not in DatasetCatalog.list():  # a started process knows nothing of the test's
        register_coco_instances(name, {}, f"{folder}/tiny.json", folder)
    cfg.OUTPUT_DIR = out
    seed_all_rng(1)  # the same initial weights
    trainer = DefaultTrainer(cfg)
    trainer.train()
    if comm.is_main_process():
        losses = {
            name: [value for value, _ in history.values()]
            for name, history in trainer.storage.histories().items()
            if "loss" in name
        }
        Path(out, "losses.json").write_text(json.dumps(losses))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="meant for machines without GPU")
def test_two_processes_equal_one(tiny_cfg: Any, tmp_path: Path) -> None:
    # every candidate is sampled and each image has as many proposals, so nothing is left to chance
    tiny_cfg.MODEL.RESNETS.NORM = "FrozenBN"
    tiny_cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 100000
    tiny_cfg.MODEL.RPN.NMS_THRESH = 1.0
    tiny_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 1000
    tiny_cfg.INPUT.RANDOM_FLIP = "none"
    tiny_cfg.DATASETS.TEST = ()
    config = tmp_path / "c.yaml"
    config.write_text(tiny_cfg.dump())
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        arguments = (str(tmp_path), str(config), str(out))
        launch(train, processes, dist_url="auto", args=arguments)
    one, two = (json.loads((tmp_path / n / "losses.json").read_text()) for n in "12")
    assert set(one) == {"total_loss", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    for name, values in one.items():
        assert len(values) == 4
        assert two[name] == pytest.approx(values, rel=1e-3), name
