"""Between boxes and the numbers that a head predicts for them, and the loss of those numbers."""

# N images, R boxes, k predictions a box, B numbers that describe a box, P positives

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Protocol

import torch
from torch import Tensor

from lucidet.layers import ciou_loss, diou_loss, giou_loss, smooth_l1_loss
from lucidet.structures import Boxes

__all__ = ["Box2BoxTransform", "Box2BoxTransformLinear", "Box2BoxTransformRotated"]

#: largest predicted logarithm of a size ratio: a box grows to 1000 pixels from 16 at most, so that
#: exp() of an untrained network's output stays finite
_DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)

#: pixels; on devices other than the CPU, where boxes aren't checked, shorter sides count as this
_MIN_SIDE = 1e-6


#: XYXY (and degrees), pixels; as source and target of deltas 0 its loss is exactly 0
_ANY_BOX = (0.0, 0.0, 1024.0, 1024.0, 0.0)


class BoxCoder(Protocol):
    """What the losses need of a transform."""

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return what to predict for `src_boxes` to get `target_boxes`."""
        ...

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes that `deltas` make of `boxes`."""
        ...


class Box2BoxTransform:
    """Centre offsets in units of the box's size, and logarithms of the size ratios.

    After Girshick et al. 2014 (R-CNN, arXiv 1311.2524), appendix C. The boxes are XYXY; a width is
    x2 - x1.

    >>> transform = Box2BoxTransform(weights=(1, 1, 1, 1))
    >>> source, target = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10]])
    >>> transform.get_deltas(source, target).tolist()
    [[0.5, 0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float],
        scale_clamp: float = _DEFAULT_SCALE_CLAMP,
    ) -> None:
        """
        Args:
            weights: factors of dx, dy, dw, dh; they bring the targets to a spread of about 1,
                as (10, 10, 5, 5) does in Fast R-CNN.
            scale_clamp: largest dw and dh that `apply_deltas` believes.
        """
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return (R, 4) dx, dy, dw, dh that turn sources into targets.

        Args:
            src_boxes: (R, 4) XYXY, anchors or proposals.
            target_boxes: (R, 4) XYXY, objects.

        Raises:
            ValueError: a box has no area (on the CPU; elsewhere, where looking would make the host
                wait, a side below 1e-6 pixel counts as 1e-6, so that the result is finite).
        """
        src_xy, src_wh = _center_and_size(src_boxes)
        target_xy, target_wh = _center_and_size(target_boxes)
        _require_area(src_boxes, src_wh, "src_boxes")
        _require_area(target_boxes, target_wh, "target_boxes")
        src_wh, target_wh = src_wh.clamp(min=_MIN_SIDE), target_wh.clamp(min=_MIN_SIDE)
        deltas = torch.cat([(target_xy - src_xy) / src_wh, torch.log(target_wh / src_wh)], dim=1)
        return deltas * _constants(self.weights, deltas)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes (R, k * 4), XYXY, float32, that deltas make of `boxes`; not clipped.

        Args:
            deltas: (R, k * 4), k predictions for each box.
            boxes: (R, 4) XYXY.
        """
        deltas = deltas.float()  # half precision can't hold pixels above 2048
        xy, wh = _center_and_size(boxes.to(deltas.dtype))
        xy, wh = xy[:, None], wh[:, None]  # (R, 1, 2)
        scaled = deltas.unflatten(1, (-1, 4)) / _constants(self.weights, deltas)  # (R, k, 4)
        center = scaled[..., :2] * wh + xy
        half = 0.5 * (scaled[..., 2:].clamp(max=self.scale_clamp).exp() * wh)
        return torch.cat([center - half, center + half], dim=2).reshape(deltas.shape)


class Box2BoxTransformRotated:
    """As :class:`Box2BoxTransform`, and the turn in radians (Ma et al. 2018, RRPN).

    Boxes are (centre x, centre y, width, height, degrees counter-clockwise).
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float, float],
        scale_clamp: float = _DEFAULT_SCALE_CLAMP,
    ) -> None:
        """
        Args:
            weights: factors of dx, dy, dw, dh, da.
            scale_clamp: largest dw and dh that `apply_deltas` believes.
        """
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return (R, 5) dx, dy, dw, dh, da; the turn is the shorter way round.

        Raises:
            ValueError: a box has no area; see :meth:`Box2BoxTransform.get_deltas`.
        """
        src_xy, src_wh, src_angle = src_boxes.split([2, 2, 1], dim=1)
        target_xy, target_wh, target_angle = target_boxes.split([2, 2, 1], dim=1)
        _require_area(src_boxes, src_wh, "src_boxes")
        _require_area(target_boxes, target_wh, "target_boxes")
        src_wh, target_wh = src_wh.clamp(min=_MIN_SIDE), target_wh.clamp(min=_MIN_SIDE)
        turn = torch.deg2rad(_half_turn(target_angle - src_angle))
        deltas = torch.cat(
            [(target_xy - src_xy) / src_wh, torch.log(target_wh / src_wh), turn], dim=1
        )
        return deltas * _constants(self.weights, deltas)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes (R, k * 5) that deltas make of `boxes`; angles in -180 <= a < 180.

        Args:
            deltas: (R, k * 5).
            boxes: (R, 5).
        """
        boxes = boxes.to(deltas.dtype)[:, None]  # (R, 1, 5)
        xy, wh, angle = boxes.split([2, 2, 1], dim=2)
        scaled = deltas.unflatten(1, (-1, 5)) / _constants(self.weights, deltas)
        return torch.cat(
            [
                scaled[..., :2] * wh + xy,
                scaled[..., 2:4].clamp(max=self.scale_clamp).exp() * wh,
                _half_turn(angle + torch.rad2deg(scaled[..., 4:])),
            ],
            dim=2,
        ).reshape(deltas.shape)


