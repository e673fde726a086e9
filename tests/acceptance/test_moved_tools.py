"""Checkpoints, evaluators, solver, zoo and registry as moved code uses them."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.acceptance.moved_code import BALLOONS


def test_checkpointing(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2.checkpoint import Checkpointer, DetectionCheckpointer, PeriodicCheckpointer

model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
checkpointer = DetectionCheckpointer(model, save_dir="output", optimizer=optimizer)
import os
os.makedirs("output", exist_ok=True)
checkpointer.save("model_999", iteration=999)
periodic = PeriodicCheckpointer(checkpointer, period=2, max_iter=4, max_to_keep=1)
for i in range(4):
    periodic.step(i)
before = model[0].weight.clone()
nn.init.zeros_(model[0].weight)
rest = DetectionCheckpointer(model).load("output/model_999.pth")
with torch.no_grad():
    model[0].weight.zero_()
again = DetectionCheckpointer(model, "output", optimizer=optimizer)
resumed = again.resume_or_load("", resume=True)
files = sorted(os.listdir("output"))
plain = torch.load("output/model_999.pth", weights_only=True)
"""
    )
    assert found["rest"]["iteration"] == 999
    assert found["resumed"]["iteration"] == 3
    assert found["before"].equal(found["model"][0].weight)
    assert set(found["plain"]) >= {"model", "optimizer", "iteration"}
    assert "model_final.pth" in found["files"]
    assert found["again"].has_checkpoint()
    assert found["again"].get_checkpoint_file() == os.path.join("output", "model_final.pth")


def test_evaluators_alone(run: Any) -> None:
    found = run(
        BALLOONS
        + """
import torch
from detectron2.evaluation import (
    COCOEvaluator, DatasetEvaluator, DatasetEvaluators, inference_on_dataset, print_csv_format,
)
from detectron2.structures import Boxes, Instances

class Counter(DatasetEvaluator):
    def reset(self):
        self.count = 0
    def process(self, inputs, outputs):
        for output in outputs:
            self.count += len(output["instances"])
    def evaluate(self):
        return {"count": self.count}

def model(inputs):
    outputs = []
    for x in inputs:
        r = Instances((x["height"], x["width"]))
        r.pred_boxes = Boxes(torch.tensor([[10.5, 10.5, 40.5, 40.5]]))
        r.scores = torch.tensor([0.9])
        r.pred_classes = torch.tensor([0])
        outputs.append({"instances": r})
    return outputs

evaluator = COCOEvaluator("balloon_val", ("bbox",), False, output_dir="./output/")
evaluator.reset()
for record in DatasetCatalog.get("balloon_val"):
    evaluator.process([record], model([record]))
alone = evaluator.evaluate()
print_csv_format(alone)
loader = [[record] for record in DatasetCatalog.get("balloon_val")]
together = inference_on_dataset(
    model, loader, DatasetEvaluators([COCOEvaluator("balloon_val", output_dir="o"), Counter()])
)
"""
    )
    assert found["alone"]["bbox"]["AP"] == pytest.approx(100)
    assert found["together"]["count"] == 4


def test_zoo_solver_and_registry(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances, load_coco_json
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils.env import seed_all_rng
from detectron2.utils.registry import Registry
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.file_io import PathManager

seed_all_rng(3)
cfg = get_cfg()
cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
url = model_zoo.get_checkpoint_url("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
params = get_default_optimizer_params(net, base_lr=0.1, weight_decay_norm=0.0, bias_lr_factor=2.0)
optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)(params, lr=0.1, momentum=0.9)
scheduler = build_lr_scheduler(cfg, optimizer)

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, data):
        return {"loss": self.net(data).square().mean()}

loader = [torch.rand(2, 3, 4, 4)] * 100
trainer = SimpleTrainer(Wrapped(), loader, optimizer)
trainer.register_hooks([hooks.IterationTimer(), hooks.LRScheduler(scheduler=scheduler)])
trainer.train(0, 3)

THINGS = Registry("THINGS")
@THINGS.register()
class Thing:
    pass
made = THINGS.get("Thing")()
with PathManager.open("note.txt", "w") as f:
    f.write(collect_env_info())
"""
    )
    assert re.search(r"dl\.fbaipublicfiles|detectron2", found["url"])
    assert found["trainer"].iter == 3
    assert len(found["trainer"].storage.history("total_loss").values()) == 3
