"""Names of torchvision's MobileNetV3 as a classifier."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from lucidet.checkpoint.formats.renamed import Renamed
from lucidet.checkpoint.formats.resnet import imagenet_rgb


def recognize(names: Collection[str]) -> bool:
    """Return whether these are a MobileNetV3's names."""
    return "features.0.0.weight" in names and "features.16.0.weight" in names


def rename(weights: Mapping[str, Tensor]) -> Renamed:
    """Return the layers' weights; the classifier has no use in a detector."""
    renamed = Renamed("torchvision's MobileNetV3", {}, anywhere=True)
    for name, value in weights.items():
        if name.startswith("classifier."):
            renamed.unused[name] = "classifier of images"
        else:
            renamed.weights[name] = value
    renamed.settings = imagenet_rgb() | {"MODEL.MOBILENET.NORM_EPS": 0.001}
    return renamed
