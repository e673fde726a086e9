"""Parts of a detector that users wrote for detectron2's registries."""

from __future__ import annotations

from typing import Any

from tests.acceptance.moved_code import BALLOONS, CONFIG


def test_own_roi_heads_and_box_head(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import torch
from torch import nn
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    ROI_BOX_HEAD_REGISTRY, ROI_HEADS_REGISTRY, StandardROIHeads, build_model,
)
from detectron2.structures import Boxes, Instances

@ROI_BOX_HEAD_REGISTRY.register()
class MovedBoxHead(nn.Module):
    def __init__(self, cfg, input_shape: ShapeSpec):
        super().__init__()
        size = input_shape.channels * input_shape.height * input_shape.width
        self.fc = nn.Linear(size, cfg.MODEL.ROI_BOX_HEAD.FC_DIM)
        self._output = ShapeSpec(channels=cfg.MODEL.ROI_BOX_HEAD.FC_DIM)

    @property
    def output_shape(self):
        return self._output

    def forward(self, x):
        return self.fc(torch.flatten(x, start_dim=1)).relu()

@ROI_HEADS_REGISTRY.register()
class MovedROIHeads(StandardROIHeads):
    def __init__(self, cfg, input_shape):
        super().__init__(cfg, input_shape)
        self.quality = nn.Linear(self.box_head.output_shape.channels, 1)

    def _forward_box(self, features, proposals):
        features = [features[f] for f in self.box_in_features]
        box_features = self.box_pooler(features, [x.proposal_boxes for x in proposals])
        box_features = self.box_head(box_features)
        predictions = self.box_predictor(box_features)
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            losses["loss_quality"] = self.quality(box_features).square().mean()
            return losses
        pred_instances, _ = self.box_predictor.inference(predictions, proposals)
        return pred_instances

cfg.MODEL.ROI_HEADS.NAME = "MovedROIHeads"
cfg.MODEL.ROI_BOX_HEAD.NAME = "MovedBoxHead"
model = build_model(cfg)
instances = Instances((48, 64))
instances.gt_boxes = Boxes(torch.tensor([[5.0, 5.0, 30.0, 30.0]]))
instances.gt_classes = torch.tensor([0])
image = torch.rand(3, 48, 64) * 255
inputs = [{"image": image, "instances": instances, "height": 96, "width": 128}]
losses = model(inputs)
sum(losses.values()).backward()
model.eval()
with torch.no_grad():
    outputs = model(inputs)
    # parts of a model, one by one
    images = model.preprocess_image(inputs)
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features)
    detected, _ = model.roi_heads(images, features, proposals)
    pooled = model.roi_heads.box_pooler(
        [features[f] for f in model.roi_heads.box_in_features], [x.pred_boxes for x in detected]
    )
    raw = model.inference(inputs, do_postprocess=False)
"""
    )
    assert "loss_quality" in found["losses"]
    assert found["outputs"][0]["instances"].image_size == (96, 128)
    assert len(found["pooled"]) == len(found["detected"][0]) == len(found["raw"][0])


def test_own_backbone_and_meta_architecture(run: Any) -> None:
    found = run(
        BALLOONS
        + CONFIG
        + """
import torch
from torch import nn
from detectron2.config import CfgNode as CN, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone, build_backbone, build_model,
)
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage, EventStorage

def add_moved_config(cfg):
    cfg.MODEL.MOVED = CN()
    cfg.MODEL.MOVED.WIDTH = 4

@BACKBONE_REGISTRY.register()
class MovedBackbone(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.conv1 = nn.Conv2d(3, cfg.MODEL.MOVED.WIDTH, kernel_size=7, stride=16, padding=3)

    def forward(self, image):
        return {"conv1": self.conv1(image)}

    def output_shape(self):
        return {"conv1": ShapeSpec(channels=self.conv1.out_channels, stride=16)}

@META_ARCH_REGISTRY.register()
class MovedArch(nn.Module):
    @configurable
    def __init__(self, *, backbone, pixel_mean, pixel_std, num_classes=1):
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg):
        return {
            "backbone": build_backbone(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self):
        return self.pixel_mean.device

    def forward(self, batched_inputs):
        images = [x["image"].to(self.device) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        images = ImageList.from_tensors(images, self.backbone.size_divisibility)
        features = self.backbone(images.tensor)["conv1"]
        if self.training:
            get_event_storage().put_scalar("moved/mean", features.mean().item())
            return {"loss_moved": features.square().mean()}
        results = []
        for size, given in zip(images.image_sizes, batched_inputs):
            r = Instances(size)
            r.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
            r.scores = torch.tensor([0.9])
            r.pred_classes = torch.tensor([0])
            results.append({"instances": detector_postprocess(r, given["height"], given["width"])})
        return results

add_moved_config(cfg)
cfg.MODEL.MOVED.WIDTH = 6
cfg.merge_from_list(["MODEL.MOVED.WIDTH", "5"])
cfg.MODEL.BACKBONE.NAME = "MovedBackbone"
cfg.MODEL.META_ARCHITECTURE = "MovedArch"
model = build_model(cfg)
inputs = [{"image": torch.rand(3, 48, 64), "height": 96, "width": 128}]
with EventStorage() as storage:
    losses = model(inputs)
outputs = model.eval()(inputs)

from detectron2.engine import DefaultTrainer
trainer = DefaultTrainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
"""
    )
    assert found["model"].backbone.conv1.out_channels == 5
    assert found["outputs"][0]["instances"].pred_boxes.tensor.tolist() == [[0, 0, 20, 20]]
    assert "moved/mean" in found["trainer"].storage.histories()
