"""Recognise by the names of the tensors where weights come from, and give them lucidet's names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from torch import Tensor

from lucidet.checkpoint import (
    names_caffe2,
    names_maskrcnn_benchmark,
    names_mobilenet,
    names_resnet,
    names_torchvision,
)
from lucidet.checkpoint.renaming import Renamed, strip_prefix


class Format(NamedTuple):
    """How a format is recognised, and its name map."""

    recognise: Callable[[Collection[str]], bool]
    rename: Callable[[Mapping[str, Tensor]], Renamed]


#: in the order of asking
FORMATS = [
    Format(names_caffe2.recognise, names_caffe2.rename),
    Format(names_maskrcnn_benchmark.recognise, names_maskrcnn_benchmark.rename),
    Format(names_torchvision.recognise, names_torchvision.rename),
    Format(names_resnet.recognise, names_resnet.rename),
    Format(names_mobilenet.recognise, names_mobilenet.rename),
]
#: detectron2 saves these with a model; lucidet computes them from the config
_COMPUTED = ("pixel_mean", "pixel_std")
#: beginnings of names in a whole detector
_DETECTOR = (
    "backbone.",
    "proposal_generator.",
    "roi_heads.",
    "head.cls_s",  # cls_subnet, cls_score
    "head.bbox_",
)


def rename_weights(weights: Mapping[str, Tensor], heuristics: bool = False) -> Renamed:
    """Return weights under lucidet's (detectron2's) names.

    Args:
        weights: name -> tensor, in any format that is known.
        heuristics: the file says (``matching_heuristics``) that its names are only ends of the
            model's names.
    """
    weights = strip_prefix(weights, "module.")
    for format_ in FORMATS:
        if format_.recognise(weights):
            return format_.rename(weights)
    renamed = Renamed("lucidet or detectron2", {}, anywhere=heuristics)
    if not any(name.startswith(_DETECTOR) for name in weights):
        renamed.anywhere = True
        renamed.format = "a backbone by itself"
    for name, value in weights.items():
        if name in _COMPUTED or ".cell_anchors." in name:
            renamed.unused[name] = "computed from the config"
        else:
            renamed.weights[name] = value
    return renamed
