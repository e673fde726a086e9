"""The same detector twice, lucidet's and torchvision's, with the same weights.

Random weights: nothing has to be fetched. Norms get statistics as after a training, and each layer
that predicts is rescaled to a spread that gives about as many detections as a trained one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from lucidet.checkpoint import load_weights
from lucidet.config import CfgNode, get_cfg
from lucidet.modeling import build_model
from lucidet.structures import Boxes, Instances

__all__ = ["calibrate", "detector", "pair", "photo", "settle_norms", "targets"]

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: layers that predict: (end of the name, spread of the outputs, bias)
SPREADS = (
    ("rpn.head.cls_logits", 2.0, 0.0),
    ("rpn.head.bbox_pred", 0.2, 0.0),
    ("rpn_head.objectness_logits", 2.0, 0.0),
    ("rpn_head.anchor_deltas", 0.2, 0.0),
    ("box_predictor.cls_score", 2.0, 0.0),
    ("box_predictor.bbox_pred", 1.0, 0.0),
    ("mask_predictor.mask_fcn_logits", 2.0, 0.0),
    ("classification_head.cls_logits", 1.0, -6.0),
    ("regression_head.bbox_reg", 0.3, 0.0),
    ("head.cls_score", 1.0, -6.0),
    ("head.bbox_pred", 0.3, 0.0),
    ("head.ctrness", 1.0, 0.0),
)


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """Return something like a photograph: (3, height, width), 0..255, smooth at three scales."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(3, height, width)
    for cells in (4, 16, 64):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        image += nn.functional.interpolate(noise, (height, width), mode="bilinear")[0]
    return image / 3 * 255


