"""Mask heads: a small mask inside each box (He et al. 2017, Mask R-CNN, arXiv 1703.06870).

At training a mask is compared with what of its ground-truth mask lies inside the proposal; at test
it is the probability of each location, for the class that was detected.
"""

# N images, F foreground proposals of all images, D detections of all images, K classes, k = K masks
# a box, or 1 when all classes share one, C channels, S side of a mask

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import Conv2d, ConvTranspose2d, ShapeSpec, crop_and_resize_masks, get_norm
from lucidet.modeling.losses import weighted
from lucidet.structures import BitMasks, Instances, PolygonMasks, gather_rows, source_and_rows
from lucidet.utils.probe import probe_images
from lucidet.utils.registry import Registry

__all__ = [
    "ROI_MASK_HEAD_REGISTRY",
    "BaseMaskRCNNHead",
    "MaskRCNNConvUpsampleHead",
    "build_mask_head",
    "mask_rcnn_inference",
    "mask_rcnn_loss",
]

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = """Mask heads: pooled features (R, C, h, w) -> mask logits.

Each is called as ``cls(cfg, input_shape: ShapeSpec)`` and has the forward of
:class:`BaseMaskRCNNHead`.
"""


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build ``cfg.MODEL.ROI_MASK_HEAD.NAME`` for pooled features of `input_shape`."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)


def mask_rcnn_loss(
    pred_mask_logits: Tensor, instances: Sequence[Instances], vis_period: int = 0
) -> Tensor:
    """Return the binary cross entropy of each mask's own class, averaged over all locations.

    Args:
        pred_mask_logits: (F, k, S, S), for the proposals of all images in order.
        instances: per image, foreground proposals with `proposal_boxes` (XYXY, pixels of the
            resized image), `gt_classes` and `gt_masks`.
        vis_period: not used: `lucidet inspect` shows the targets.

    Returns:
        A scalar; 0, with gradients of 0, without proposals.
    """
    logits, targets = _logits_and_targets(pred_mask_logits, instances)
    total = F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="sum")
    return total / max(targets.numel(), 1)


