"""Trainers of users that set themselves up, and pictures of videos."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tests.acceptance.moved_code import BALLOONS, CONFIG


def test_trainer_that_skips_the_parents_set_up(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import weakref
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import AMPTrainer, DefaultTrainer, SimpleTrainer, create_ddp_model
from detectron2.utils import comm

class MovedTrainer(DefaultTrainer):
    def __init__(self, cfg):
        super(DefaultTrainer, self).__init__()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        inner = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = inner(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter, self.max_iter, self.cfg = 0, cfg.SOLVER.MAX_ITER, cfg
        self.register_hooks(self.build_hooks())

first = MovedTrainer(cfg)
first.resume_or_load(resume=False)
first.train()
cfg.SOLVER.MAX_ITER = 3
second = MovedTrainer(cfg)
second.resume_or_load(resume=True)
resumed_at = second.start_iter
second.train()
"""
    )
    assert found["resumed_at"] == 2
    assert found["second"].iter == 3
    assert os.path.isfile("output/model_final.pth")


def test_video_and_own_visualizer(run: Any) -> None:
    found = run(
        """
import numpy as np, torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, Visualizer, _create_text_labels, random_color

def detections(*boxes):
    r = Instances((48, 64))
    r.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    r.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    r.scores = torch.full((len(boxes),), 0.9)
    return r

class Pale(Visualizer):
    def draw_instance_predictions(self, predictions):
        labels = _create_text_labels(
            predictions.pred_classes.tolist(), predictions.scores, ["cat"], is_crowd=None
        )
        colors = [self._jitter(random_color(rgb=True, maximum=1)) for _ in labels]
        return self.overlay_instances(
            masks=None, boxes=predictions.pred_boxes, labels=labels, keypoints=None,
            assigned_colors=[self._change_color_brightness(c, 0.5) for c in colors], alpha=0.3,
        )

frame = np.zeros((48, 64, 3), np.uint8)
metadata = MetadataCatalog.get("coco_2017_val")
pale = Pale(frame, metadata).draw_instance_predictions(detections([5.0, 20, 40, 40])).get_image()

video = VideoVisualizer(metadata, ColorMode.IMAGE)
corners = []
for boxes in ([[5.0, 20, 40, 45]], [[0.0, 0, 4, 4], [6.0, 20, 41, 45]], [], [[5.0, 20, 40, 45]]):
    picture = video.draw_instance_predictions(frame, detections(*boxes)).get_image()
    corners.append(tuple(picture[44, 5:8].max(axis=0)))
"""
    )
    assert found["pale"].any()
    first, second, empty, fresh = found["corners"]
    assert first == second != (0, 0, 0)
    assert empty == (0, 0, 0)
    assert fresh != first  # what was gone is another object
    assert np.asarray(found["frame"]).max() == 0


def test_hook_before_the_last_one_is_written(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import json
from detectron2.engine import DefaultTrainer, HookBase

class Measure(HookBase):
    def after_step(self):
        self.trainer.storage.put_scalar("mine", self.trainer.iter, smoothing_hint=False)

class MovedTrainer(DefaultTrainer):
    def build_hooks(self):
        hooks = super().build_hooks()
        hooks[-1]._period = 1
        hooks.insert(-1, Measure())
        return hooks

trainer = MovedTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
lines = [json.loads(line) for line in open("output/metrics.json")]
"""
    )
    assert [line["mine"] for line in found["lines"]] == [0, 1]
