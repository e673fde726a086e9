"""torchvision's detectors, built here with random weights, against lucidet with the same weights.

A fresh detector finds nothing, or the same nonsense everywhere. So that there is something to
compare, each layer that predicts is rescaled, when it first runs, to a spread that gives many
detections with distinct scores, and the norms get random statistics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models.detection as detection
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from lucidet.checkpoint import load_weights
from lucidet.config import CfgNode, get_cfg
from lucidet.data import MetadataCatalog
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODELS = [
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
]
SINGLE_LEVEL = "single_level_15_anchors"
#: shortest and longest side, pixels: small images keep this fast
SIZE = (192, 320)
#: layers that predict: (end of the name, spread of the outputs, bias)
SPREADS = [
    ("rpn.head.cls_logits", 1.0, -1.0),
    ("rpn.head.bbox_pred", 0.2, 0.0),
    ("box_predictor.cls_score", 2.0, 0.0),
    ("box_predictor.bbox_pred", 1.0, 0.0),
    ("mask_predictor.mask_fcn_logits", 2.0, 0.0),
    ("keypoint_predictor.kps_score_lowres", 2.0, 0.0),
    ("classification_head.cls_logits", 1.0, -4.0),
    ("regression_head.bbox_reg", 0.3, 0.3),
    ("regression_head.bbox_ctrness", 1.0, 0.0),
]
FCOS_SPREADS = {"classification_head.cls_logits": (1.5, -4.0), "regression_head.bbox_reg": (1, 3.0)}
#: COCO's ids of the objects to train, with gaps of its ids before and between them
LABELS = [1, 11, 13, 44, 62, 80]
UNUSED_ID = 12
#: no random choice takes part where sampling takes everything
TAKE_ALL = 10**6
#: proposals of an image: the box heads' work
FEW = 150
LOSSES = {
    "loss_objectness": "loss_rpn_cls",
    "loss_rpn_box_reg": "loss_rpn_loc",
    "loss_classifier": "loss_cls",
    "loss_box_reg": "loss_box_reg",
}
DENSE_LOSSES = {"classification": "loss_cls", "bbox_regression": "loss_box_reg"}
FCOS_LOSSES = {
    "classification": "loss_fcos_cls",
    "bbox_regression": "loss_fcos_loc",
    "bbox_ctrness": "loss_fcos_ctr",
}


#: COCO's id, which is torchvision's label -> class of lucidet's data sets
COCO_CLASS: dict[int, int] = MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id


def build_oracle(name: str) -> nn.Module:
    """Return torchvision's model with random weights and sampling that takes everything."""
    torch.manual_seed(1)
    sampling = {
        "rpn_batch_size_per_image": TAKE_ALL,
        "box_batch_size_per_image": TAKE_ALL,
        "rpn_post_nms_top_n_train": FEW,
        "rpn_post_nms_top_n_test": FEW,
    }
    sizes = {"min_size": SIZE[0], "max_size": SIZE[1]}
    if name == SINGLE_LEVEL:
        return _single_level(**sizes, **sampling)
    options: dict[str, Any] = {"weights": None, "weights_backbone": None, **sizes}
    if is_two_stage(name):
        options |= sampling
    return getattr(detection, name)(**options)


def _single_level(**options: Any) -> nn.Module:
    body = nn.Sequential(*list(resnet50(weights=None).children())[:-2])
    body.out_channels = 2048
    return detection.FasterRCNN(
        body,
        num_classes=81,
        rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        rpn_pre_nms_top_n_test=2000,
        **options,
    )


