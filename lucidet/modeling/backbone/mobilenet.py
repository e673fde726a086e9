"""MobileNetV3 large: Howard et al. 2019 (arXiv 1905.02244), table 1; the layers are torchvision's.

With the pyramid of torchvision's ``fasterrcnn_mobilenet_v3_large_fpn``: two maps of one stride.
"""

# N images

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from lucidet.config import CfgNode
from lucidet.layers import FrozenBatchNorm2d, ShapeSpec
from lucidet.modeling.backbone.backbone import Backbone
from lucidet.modeling.backbone.build import BACKBONE_REGISTRY
from lucidet.modeling.backbone.fpn import FPN, LastLevelMaxPool, build_fpn

__all__ = ["MobileNetV3", "build_mobilenet_backbone", "build_mobilenet_fpn_backbone"]

#: name -> (index of the layer whose output it is, channels, stride): the layers that stride, the
#: first and the last
MAPS = {
    "c0": (0, 16, 2),
    "c1": (2, 24, 4),
    "c2": (4, 40, 8),
    "c3": (7, 80, 16),
    "c4": (13, 160, 32),
    "c5": (16, 960, 32),
}
_NORMS = {"BN": nn.BatchNorm2d, "FrozenBN": FrozenBatchNorm2d}


class MobileNetV3(Backbone):
    """The convolutional part of MobileNetV3 large.

    Attributes:
        features: its 17 layers, named as in torchvision; those after the last wanted map are left
            out.
    """

    def __init__(
        self,
        out_features: Sequence[str] = ("c4", "c5"),
        norm: str = "FrozenBN",
        norm_eps: float = 1e-5,
        freeze_at: int = 0,
    ) -> None:
        """
        Args:
            out_features: names of the wanted maps, among c0 ... c5.
            norm: "FrozenBN" or "BN".
            norm_eps: added to the variance.
            freeze_at: keep the first maps' layers as they are: 0 none, 1 those up to c0, 2 up to c1
                and so on.

        Raises:
            ValueError: an unknown map or norm.
        """
        super().__init__()
        unknown = [name for name in out_features if name not in MAPS]
        if unknown or not out_features:
            raise ValueError(
                f"MODEL.MOBILENET.OUT_FEATURES {list(out_features)} must be some of {list(MAPS)}"
            )
        if norm not in _NORMS:
            raise ValueError(f"MODEL.MOBILENET.NORM must be one of {[*_NORMS]}, got {norm!r}")
        layers = mobilenet_v3_large(
            weights=None, norm_layer=partial(_NORMS[norm], eps=norm_eps)
        ).features
        self._out_features = [name for name in MAPS if name in out_features]
        self.features = layers[: MAPS[self._out_features[-1]][0] + 1]
        self._out_feature_channels = {name: MAPS[name][1] for name in self._out_features}
        self._out_feature_strides = {name: MAPS[name][2] for name in self._out_features}
        last_frozen = [index for index, _, _ in MAPS.values()][:freeze_at][-1:]
        for layer in self.features[: last_frozen[0] + 1] if last_frozen else ():
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(layer)

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride."""
        return max(self._out_feature_strides.values())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return name -> (N, C, H / stride, W / stride), finest first, for images (N, 3, H, W)."""
        wanted = {MAPS[name][0]: name for name in self._out_features}
        outputs = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in wanted:
                outputs[wanted[index]] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_mobilenet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MobileNetV3:
    """Build MobileNetV3 large from ``MODEL.MOBILENET`` and ``MODEL.BACKBONE.FREEZE_AT``.

    Raises:
        ValueError: images of another number of channels than 3.
    """
    if input_shape.channels != 3:
        raise ValueError(
            f"MobileNetV3 takes images of 3 channels; MODEL.PIXEL_MEAN has {input_shape.channels}"
        )
    mobilenet = cfg.MODEL.MOBILENET
    return MobileNetV3(
        out_features=mobilenet.OUT_FEATURES,
        norm=mobilenet.NORM,
        norm_eps=mobilenet.NORM_EPS,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


@BACKBONE_REGISTRY.register()
def build_mobilenet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build MobileNetV3 with a pyramid (``MODEL.FPN``), and one more level by max-pooling."""
    return build_fpn(cfg, build_mobilenet_backbone(cfg, input_shape), LastLevelMaxPool())