def _logits_and_targets(
    pred_mask_logits: Tensor, instances: Sequence[Instances], soft: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the logits of each proposal's class (F, S, S), float32, and their targets.

    The targets are bool, or float32 in 0..1 if `soft`.
    """
    there = [own for own in instances if len(own) > 0]
    if not there:
        logits = pred_mask_logits[:, 0].float()  # (0, S, S), which has a gradient
        return logits, torch.zeros_like(logits, dtype=torch.bool)
    classes = torch.cat([own.gt_classes for own in there])
    logits = _of_class(pred_mask_logits, classes).float()
    targets = _targets(there, pred_mask_logits.shape[2], soft).to(logits.device)

    def of_image(image: int) -> dict[str, Any] | None:
        own = instances[image]
        start = sum(len(before) for before in instances[:image])
        rows = slice(start, start + len(own))
        if len(own) == 0:
            return None
        shown = {"boxes": own.proposal_boxes.tensor, "classes": own.gt_classes}
        return {**shown, "targets": targets[rows], "logits": logits[rows]}

    probe_images("mask.targets", len(instances), of_image)
    return logits, targets


def _of_class(masks: Tensor, classes: Tensor) -> Tensor:
    """Return of masks (D, k, S, S) that of each one's class (D,), or the one for all: (D, S, S)."""
    if masks.shape[1] == 1:
        return masks[:, 0]
    index = classes[:, None, None, None].expand(-1, 1, *masks.shape[2:])
    return masks.gather(1, index).squeeze(1)


@torch.no_grad()
def _targets(instances: Sequence[Instances], side: int, soft: bool) -> Tensor:
    """Return what of each ground-truth mask lies inside its proposal: (F, S, S)."""
    for own in instances:
        if not own.has("gt_masks"):
            raise ValueError(
                "the mask head needs the field gt_masks of ground truth to train, got "
                f"{sorted(own.get_fields())}: with MODEL.MASK_ON True DatasetMapper reads it from "
                "each annotation's 'segmentation'; for boxes only set MODEL.MASK_ON False"
            )
    boxes = gather_rows(instances, "proposal_boxes")  # (F, 4)
    found = [source_and_rows(own, "gt_masks") for own in instances]
    kinds = {type(source) for source, _ in found}
    if kinds == {PolygonMasks} and not soft:  # filled on the CPU, in one piece
        chosen = PolygonMasks.cat([own.gt_masks for own in instances])
        return chosen.crop_and_resize(boxes, side)
    if kinds == {BitMasks} or (soft and kinds == {PolygonMasks}):
        sizes = [own.image_size for own in instances]
        bits = [_bits(source, *size) for (source, _), size in zip(found, sizes, strict=True)]
        rows = [torch.arange(len(own)) if late is None else late for own, late in found]
        on_device = [own.to(boxes.device, non_blocking=True) for own in bits]
        return crop_and_resize_masks(on_device, rows, boxes, side, soft)
    parts = [
        own.gt_masks.crop_and_resize(own.proposal_boxes.tensor, side).to(boxes.device)
        for own in instances
    ]
    return torch.cat(parts)


def _bits(masks: PolygonMasks | BitMasks, height: int, width: int) -> Tensor:
    """Return masks as (M, height, width) bool."""
    if isinstance(masks, BitMasks):
        return masks.tensor
    return BitMasks.from_polygon_masks(masks, height, width).tensor


@torch.no_grad()
def mask_metrics(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return how many locations are wrong, of all, of the background and of the foreground.

    Args:
        logits: (F, S, S), of each proposal's class.
        targets: (F, S, S) bool.

    Returns:
        Scalars ``mask_rcnn/{accuracy, false_positive, false_negative}``, without a wait for a GPU.
    """
    wrong = (logits > 0) != targets
    positive = targets.sum()
    negative = targets.numel() - positive
    return {
        "mask_rcnn/accuracy": 1 - wrong.sum() / max(targets.numel(), 1),
        "mask_rcnn/false_positive": (wrong & ~targets).sum() / negative.clamp(min=1),
        "mask_rcnn/false_negative": (wrong & targets).sum() / positive.clamp(min=1),
    }


def mask_rcnn_inference(pred_mask_logits: Tensor, pred_instances: Sequence[Instances]) -> None:
    """Set `pred_masks` of the detections: (D_i, 1, S, S) probabilities inside each box.

    Args:
        pred_mask_logits: (D, k, S, S), for the detections of all images in order.
        pred_instances: per image, with `pred_classes`.
    """
    if not pred_instances:
        return
    classes = torch.cat([own.pred_classes for own in pred_instances])
    masks = _of_class(pred_mask_logits, classes).sigmoid()[:, None]  # (D, 1, S, S)
    for own, probabilities in zip(
        pred_instances, masks.split([len(own) for own in pred_instances]), strict=True
    ):
        own.pred_masks = probabilities

    def of_image(image: int) -> dict[str, Any]:
        own = pred_instances[image]
        return {
            "boxes": own.pred_boxes.tensor,
            "classes": own.pred_classes,
            "masks": own.pred_masks[:, 0],
        }

    probe_images("mask.head", len(pred_instances), of_image)


class BaseMaskRCNNHead(nn.Module):
    """Losses and inference of a mask head; a subclass defines `layers`.

    `metrics` holds the last training step's shares of wrong locations.
    """

    @configurable
    def __init__(
        self, *, loss_weight: float = 1.0, vis_period: int = 0, soft_targets: bool = False
    ) -> None:
        """
        Args:
            loss_weight: factor of the loss.
            vis_period: not used: `lucidet inspect` shows the targets.
            soft_targets: train on how much of each location the mask covers (torchvision), not on
                whether it covers half of it.
        """
        super().__init__()
        self.soft_targets = soft_targets
        self.loss_weight = loss_weight
        self.vis_period = vis_period
        self.metrics: dict[str, Tensor] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        soft = cfg.MODEL.ROI_MASK_HEAD.SOFT_TARGETS
        # a subclass written for detectron2 does not know the second
        return {"vis_period": cfg.VIS_PERIOD, **({"soft_targets": True} if soft else {})}

    def forward(self, x: Any, instances: list[Instances]) -> Any:
        """Return ``{"loss_mask": ...}`` at training, the instances with `pred_masks` at test.

        Args:
            x: pooled features (R, C, h, w) of the boxes of all images in order; without a pooler
                (MODEL.ROI_MASK_HEAD.POOLER_TYPE "") a dict of feature maps.
            instances: per image; at training foreground proposals (see :func:`mask_rcnn_loss`), at
                test detections (see :func:`mask_rcnn_inference`).
        """
        x = self.layers(x)
        if not self.training:
            mask_rcnn_inference(x, instances)
            return instances
        logits, targets = _logits_and_targets(x, instances, self.soft_targets)
        self.metrics = mask_metrics(logits, targets >= 0.5 if self.soft_targets else targets)
        total = F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="sum")
        return weighted({"loss_mask": (total, max(targets.numel(), 1), self.loss_weight)})

    def layers(self, x: Any) -> Tensor:
        """Return mask logits (R, k, S, S) for what `forward` gets: what a subclass defines."""
        raise NotImplementedError(f"{type(self).__name__} must define layers()")


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, one that doubles the side, and a 1x1 convolution; ReLUs between them.

    He et al. 2017, section 3.1 and figure 4: with four convolutions FPN's head; C4's, which shares
    res5 with the boxes, has none.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str = "",
        loss_weight: float = 1.0,
        vis_period: int = 0,
        soft_targets: bool = False,
    ) -> None:
        """
        Args:
            input_shape: the pooler's channels, height and width.
            num_classes: k: the foreground classes, or 1 for one mask that all classes share.
            conv_dims: output channels of each convolution; the last is of the one that doubles the
                side.
            conv_norm: norm after the 3x3 convolutions; see :func:`lucidet.layers.get_norm`.
            loss_weight, vis_period, soft_targets: see :class:`BaseMaskRCNNHead`.

        Raises:
            ValueError: `conv_dims` is empty.
        """
        super().__init__(loss_weight=loss_weight, vis_period=vis_period, soft_targets=soft_targets)
        if not conv_dims:
            raise ValueError("a mask head needs at least one entry of conv_dims, its upsampling")
        channels = input_shape.channels or 0
        for i, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"mask_fcn{i}", conv)
            channels = dim
        self.deconv = ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        self.add_module("deconv_relu", nn.ReLU())
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)
        for layer in self.children():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.predictor.weight, std=0.001)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        head = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
        }

    def layers(self, x: Tensor) -> Tensor:
        """Return (R, k, 2 h, 2 w) for x (R, C, h, w)."""
        for layer in self:
            x = layer(x)
        return x
