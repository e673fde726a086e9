"""torchvision's names of a ResNet: also those of timm, maskrcnn-benchmark and many others.

``conv1``, ``bn1``, then ``layer1.0.conv1``, ``layer1.0.bn1`` and ``layer1.0.downsample.0``, ``.1``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from lucidet.checkpoint.formats.renamed import Renamed

_CLASSIFIER = ("fc.", "classifier.", "head.")
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)")
_STEM = re.compile(r"(?:stem\.)?(conv|bn)1\.(.+)")


def resnet_name(name: str) -> str | None:
    """Return lucidet's name, without what stands before ``stem`` or ``res2``; None: no ResNet's.

    >>> resnet_name("layer1.0.bn2.running_mean")
    'res2.0.conv2.norm.running_mean'
    >>> resnet_name("layer4.0.downsample.1.bias")
    'res5.0.shortcut.norm.bias'
    >>> resnet_name("fc.weight") is None
    True
    """
    stem = _STEM.fullmatch(name)
    if stem:
        kind, tensor = stem.groups()
        return f"stem.conv1.{'norm.' if kind == 'bn' else ''}{tensor}"
    block = _BLOCK.fullmatch(name)
    if block is None:
        return None
    layer, index, kind, number, tensor = block.groups()
    prefix = f"res{int(layer) + 1}.{index}"
    if kind == "downsample.":
        return f"{prefix}.shortcut.{'norm.' if number == '1' else ''}{tensor}"
    if kind == "conv":
        # a deformable convolution holds its offsets' convolution and its own in one module
        tensor = re.sub(r"^conv\.", "", tensor)
        if tensor.startswith("offset."):
            return f"{prefix}.conv{number}_{tensor}"
    return f"{prefix}.conv{number}.{'norm.' if kind == 'bn' else ''}{tensor}"


def recognize(names: Collection[str]) -> bool:
    """Return whether these are the names of a classifier's ResNet."""
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


def rename(weights: Mapping[str, Tensor]) -> Renamed:
    """Return a ResNet's weights; the classifier on top has no use in a detector.

    The settings are those of torchvision's training: RGB images, mean and deviation of ImageNet,
    stride in the 3x3 convolution.
    """
    renamed = Renamed("a classifier's ResNet (torchvision, timm)", {}, anywhere=True)
    for name, value in weights.items():
        new = resnet_name(name)
        if new is not None:
            renamed.weights[new] = value
        elif name.startswith(_CLASSIFIER):
            renamed.unused[name] = "classifier of images"
        else:
            renamed.weights[name] = value
    renamed.settings = imagenet_rgb()
    renamed.settings["MODEL.RESNETS.STRIDE_IN_1X1"] = False
    return renamed


def imagenet_rgb() -> dict[str, object]:
    """Return the config keys for RGB images with ImageNet's mean and deviation, 0..255."""
    return {
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
        "INPUT.FORMAT": "RGB",
    }
