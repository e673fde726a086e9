"""Find a config by its path below configs/, and the weights that detectron2 published for it.

Names and behaviour of `detectron2.model_zoo`, for box detectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lucidet.config import CfgNode, get_cfg
from lucidet.config.files import get_config_file

if TYPE_CHECKING:
    from torch import nn

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]


def get_checkpoint_url(config_path: str) -> str:
    """Return the address of the weights that detectron2 trained with a config.

    Args:
        config_path: below configs/, such as ``COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml``.

    Raises:
        RuntimeError: detectron2 published none.

    >>> url = get_checkpoint_url("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    >>> url.removeprefix("https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/")
    'retinanet_R_50_FPN_1x/190397773/model_final_bfca0b.pkl'
    """
    from lucidet.checkpoint.zoo_weights import published_url

    return published_url(str(config_path))


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """Return the config of that name.

    Args:
        config_path: see :func:`get_config_file`.
        trained: let MODEL.WEIGHTS be the detector that detectron2 trained, not the backbone that
            training starts from.
    """
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Return a model with its weights, in training mode.

    Args:
        config_path, trained: see :func:`get_config`.
        device: instead of the config's; None is the GPU where there is one, else the CPU.
    """
    import torch

    from lucidet.checkpoint import DetectionCheckpointer
    from lucidet.modeling import build_model

    cfg = get_config(config_path, trained)
    if device is not None or not torch.cuda.is_available():
        cfg.MODEL.DEVICE = device or "cpu"
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return model
