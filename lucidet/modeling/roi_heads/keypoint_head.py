"""Keypoint heads: a heat map for each keypoint inside each box (He et al. 2017, section 5).

At training the one location of a heat map that a keypoint falls into is the target of a softmax
over all locations; at test the highest is the keypoint.
"""

# N images, F proposals of all images that train keypoints, D detections of all images, J keypoints
# of an object, C channels, S side of a heat map

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidet.config import CfgNode, configurable
from lucidet.layers import Conv2d, ConvTranspose2d, ShapeSpec
from lucidet.modeling.losses import weighted
from lucidet.structures import (
    Instances,
    Keypoints,
    gather_rows,
    heatmaps_to_keypoints,
    select_rows,
)
from lucidet.utils.probe import probe_images
from lucidet.utils.registry import Registry

__all__ = [
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "BaseKeypointRCNNHead",
    "KRCNNConvDeconvUpsampleHead",
    "build_keypoint_head",
    "keypoint_rcnn_inference",
    "keypoint_rcnn_loss",
    "select_proposals_with_visible_keypoints",
]

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
ROI_KEYPOINT_HEAD_REGISTRY.__doc__ = """Keypoint heads: pooled features (R, C, h, w) -> heat maps.

Each is called as ``cls(cfg, input_shape: ShapeSpec)`` and has the forward of
:class:`BaseKeypointRCNNHead`.
"""

#: a heat map has twice the side of what the last layer computes
_ENLARGED = 2


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build ``cfg.MODEL.ROI_KEYPOINT_HEAD.NAME`` for pooled features of `input_shape`."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


@torch.no_grad()
def select_proposals_with_visible_keypoints(proposals: Sequence[Instances]) -> list[Instances]:
    """Return each image's proposals with a labelled keypoint of their object inside.

    Args:
        proposals: per image, foreground with `proposal_boxes` (XYXY, pixels of the resized image)
            and, if there are any, `gt_keypoints`. The CPU waits for a GPU once.

    Raises:
        ValueError: an image with foreground proposals has no `gt_keypoints`.
    """
    there = [own for own in proposals if len(own) > 0]
    if not there:
        return list(proposals)
    for own in there:
        if not own.has("gt_keypoints"):
            raise ValueError(
                "the keypoint head needs the field gt_keypoints of ground truth to train, got "
                f"{sorted(own.get_fields())}: with MODEL.KEYPOINT_ON True DatasetMapper reads it "
                "from each annotation's 'keypoints'; for boxes only set MODEL.KEYPOINT_ON False"
            )
    keypoints = gather_rows(there, "gt_keypoints")  # (F, J, 3)
    boxes = gather_rows(there, "proposal_boxes")[:, None]  # (F, 1, 4)
    places = keypoints[..., :2]
    inside = (places >= boxes[..., :2]).all(dim=2) & (places <= boxes[..., 2:]).all(dim=2)
    keep = (inside & (keypoints[..., 2] >= 1)).any(dim=1)
    return select_rows(proposals, keep)  # images without proposals have no rows in `keep`


def keypoint_rcnn_loss(
    pred_keypoint_logits: Tensor, instances: Sequence[Instances], normalizer: float | None
) -> Tensor:
    """Return the cross entropy of each visible keypoint's location in its heat map.

    Args:
        pred_keypoint_logits: (F, J, S, S), for the proposals of all images in order.
        instances: per image, foreground proposals with `proposal_boxes` (XYXY, pixels of the
            resized image) and `gt_keypoints`.
        normalizer: the sum is divided by this; None: by the number of visible keypoints.

    Returns:
        A scalar; 0, with gradients of 0, without visible keypoints.
    """
    total, visible = _loss_sum(pred_keypoint_logits, instances)
    return total / (visible if normalizer is None else normalizer)