@torch.no_grad()
def randomise_norms(model: nn.Module) -> None:
    """Give batch norms statistics and weights as after a training, so that all of them matter."""
    generator = torch.Generator().manual_seed(2)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            size = module.running_mean.shape
            module.running_mean.copy_(0.1 * torch.randn(size, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(size, generator=generator))
            # the last norm of a block is small: else the sums grow from block to block
            scale = 0.3 if name.endswith("bn3") else 1.0
            module.weight.copy_(scale * (0.8 + 0.4 * torch.rand(size, generator=generator)))
            module.bias.copy_(0.1 * torch.randn(size, generator=generator))


def spread_predictions(model: nn.Module, images: list[Tensor]) -> None:
    """Rescale each predicting layer, when it first runs, to the spread that `SPREADS` asks for."""
    handles = []
    is_fcos = isinstance(model, detection.FCOS)
    for name, module in model.named_modules():
        for end, spread, bias in SPREADS:
            if name.endswith(end):
                wanted = FCOS_SPREADS.get(end, (spread, bias)) if is_fcos else (spread, bias)
                handles.append(module.register_forward_hook(_rescale(*wanted)))
    model.eval()
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()


@torch.no_grad()
def find_unused_id(model: nn.Module, images: list[Tensor]) -> None:
    """Exchange the second most frequent label with 12, an id that COCO does not use."""
    labels = torch.cat([found["labels"] for found in model.eval()(images)])
    second = int(labels.bincount(minlength=91).argsort(descending=True)[1])
    order = torch.arange(91)
    order[[UNUSED_ID, second]] = order[[second, UNUSED_ID]]
    for name, module in model.named_modules():
        if name.endswith(("box_predictor.cls_score", "classification_head.cls_logits")):
            shape = (-1, 91)  # (A * 91, ...) -> (A, 91, ...)
        elif name.endswith("box_predictor.bbox_pred"):
            shape = (1, 91, 4)  # (91 * 4, ...) -> (1, 91, 4, ...)
        else:
            continue
        for parameter in (module.weight, module.bias):
            rows = parameter.view(*shape, *parameter.shape[1:])
            rows.copy_(rows[:, order])


def _rescale(spread: float, bias: float) -> Any:
    done = []

    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        if not done:
            done.append(True)
            module.weight.mul_(spread / output.std())
            module.bias.copy_(bias + 0.1 * spread * torch.randn(module.bias.shape))
        return module.forward(*args)

    return hook


def build_ours(name: str) -> tuple[nn.Module, CfgNode]:
    """Return lucidet's model of the shipped config, with trainable norms as the fresh oracle's."""
    cfg = get_cfg()
    if name == SINGLE_LEVEL:
        cfg.merge_from_file(
            str(CONFIGS / "COCO-Detection/faster_rcnn_R_50_single_level_15_anchors.yaml")
        )
    else:
        cfg.merge_from_file(str(CONFIGS / f"torchvision/{name}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.NORM = cfg.MODEL.MOBILENET.NORM = "BN"
    cfg.MODEL.RESNETS.NORM_EPS = 1e-5  # torchvision's value before it loads its own weights
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = TAKE_ALL
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = FEW
    return build_model(cfg), cfg


@pytest.fixture(scope="module")
def images(datasets_dir: Path) -> list[Tensor]:
    """Two real images, wide and tall, (3, H, W) RGB, 0..1."""
    folder = datasets_dir / "coco"
    found = []
    for tall in (False, True):
        for path in sorted(folder.rglob("*.jpg")):
            with Image.open(path) as image:
                if (image.height > image.width) == tall and image.mode == "RGB":
                    array = np.asarray(image).copy()
                    found.append(torch.from_numpy(array).permute(2, 0, 1).float() / 255)
                    break
    return found


@pytest.fixture(scope="module", params=[*MODELS, SINGLE_LEVEL])
def pair(request: pytest.FixtureRequest, images: list[Tensor]) -> tuple[str, nn.Module, nn.Module]:
    """(name, torchvision's model, lucidet's with its weights)."""
    name = request.param
    oracle = build_oracle(name)
    randomise_norms(oracle)
    spread_predictions(oracle, images)
    if name != SINGLE_LEVEL:
        find_unused_id(oracle, images)
    ours, _ = build_ours(name)
    report = load_weights(ours, oracle.state_dict())
    assert report.complete, report.table()
    return name, oracle, ours


def resized(oracle: nn.Module, images: list[Tensor], boxes: list[Tensor]) -> list[dict[str, Any]]:
    """Return lucidet's inputs: the images as torchvision resizes them, in 0..255."""
    targets = [{"boxes": b, "labels": torch.ones(len(b), dtype=torch.int64)} for b in boxes]
    transform = oracle.transform
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (transform.image_mean, transform.image_std)
    )
    records = []
    for image, target in zip(images, targets, strict=True):
        batch, new = transform([image], [target])
        height, width = batch.image_sizes[0]
        pixels = (batch.tensors[0, :, :height, :width] * std + mean) * 255
        instances = Instances((height, width), gt_boxes=Boxes(new[0]["boxes"]))
        records.append(
            {
                "image": pixels,
                "instances": instances,
                "height": image.shape[1],
                "width": image.shape[2],
            }
        )
    return records


def ground_truth(images: list[Tensor]) -> list[Tensor]:
    """Return some boxes of several sizes in each image, XYXY in its pixels."""
    generator = torch.Generator().manual_seed(3)
    result = []
    for image in images:
        height, width = image.shape[1:]
        center = torch.rand(6, 2, generator=generator) * 0.8 + 0.1
        side = torch.tensor([0.05, 0.1, 0.15, 0.3, 0.5, 0.7])[:, None] * torch.tensor([[1.0, 0.8]])
        corners = torch.cat([center - side / 2, center + side / 2], 1).clamp(0, 1)
        result.append(corners * torch.tensor([width, height, width, height]))
    return result


@torch.no_grad()
def test_detections_agree(pair: tuple[str, nn.Module, nn.Module], images: list[Tensor]) -> None:
    """Boxes within 1e-2 pixel, scores within 1e-4, same classes, same number, images in a batch.

    With the model's own classes, and with those of COCO's data sets, where there is a map to them.
    """
    name, oracle, ours = pair
    oracle.eval()
    ours.eval()
    expected = oracle(images)
    records = resized(oracle, images, [torch.zeros(0, 4)] * len(images))
    class_map = [] if ours.class_map is None else ours.class_map.tolist()
    ours.set_class_map([])
    own = ours(records)
    for theirs, mine in zip(expected, own, strict=True):
        # a Faster R-CNN's label 0 is background, lucidet's is the last class
        labels = theirs["labels"] - 1 if is_two_stage(name) else theirs["labels"]
        assert len(labels) >= 20
        assert_same(theirs, labels, mine["instances"])
    if not class_map:
        return
    ours.set_class_map(class_map)
    dropped = 0
    for theirs, mine in zip(expected, ours(records), strict=True):
        labels = torch.tensor([COCO_CLASS.get(label, -1) for label in theirs["labels"].tolist()])
        kept = labels >= 0
        assert_same({k: v[kept] for k, v in theirs.items()}, labels[kept], mine["instances"])
        assert len(mine["instances"]) >= 10
        dropped += int((~kept).sum())
    assert dropped > 0


def is_two_stage(name: str) -> bool:
    return "rcnn_" in name or name == SINGLE_LEVEL


def assert_same(theirs: dict[str, Tensor], labels: Tensor, mine: Instances) -> None:
    """Compare torchvision's detections, with `labels` as lucidet counts them, with lucidet's."""
    assert len(mine) == len(labels)
    pairs = match(
        (theirs["boxes"], theirs["scores"], labels),
        (mine.pred_boxes.tensor, mine.scores, mine.pred_classes),
    )
    assert pairs == len(labels), f"{len(labels) - pairs} of {len(labels)} differ"


def match(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> int:
    """Return how many detections can be paired one to one within the tolerances."""
    same = (a[2][:, None] == b[2]) & ((a[1][:, None] - b[1]).abs() < 1e-4)
    same &= (a[0][:, None] - b[0]).abs().amax(dim=2) < 1e-2
    free = torch.ones(len(b[2]), dtype=torch.bool)
    for row in same:
        candidates = (row & free).nonzero()
        if len(candidates):
            free[candidates[0]] = False
    return int((~free).sum())


@pytest.mark.parametrize("frozen", [True, False], ids=["norms-fixed", "norms-of-the-batch"])
def test_losses_agree(
    pair: tuple[str, nn.Module, nn.Module], images: list[Tensor], frozen: bool
) -> None:
    """The same training losses where sampling takes everything.

    The objects' classes are those of COCO's data sets, except for the model without a map.
    """
    name, oracle, ours = pair
    boxes = ground_truth(images)
    labels = [torch.tensor(LABELS)[: len(b)] for b in boxes]
    oracle.train()
    ours.train()
    for model in (oracle, ours):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(not frozen)
                module.momentum = 0.0  # the pair is shared by tests: statistics must stay
    targets = [{"boxes": b, "labels": n} for b, n in zip(boxes, labels, strict=True)]
    with torch.no_grad():
        expected = oracle(images, targets)
        records = resized(oracle, images, boxes)
        for record, label in zip(records, labels, strict=True):
            classes = torch.tensor([COCO_CLASS[i] for i in label.tolist()])
            record["instances"].gt_classes = label - 1 if name == SINGLE_LEVEL else classes
        got = ours(records)
    names = (
        LOSSES if is_two_stage(name) else FCOS_LOSSES if name.startswith("fcos") else DENSE_LOSSES
    )
    expected = {names[key]: float(value) for key, value in expected.items()}
    assert set(got) == set(expected)
    for key, value in expected.items():
        assert value > 0, key
        assert float(got[key]) == pytest.approx(value, rel=1e-4, abs=1e-6), json.dumps(expected)
