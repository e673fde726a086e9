"""What a detection looked at: one backward pass from its score to the feature maps.

After Zhao et al. 2022, ODAM: Gradient-based Instance-specific Visual Explanations for Object
Detection (arXiv 2304.06354): the map is the sum over channels of gradient times activation, both
at each place, negative sums set to 0. Differs: the gradient is not smoothed, and only the level of
the pyramid that the detection came from is differentiated where the others have no part in it.
"""

# C channels, h x w of a feature map, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lucidet.explain.record import Explanation
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.structures import Boxes, Instances

__all__ = ["HeatMap", "heat_map", "score_heat"]


class HeatMap:
    """Where a score came from.

    Attributes:
        values: (h, w) float32 in 0..1, over the resized image with its padding.
        level: name of the feature map.
        stride: pixels of the resized image between its locations.
        score: that was differentiated.
    """

    def __init__(self, values: Tensor, level: str, stride: int, score: float) -> None:
        self.values, self.level, self.stride, self.score = values, level, stride, score

    def to_json(self) -> dict[str, Any]:
        """Return plain data; values are rounded to thousandths."""
        rows = [[round(v, 3) for v in row] for row in self.values.tolist()]
        return {"values": rows, "level": self.level, "stride": self.stride, "score": self.score}


def heat_map(
    model: nn.Module, entry: dict[str, Any], explanation: Explanation, detection: int
) -> HeatMap:
    """Return what a detection of an explained image looked at.

    Args:
        model: in eval mode, that the explanation is of.
        entry: the image, as the explanation was made from.
        explanation: of the image.
        detection: index of the detection.

    Raises:
        ValueError: there is no such detection.
    """
    if not 0 <= detection < len(explanation.detections):
        count = len(explanation.detections)
        raise ValueError(f"there is no detection {detection}: the image has {count}, from 0 on")
    index = explanation.detections[detection].candidate
    assert index is not None
    with torch.no_grad():
        images, _ = model.prepare([entry])  # type: ignore[operator]
        features = model.backbone(images.tensor)  # type: ignore[operator]
    candidates = explanation.candidates
    return score_heat(
        model,
        features,
        row=candidates.row[index],
        label=candidates.label[index],
        level=candidates.level[index],
        proposal=_proposal(explanation, candidates.row[index]),
    )


def _proposal(explanation: Explanation, row: int) -> list[float] | None:
    return None if explanation.proposals is None else explanation.proposals["box"][row]


def score_heat(
    model: Any,
    features: dict[str, Tensor],
    *,
    row: int,
    label: int,
    level: int,
    proposal: Sequence[float] | None,
) -> HeatMap:
    """Return the heat map of one class's score at one proposal or location.

    Args:
        model: in eval mode.
        features: of the backbone, for one image.
        row: of the candidate, see :class:`lucidet.explain.record.Candidates`.
        label: class of the model.
        level: index of the anchor's level.
        proposal: XYXY of the resized image; None for dense detectors.
    """
    if isinstance(model, DenseDetector):
        return _dense_heat(model, features, row, label, level)
    assert proposal is not None
    return _roi_heat(model, features, label, proposal)


def _dense_heat(
    model: DenseDetector, features: dict[str, Tensor], row: int, label: int, level: int
) -> HeatMap:
    name = model.head_in_features[level]
    levels = [features[own].detach() for own in model.head_in_features]
    sizes = [own.shape[-2] * own.shape[-1] for own in levels]
    with torch.enable_grad():
        levels[level].requires_grad_(True)
        # the head sees each level by itself: of the others one location is enough
        few = [own if i == level else own[..., :1, :1] for i, own in enumerate(levels)]
        kinds = model._transpose_dense_predictions(
            *_with_widths(model.head(few), model.num_classes)
        )
        logits = [kinds[0][level]]
        centerness = [[kinds[2][level].squeeze(-1)]] if len(kinds) > 2 else []
        scores = model.scores(logits, *centerness)[0][0]  # (R_l, K)
        # anchors of the levels before: as many at each location as on this one
        per_location = len(scores) // sizes[level]
        place = row - per_location * sum(sizes[:level])
        score = scores[place, label]
        gradient = torch.autograd.grad(score, levels[level])[0]
    return _as_heat(gradient, levels[level], name, _stride(model, level), score)


def _with_widths(predictions: Any, num_classes: int) -> tuple[Any, list[int]]:
    return predictions, [num_classes, 4, 1][: len(predictions)]


def _roi_heat(
    model: Any, features: dict[str, Tensor], label: int, proposal: Sequence[float]
) -> HeatMap:
    heads = model.roi_heads
    names = list(heads.in_features)
    maps = {name: own.detach().requires_grad_(name in names) for name, own in features.items()}
    first = next(iter(maps.values()))
    box = Boxes(torch.tensor([list(proposal)], device=first.device))
    with torch.enable_grad():
        score = _roi_score(heads, maps, box, label)
        inputs = [maps[name] for name in names]
        gradients = torch.autograd.grad(score, inputs, allow_unused=True)
    # a ROI is pooled from one level; the stages of a cascade may use several: the one that has most
    strength = [0.0 if g is None else float(g.abs().sum()) for g in gradients]
    used = max(range(len(names)), key=lambda i: strength[i])
    gradient = gradients[used]
    if gradient is None:
        gradient = torch.zeros_like(inputs[used])
    stride = round(1 / _scales(heads)[used])
    return _as_heat(gradient, inputs[used], names[used], stride, score)


def _roi_score(heads: Any, features: dict[str, Tensor], box: Boxes, label: int) -> Tensor:
    """Return the probability of a class for one proposal, by the heads' own modules."""
    maps = [features[name] for name in heads.in_features]
    predictor = heads.box_predictor
    if hasattr(heads, "res5"):
        pooled = heads._shared_roi_transform(maps, [box])
        return _probability(predictor, predictor(pooled.mean(dim=(2, 3))), box)[label]
    if not isinstance(predictor, nn.ModuleList):
        predictions = predictor(heads.box_head(heads.box_pooler(maps, [box])))
        return _probability(predictor, predictions, box)[label]
    size = tuple(features[heads.in_features[0]].shape[-2:])
    stride = round(1 / _scales(heads)[0])
    image = (size[0] * stride, size[1] * stride)
    scores = []
    stages: Any = predictor
    for stage, own in enumerate(stages):
        proposals = heads._create_proposals_from_boxes([box.tensor.detach()], [image])
        predictions = heads._run_stage(maps, proposals, stage)
        scores.append(_probability(own, predictions, proposals[0].proposal_boxes)[label])
        box = Boxes(own.predict_boxes(predictions, proposals)[0])
    return torch.stack(scores).mean()


def _probability(predictor: Any, predictions: Any, box: Boxes) -> Tensor:
    proposals = [Instances((1, 1), proposal_boxes=box)]
    return predictor.predict_probs(predictions, proposals)[0][0]


def _scales(heads: Any) -> list[float]:
    pooler = getattr(heads, "box_pooler", None) or heads.pooler
    return [2.0 ** -(pooler.min_level + i) for i in range(len(pooler.level_poolers))]


def _stride(model: Any, level: int) -> int:
    return int(model.anchor_generator.strides[level])


def _as_heat(gradient: Tensor, features: Tensor, level: str, stride: int, score: Tensor) -> HeatMap:
    """Return the positive part of the sum over channels, scaled to 0..1."""
    values = (gradient * features).sum(dim=1)[0].detach().clamp(min=0).float().cpu()
    top = values.max() if values.numel() else values.new_zeros(())
    return HeatMap(values / top.clamp(min=1e-12), level, stride, round(float(score.detach()), 6))