class Box2BoxTransformLinear:
    """Distances from a box's centre to the four sides of the object, never negative.

    After Tian et al. 2019 (FCOS, arXiv 1904.01355), section 3.1.

    >>> transform = Box2BoxTransformLinear()
    >>> source, target = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 20, 5]])
    >>> transform.get_deltas(source, target).tolist()
    [[0.5, 0.5, 1.5, 0.0]]
    """

    def __init__(self, normalize_by_size: bool = True) -> None:
        """
        Args:
            normalize_by_size: distances in units of the box's width and height, not in pixels.
        """
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return (R, 4) distances to left, top, right and bottom; negative where outside.

        Args:
            src_boxes: (R, 4) XYXY.
            target_boxes: (R, 4) XYXY.

        Raises:
            ValueError: sizes are the unit and a source has no area; see
                :meth:`Box2BoxTransform.get_deltas`.
        """
        center, size = _center_and_size(src_boxes)
        deltas = torch.cat([center - target_boxes[:, :2], target_boxes[:, 2:] - center], dim=1)
        if not self.normalize_by_size:
            return deltas
        _require_area(src_boxes, size, "src_boxes")
        return deltas / size.clamp(min=_MIN_SIDE).repeat(1, 2)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Return the boxes (R, k * 4), XYXY; negative distances count as 0.

        Args:
            deltas: (R, k * 4).
            boxes: (R, 4) XYXY.
        """
        center, size = _center_and_size(boxes.to(deltas.dtype))
        center, size = center[:, None], size[:, None]  # (R, 1, 2)
        distances = deltas.unflatten(1, (-1, 4)).relu()
        near, far = distances[..., :2], distances[..., 2:]
        if self.normalize_by_size:
            near, far = near * size, far * size
        return torch.cat([center - near, center + far], dim=2).reshape(deltas.shape)


def _constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers as a tensor in the type and on the device of `like`.

    In two steps: ``new_tensor`` waits until a GPU has done everything that was queued before.
    """
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _center_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres (R, 2) and sizes (R, 2) of XYXY boxes (R, 4)."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * size, size


def _require_area(boxes: Tensor, size: Tensor, name: str) -> None:
    """Raise ValueError if a box has a side that isn't positive; on the CPU only."""
    if boxes.device.type != "cpu" or torch.compiler.is_compiling():
        return
    bad = ~(size > 0).all(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{name}[{first}] = {boxes[first].tolist()}: width and height must be > 0 "
            f"({int(bad.sum())} of {len(boxes)} boxes are degenerate); drop such boxes from the "
            "data, as the dataset mapper does, or label them background or ignored"
        )


