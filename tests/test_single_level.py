"""Faster R-CNN on one map with 15 anchors a cell: the config's numbers, and that it trains.

That it agrees with torchvision's is in test_torchvision_oracle.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lucidet.config import CfgNode, get_cfg
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances

CONFIG = "configs/COCO-Detection/faster_rcnn_R_50_single_level_15_anchors.yaml"


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(Path(__file__).resolve().parents[1] / CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_list(  # a narrow net: what is tested here doesn't depend on its width
        [
            *("MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.RESNETS.NORM", "GN"),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 32, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 32),
        ]
    )
    return cfg


def test_numbers(cfg: CfgNode) -> None:
    model = build_model(cfg)
    rpn = model.proposal_generator
    anchors = rpn.anchor_generator([torch.zeros(1, 1, 25, 39)])
    assert rpn.anchor_generator.num_anchors == [15]
    assert [len(level) for level in anchors] == [14625]
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert rpn.pre_nms_topk == rpn.post_nms_topk == {True: 2000, False: 2000}
    assert rpn.nms_thresh == 0.7
    assert model.backbone.size_divisibility == 32


def test_trains(cfg: CfgNode) -> None:
    torch.manual_seed(0)
    model = build_model(cfg).train()
    image = torch.full((3, 128, 160), 30.0)
    image[:, 32:96, 48:128] = 220.0
    boxes = Boxes(torch.tensor([[48.0, 32.0, 128.0, 96.0]]))
    objects = Instances((128, 160), gt_boxes=boxes, gt_classes=torch.tensor([7]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    totals = []
    for _ in range(15):
        losses = model([{"image": image, "instances": objects}])
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(torch.isfinite(torch.tensor(totals)))
    # single steps of so few may jump, whatever is sampled
    assert sorted(totals[-5:])[2] < 0.75 * totals[0]
