"""Recognize the format of weights by their names, and map them to lucidet's names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from torch import Tensor

from lucidet.checkpoint.formats import (
    caffe2,
    maskrcnn_benchmark,
    mobilenet,
    resnet,
    torchvision,
)
from lucidet.checkpoint.formats.renamed import Renamed, strip_prefix


class Format(NamedTuple):
    """How a format is recognized, and its name map."""

    recognize: Callable[[Collection[str]], bool]
    rename: Callable[[Mapping[str, Tensor]], Renamed]


#: in the order of asking
FORMATS = [
    Format(caffe2.recognize, caffe2.rename),
    Format(maskrcnn_benchmark.recognize, maskrcnn_benchmark.rename),
    Format(torchvision.recognize, torchvision.rename),
    Format(resnet.recognize, resnet.rename),
    Format(mobilenet.recognize, mobilenet.rename),
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
        if format_.recognize(weights):
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
