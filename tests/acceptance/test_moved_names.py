"""Names that programs for boxes import from detectron2 though they have to do with other things."""

from __future__ import annotations

from typing import Any

import pytest

TRAINING_SCRIPT = """
from detectron2.data.build import filter_images_with_few_keypoints, load_proposals_into_dataset
from detectron2.data.datasets.coco import load_sem_seg, register_coco_instances
from detectron2.data.detection_utils import create_keypoint_hflip_indices, transform_proposals
from detectron2.evaluation import (
    CityscapesInstanceEvaluator, CityscapesSemSegEvaluator, COCOEvaluator, COCOPanopticEvaluator,
    LVISEvaluator, PascalVOCDetectionEvaluator, SemSegEvaluator,
)
from detectron2.layers import ASPP, ROIAlignRotated, paste_masks_in_image
from detectron2.modeling import PanopticFPN, SemanticSegmentor, ViT, build_mask_head
from detectron2.modeling.proposal_generator import RRPN
from detectron2.modeling.roi_heads.keypoint_head import (
    ROI_KEYPOINT_HEAD_REGISTRY, BaseKeypointRCNNHead, build_keypoint_head,
)
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, BaseMaskRCNNHead
from detectron2.structures import BitMasks, Keypoints, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask
from detectron2.utils.visualizer import GenericMask
from detectron2.config import LazyCall, LazyConfig, instantiate

@ROI_MASK_HEAD_REGISTRY.register()
class MovedMaskHead(BaseMaskRCNNHead):
    pass

def kind(annotation):
    return "mask" if isinstance(annotation, (BitMasks, PolygonMasks)) else "box"

found = kind([1, 2, 3, 4])
"""


def test_imports_of_other_things_pass_and_their_use_says_why_not(run: Any) -> None:
    names = run(TRAINING_SCRIPT)
    assert names["found"] == "box"
    for name in ("SemSegEvaluator", "ASPP", "RRPN", "LazyCall"):
        with pytest.raises(NotImplementedError, match=r"is for .*lucidet detects boxes"):
            names[name]("argument")
    with pytest.raises(AttributeError, match="no 'load': LazyConfig is for lazy configs"):
        names["LazyConfig"].load("config.py")


def test_names_of_the_inside_that_user_code_imports(run: Any) -> None:
    found = run(
        """
import torch
from torch import nn
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.config.config import CfgNode, configurable
from detectron2.data.datasets.builtin import _PREDEFINED_SPLITS_COCO
from detectron2.data.transforms.augmentation import _get_aug_input_args, _transform_to_aug
from detectron2.evaluation.fast_eval_api import COCOeval_opt
from detectron2.modeling.backbone import BasicBlock, BasicStem, BottleneckBlock, make_stage
from detectron2.modeling.backbone.fpn import _assert_strides_are_log2_contiguous
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter

_assert_strides_are_log2_contiguous([4, 8, 16])
stage = make_stage(
    BottleneckBlock, 2, first_stride=2, in_channels=8, out_channels=16, bottleneck_channels=4
)
strides = [block.stride for block in stage]

class Decay(torch.optim.lr_scheduler.LRScheduler):
    def get_lr(self):
        warmup = _get_warmup_factor_at_iter("linear", self.last_epoch, 4, 0.2)
        return [base * warmup for base in self.base_lrs]

optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
schedule = Decay(optimizer)
rates = [optimizer.param_groups[0]["lr"]]
for _ in range(4):
    optimizer.step()
    schedule.step()
    rates.append(optimizer.param_groups[0]["lr"])

model = nn.ModuleDict({"body": nn.ModuleDict({"fc": nn.Linear(2, 3), "out": nn.Linear(3, 2)})})
weights = {"fc.weight": torch.ones(3, 2), "body.out.bias": torch.ones(2), "fc.bias": torch.ones(9)}
aligned = align_and_update_state_dicts(model.state_dict(), weights)
"""
    )
    assert found["strides"] == [2, 1]
    assert found["rates"] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(found["aligned"]) == {"body.fc.weight", "body.out.bias"}  # one has another shape
    with pytest.raises(ValueError, match=r"\[4, 16\].*twice the one before"):
        found["_assert_strides_are_log2_contiguous"]([4, 16])