def _half_turn(degrees: Tensor) -> Tensor:
    """Return the same angles in -180 <= a < 180."""
    return (degrees + 180.0) % 360.0 - 180.0


_IOU_LOSSES: dict[str, Callable[..., Tensor]] = {
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
}


def _dense_box_regression_loss(
    anchors: Sequence[Boxes | Tensor],
    box2box_transform: BoxCoder,
    pred_anchor_deltas: Sequence[Tensor],
    gt_boxes: Sequence[Tensor],
    fg_mask: Tensor | EllipsisType,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Return the sum of the regression loss over the positives; only these are encoded.

    Args:
        anchors: per level, R_l boxes, the same for all images.
        box2box_transform: between boxes and deltas.
        pred_anchor_deltas: per level (N, R_l, B).
        gt_boxes: per image (R, B), the object of each anchor; read where `fg_mask` is True.
        fg_mask: (N, R) bool, or ``...`` where all are positives.
        box_reg_loss_type: "smooth_l1" on the deltas; "giou", "diou" or "ciou" on the boxes.
        smooth_l1_beta: where L1 begins; 0 is plain L1.

    Raises:
        ValueError: unknown loss type, or a positive's anchor or object has no area.
    """
    all_deltas = torch.cat(list(pred_anchor_deltas), dim=1)  # (N, R, B)
    if not isinstance(fg_mask, Tensor):
        fg_mask = torch.ones_like(all_deltas[..., 0], dtype=torch.bool)
    image, row = fg_mask.nonzero(as_tuple=True)  # (P,) each
    deltas = all_deltas[image, row].float()  # (P, B)
    sources = torch.cat([a if isinstance(a, Tensor) else a.tensor for a in anchors])[row]
    targets = torch.stack(list(gt_boxes))[image, row]
    return box_loss_sum(
        box2box_transform, deltas, sources, targets, box_reg_loss_type, smooth_l1_beta
    )


def box_loss_sum(
    transform: BoxCoder,
    deltas: Tensor,
    sources: Tensor,
    targets: Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the sum of the regression loss over positives.

    Args:
        transform: between boxes and deltas.
        deltas: (P, B), predicted.
        sources: (P, B), anchors or proposals.
        targets: (P, B), their objects.
        box_reg_loss_type, smooth_l1_beta: see :func:`_dense_box_regression_loss`.
        weights: (P,), of each positive; None: all weigh 1.

    Raises:
        ValueError: unknown loss type, or a source or target has no area.
    """
    reduction = "sum" if weights is None else "none"
    if box_reg_loss_type == "smooth_l1":
        wanted = transform.get_deltas(sources, targets)
        losses = smooth_l1_loss(deltas, wanted, beta=smooth_l1_beta, reduction=reduction)  # (P, B)
    elif box_reg_loss_type in _IOU_LOSSES:
        predicted = transform.apply_deltas(deltas, sources)
        losses = _IOU_LOSSES[box_reg_loss_type](predicted, targets, reduction=reduction)  # (P,)
    else:
        raise ValueError(
            f"unknown BBOX_REG_LOSS_TYPE {box_reg_loss_type!r}; it is one of smooth_l1, "
            f"{', '.join(_IOU_LOSSES)}"
        )
    return losses if weights is None else (losses.movedim(0, -1) * weights).sum()


def masked_box_loss_sum(
    transform: BoxCoder,
    deltas: Tensor,
    sources: Tensor,
    targets: Tensor,
    positive: Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Return :func:`box_loss_sum` of the positives, without a wait for their number.

    All rows are computed: cheaper than a wait for some hundreds of proposals.

    Args:
        positive: (R,) bool; other rows add exactly 0 and may have no area.
        transform, deltas, sources, targets, box_reg_loss_type, smooth_l1_beta: see there, R rows.
    """
    positive = positive[:, None]
    any_box = _constants(_ANY_BOX[: sources.shape[1]], sources)
    return box_loss_sum(
        transform,
        deltas.float().where(positive, 0.0),
        sources.where(positive, any_box),
        targets.where(positive, any_box),
        box_reg_loss_type,
        smooth_l1_beta,
    )
