"""Backbones from timm (the optional extra ``lucidet[timm]``), single or below a pyramid."""

# N images; a map at stride 2**l is called "resl", as a ResNet's

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lucidet.config import CfgNode
from lucidet.layers import FrozenBatchNorm2d, ShapeSpec
from lucidet.modeling.backbone.backbone import Backbone, channels_of
from lucidet.modeling.backbone.build import BACKBONE_REGISTRY
from lucidet.modeling.backbone.fpn import FPN, LastLevelMaxPool, build_fpn, p6p7_block
from lucidet.utils.registry import nearest_names

__all__ = [
    "TimmBackbone",
    "build_retinanet_timm_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
]


class TimmBackbone(Backbone):
    """Any of timm's models that gives feature maps; they are named by their stride.

    Attributes:
        body: timm's model, built with ``features_only=True``.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (),
        in_channels: int = 3,
        pretrained: bool = False,
        norm: str = "",
    ) -> None:
        """
        Args:
            name: of the model, as in ``timm.list_models()``.
            out_indices: which of the model's maps to give, counted from its finest; default: all at
                strides 4 to 32.
            in_channels: of the images.
            pretrained: load timm's weights (over the network).
            norm: "FrozenBN" turns BatchNorm into fixed scales; "" leaves the norms as they are.

        Raises:
            ImportError: timm isn't installed.
            ValueError: unknown model, a model without maps, maps of equal stride, another `norm`.
        """
        super().__init__()
        if norm not in ("", "FrozenBN"):
            raise ValueError(f"MODEL.TIMM.NORM must be '' or 'FrozenBN', got {norm!r}")
        body = _create(name, in_channels, pretrained, out_indices)
        strides = body.feature_info.reduction()
        if not out_indices:
            wanted = [i for i, stride in enumerate(strides) if stride in (4, 8, 16, 32)]
            body = _create(name, in_channels, pretrained, wanted)
            strides = body.feature_info.reduction()
        if len(set(strides)) != len(strides) or any(s & (s - 1) for s in strides):
            raise ValueError(
                f"the maps of timm model {name!r} have strides {strides}; a detector needs powers "
                "of 2 that differ: choose others with MODEL.TIMM.OUT_INDICES"
            )
        # converts in place but for a body that is a norm itself, which no model is
        self.body = FrozenBatchNorm2d.convert_frozen_batchnorm(body) if norm else body
        self._out_features = [f"res{stride.bit_length() - 1}" for stride in strides]
        channels = body.feature_info.channels()
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride."""
        return max(self._out_feature_strides.values())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return "resl" -> (N, C, H / 2**l, W / 2**l) for images (N, 3, H, W)."""
        maps = self.body(x)
        outputs = {}
        for name, level in zip(self._out_features, maps, strict=True):
            # transformers and the like work channels-last: (N, H, W, C)
            channels = self._out_feature_channels[name]
            outputs[name] = level if level.shape[1] == channels else level.permute(0, 3, 1, 2)
        return outputs


def _create(name: str, in_channels: int, pretrained: bool, out_indices: Sequence[int]) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f"MODEL.TIMM.NAME {name!r} needs timm, which isn't installed: "
            "pip install 'lucidet[timm]'"
        ) from error
    options: dict[str, Any] = {"out_indices": tuple(out_indices)} if out_indices else {}
    try:
        return timm.create_model(
            name, pretrained=pretrained, features_only=True, in_chans=in_channels, **options
        )
    except (RuntimeError, AttributeError, AssertionError, IndexError) as error:
        near = ", ".join(nearest_names(name.split(".")[0], timm.list_models()))
        raise ValueError(
            f"timm can't build {name!r} with feature maps {list(out_indices) or 'by stride'}: "
            f"{error}. Names like it: {near or 'none; see timm.list_models()'}"
        ) from error


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the model ``MODEL.TIMM.NAME``."""
    timm = cfg.MODEL.TIMM
    return TimmBackbone(
        timm.NAME,
        out_indices=timm.OUT_INDICES,
        in_channels=channels_of(input_shape),
        pretrained=timm.PRETRAINED,
        norm=timm.NORM,
    )


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a timm model with a pyramid, and p6 by max-pooling (``MODEL.FPN``)."""
    return build_fpn(cfg, build_timm_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a timm model with a pyramid, and p6 and p7 by convolutions."""
    bottom_up = build_timm_backbone(cfg, input_shape)
    return build_fpn(cfg, bottom_up, p6p7_block(cfg, bottom_up))