def _loss_sum(logits: Tensor, instances: Sequence[Instances]) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross entropies, and over how many keypoints, at least 1."""
    there = [own for own in instances if len(own) > 0]
    if not there:
        return logits.sum() * 0.0, torch.ones((), device=logits.device)
    keypoints = Keypoints(gather_rows(there, "gt_keypoints"))
    boxes = gather_rows(there, "proposal_boxes")
    targets, valid = keypoints.to_heatmap(boxes, logits.shape[2])  # (F, J) each
    # invalid keypoints are multiplied by 0: to pick the others, the CPU would wait for a GPU
    losses = F.cross_entropy(
        logits.float().flatten(2).flatten(0, 1), targets.flatten(), reduction="none"
    )

    def of_image(image: int) -> dict[str, Any] | None:
        if len(instances[image]) == 0:
            return None
        start = sum(len(own) for own in instances[:image])
        shown = {"boxes": boxes, "keypoints": keypoints.tensor, "targets": targets}
        shown |= {"valid": valid > 0, "logits": logits}
        return {name: own[start : start + len(instances[image])] for name, own in shown.items()}

    probe_images("keypoint.targets", len(instances), of_image)
    return (losses * valid.flatten()).sum(), valid.sum().clamp(min=1)


def keypoint_rcnn_inference(
    pred_keypoint_logits: Tensor, pred_instances: Sequence[Instances]
) -> None:
    """Set `pred_keypoints` (D_i, J, 3) and `pred_keypoint_heatmaps` (D_i, J, S, S).

    A keypoint is x, y in pixels of the resized image and the probability of its location: see
    :func:`lucidet.structures.heatmaps_to_keypoints`. It can exceed 1, as bicubic interpolation can
    exceed the highest of the locations.

    Args:
        pred_keypoint_logits: (D, J, S, S), for the detections of all images in order.
        pred_instances: per image, with `pred_boxes`.
    """
    if not pred_instances:
        return
    heatmaps = pred_keypoint_logits.detach()
    boxes = torch.cat([own.pred_boxes.tensor for own in pred_instances])
    keypoints = heatmaps_to_keypoints(heatmaps, boxes.detach())[..., [0, 1, 3]]  # (D, J, 3)
    lengths = [len(own) for own in pred_instances]
    for own, found, maps in zip(
        pred_instances, keypoints.split(lengths), heatmaps.split(lengths), strict=True
    ):
        own.pred_keypoints = found
        own.pred_keypoint_heatmaps = maps

    def of_image(image: int) -> dict[str, Any]:
        own = pred_instances[image]
        return {
            "boxes": own.pred_boxes.tensor,
            "keypoints": own.pred_keypoints,
            "logits": own.pred_keypoint_heatmaps,
        }

    probe_images("keypoint.head", len(pred_instances), of_image)


class BaseKeypointRCNNHead(nn.Module):
    """Losses and inference of a keypoint head; a subclass defines `layers`."""

    @configurable
    def __init__(
        self,
        *,
        num_keypoints: int,
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        """
        Args:
            num_keypoints: J.
            loss_weight: factor of the loss.
            loss_normalizer: "visible": the loss is divided by the number of visible keypoints; a
                number: by this times the number of images.

        Raises:
            ValueError: `loss_normalizer` is another text.
        """
        super().__init__()
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise ValueError(
                f"loss_normalizer must be a number or 'visible', got {loss_normalizer!r}"
            )
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        head, roi_heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        foreground = roi_heads.BATCH_SIZE_PER_IMAGE * roi_heads.POSITIVE_FRACTION
        by_visible = head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS
        return {
            "num_keypoints": head.NUM_KEYPOINTS,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_normalizer": "visible" if by_visible else head.NUM_KEYPOINTS * foreground,
        }

    def forward(self, x: Any, instances: list[Instances]) -> Any:
        """Return ``{"loss_keypoint": ...}`` at training, the instances with keypoints at test.

        Args:
            x: pooled features (R, C, h, w) of the boxes of all images in order; without a pooler
                (MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE "") a dict of feature maps.
            instances: per image; at training foreground proposals (see
                :func:`keypoint_rcnn_loss`), at test detections (see
                :func:`keypoint_rcnn_inference`).
        """
        x = self.layers(x)
        if not self.training:
            keypoint_rcnn_inference(x, instances)
            return instances
        total, visible = _loss_sum(x, instances)
        normalizer: Any = visible
        if self.loss_normalizer != "visible":
            normalizer = len(instances) * self.loss_normalizer  # type: ignore[operator]
        return weighted({"loss_keypoint": (total, normalizer, self.loss_weight)})

    def layers(self, x: Any) -> Tensor:
        """Return heat maps (R, J, S, S) for what `forward` gets: what a subclass defines."""
        raise NotImplementedError(f"{type(self).__name__} must define layers()")


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, one that doubles the side, and bilinear interpolation that doubles it.

    He et al. 2017, section 5: eight convolutions of 512 channels, and heat maps of 56 x 56.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        loss_weight: float = 1.0,
        loss_normalizer: float | str = 1.0,
    ) -> None:
        """
        Args:
            input_shape: the pooler's channels, height and width.
            num_keypoints: J.
            conv_dims: output channels of each 3x3 convolution.
            loss_weight, loss_normalizer: see :class:`BaseKeypointRCNNHead`.
        """
        super().__init__(
            num_keypoints=num_keypoints, loss_weight=loss_weight, loss_normalizer=loss_normalizer
        )
        channels = input_shape.channels or 0
        for i, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv_fcn{i}", Conv2d(channels, dim, kernel_size=3, padding=1))
            self.add_module(f"conv_fcn_relu{i}", nn.ReLU())
            channels = dim
        self.score_lowres = ConvTranspose2d(
            channels, num_keypoints, kernel_size=4, stride=2, padding=1
        )
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: Tensor) -> Tensor:
        """Return (R, J, 4 h, 4 w) for x (R, C, h, w)."""
        for layer in self:
            x = layer(x)
        return F.interpolate(x, scale_factor=_ENLARGED, mode="bilinear", align_corners=False)