def targets(
    height: int, width: int, count: int, num_classes: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return boxes (count, 4) of 16 pixels to half of the image, and classes (count,)."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    side = 16 + torch.rand(count, 2, generator=generator) ** 2 * (size / 2 - 16)
    corner = torch.rand(count, 2, generator=generator) * (size - side)
    classes = torch.randint(num_classes, (count,), generator=generator)
    return torch.cat([corner, corner + side], dim=1), classes


@torch.no_grad()
def settle_norms(model: nn.Module) -> None:
    """Give batch norms statistics and weights as after a training."""
    generator = torch.Generator().manual_seed(2)
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is None:
            continue
        size = module.running_mean.shape
        module.running_mean.copy_(0.1 * torch.randn(size, generator=generator))
        module.running_var.copy_(0.5 + torch.rand(size, generator=generator))
        # the last norm of a block is small: else the sums grow from block to block
        scale = 0.3 if name.endswith(("bn3", "conv3.norm")) else 1.0
        module.weight.copy_(scale * (0.8 + 0.4 * torch.rand(size, generator=generator)))
        module.bias.copy_(0.1 * torch.randn(size, generator=generator))


@torch.no_grad()
def calibrate(model: nn.Module, inputs: Any) -> None:
    """Rescale each predicting layer, when it first runs on `inputs`, to the spread wanted."""
    handles = [
        module.register_forward_hook(_rescale(spread, bias))
        for name, module in model.named_modules()
        for end, spread, bias in SPREADS
        if name.endswith(end)
    ]
    model.eval()
    model(inputs)
    for handle in handles:
        handle.remove()


def _rescale(spread: float, bias: float) -> Any:
    done: list[bool] = []
    generator = torch.Generator().manual_seed(4)

    def hook(module: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
        if not done:
            done.append(True)
            module.weight.mul_(spread / output.std())
            noise = torch.randn(module.bias.shape, generator=generator)
            module.bias.copy_(bias + 0.1 * spread * noise)
        return module.forward(*args)

    return hook


def torchvision_detector(kind: str, num_classes: int = 91) -> Any:
    """Return torchvision's "faster_rcnn", "mask_rcnn" or "retinanet"; stem and layer1 are frozen,
    and so are the norms."""
    torch.manual_seed(1)
    options: dict[str, Any] = {"norm_layer": FrozenBatchNorm2d, "trainable_layers": 3}
    if kind == "retinanet":
        options |= {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, **options)
    kinds = {"faster_rcnn": FasterRCNN, "mask_rcnn": MaskRCNN, "retinanet": RetinaNet}
    model: Any = kinds[kind](backbone, num_classes)
    model.transform.resize = lambda image, target: (image, target)  # images come resized
    return model


def pair(kind: str, height: int, width: int) -> tuple[Any, Any]:
    """Return (lucidet's, torchvision's) detector with equal weights, calibrated for that size."""
    theirs = torchvision_detector(kind)
    settle_norms(theirs)
    calibrate(theirs, [photo(height, width) / 255])
    ours = build_model(_same_settings(kind))
    report = load_weights(ours, theirs.state_dict())
    if not report.complete:
        raise ValueError(f"torchvision's weights do not fit:\n{report.table()}")
    return ours.eval(), theirs.eval()


def _same_settings(kind: str) -> CfgNode:
    """Return the config of the detector that torchvision builds by default."""
    two_stage = kind in ("faster_rcnn", "mask_rcnn")
    cfg = _backbone(get_cfg(), two_stage)
    model = cfg.MODEL
    if kind == "mask_rcnn":
        masks = model.ROI_MASK_HEAD
        model.MASK_ON, masks.NUM_CONV = True, 4
        masks.POOLER_TYPE, masks.POOLER_SAMPLING_RATIO = "ROIAlign", 2
        masks.SOFT_TARGETS = masks.PASTE_WHOLE_PIXELS = True
    model.PIXEL_MEAN, model.PIXEL_STD = MEAN, STD
    model.META_ARCHITECTURE = "GeneralizedRCNN" if two_stage else "RetinaNet"
    model.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    model.ANCHOR_GENERATOR.ROUND = model.ANCHOR_GENERATOR.MEASURE_STRIDES = True
    cfg.INPUT.FORMAT = "RGB"
    if two_stage:
        model.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
        model.PROPOSAL_GENERATOR.MIN_SIZE = 1e-3
        rpn, head, roi = model.RPN, model.ROI_BOX_HEAD, model.ROI_HEADS
        rpn.PRE_NMS_TOPK_TRAIN = rpn.POST_NMS_TOPK_TRAIN = 2000
        rpn.PRE_NMS_TOPK_TEST = rpn.POST_NMS_TOPK_TEST = 1000
        rpn.SMOOTH_L1_BETA = head.SMOOTH_L1_BETA = 1 / 9
        rpn.NORMALIZE_BY_SAMPLED = True
        rpn.RANK_PROBABILITIES = True
        roi.NUM_CLASSES, roi.MIN_BOX_SIZE_TEST = 90, 0.01
        head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO = "ROIAlign", 2
    else:
        small = [32, 40, 50], [64, 80, 101], [128, 161, 203], [256, 322, 406], [512, 645, 812]
        model.ANCHOR_GENERATOR.SIZES = [list(sizes) for sizes in small]
        model.RETINANET.NUM_CLASSES = 91
        model.RETINANET.SMOOTH_L1_LOSS_BETA = 0.0
        model.RETINANET.LOSS_NORMALIZER = "image"
        cfg.TEST.DETECTIONS_PER_IMAGE = 300
        cfg.TEST.KEEP_EMPTY_BOXES = cfg.TEST.CLIP_BEFORE_NMS = True
    return cfg


def _backbone(cfg: CfgNode, two_stage: bool) -> CfgNode:
    model = cfg.MODEL
    model.DEVICE, model.WEIGHTS = "cpu", ""
    names = ["res2", "res3", "res4", "res5"] if two_stage else ["res3", "res4", "res5"]
    levels = ["p2", "p3", "p4", "p5", "p6"] if two_stage else ["p3", "p4", "p5", "p6", "p7"]
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = names
    model.RESNETS.STRIDE_IN_1X1 = False
    model.RPN.IN_FEATURES = model.RETINANET.IN_FEATURES = levels
    model.ATSS.IN_FEATURES = model.FCOS.IN_FEATURES = levels
    if two_stage:
        model.BACKBONE.NAME = "build_resnet_fpn_backbone"
        model.ROI_HEADS.NAME, model.ROI_HEADS.IN_FEATURES = "StandardROIHeads", levels[:4]
        model.ROI_BOX_HEAD.NAME, model.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 2
        model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    else:
        model.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
        model.FPN.TOP_BLOCK_IN_FEATURE = "p5"
    return cfg


def detector(architecture: str, num_classes: int = 80, size: tuple[int, int] = (128, 160)) -> Any:
    """Return lucidet's "FasterRCNN", "RetinaNet", "ATSS" or "FCOS", R50-FPN, calibrated."""
    two_stage = architecture == "FasterRCNN"
    cfg = _backbone(get_cfg(), two_stage)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN" if two_stage else architecture
    sizes = [[side, side * 2 ** (1 / 3), side * 2 ** (2 / 3)] for side in (32, 64, 128, 256, 512)]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [s[:1] for s in sizes] if two_stage else sizes
    for section in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET, cfg.MODEL.ATSS, cfg.MODEL.FCOS):
        section.NUM_CLASSES = num_classes
    torch.manual_seed(1)
    model = build_model(cfg)
    settle_norms(model)
    calibrate(model, [{"image": photo(*size)}])
    return model.eval()


def record(
    height: int, width: int, objects: int, num_classes: int, seed: int = 0
) -> dict[str, Any]:
    """Return a training record of lucidet's detectors."""
    boxes, classes = targets(height, width, objects, num_classes, seed)
    instances = Instances((height, width), gt_boxes=Boxes(boxes), gt_classes=classes)
    return {"image": photo(height, width, seed), "instances": instances}


def sgd_step(model: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> Any:
    """Return a call that does forward, backward and SGD."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    # a rate of almost 0: weights stay those that were compared
    optimizer = torch.optim.SGD(parameters, lr=1e-12, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(losses().values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    return step
