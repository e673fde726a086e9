"""Build the detector that a config names."""

from __future__ import annotations

import logging

import torch
from torch import nn

from lucidet.config import CfgNode
from lucidet.utils.registry import Registry, UnknownNameError

META_ARCH_REGISTRY = Registry("META_ARCHITECTURE")
META_ARCH_REGISTRY.__doc__ = """Whole detectors.

Each is called as ``cls(cfg)``; the module takes a list of dicts, one an image, and returns a dict
of losses at training, a list of results at test.
"""


def build_model(cfg: CfgNode) -> nn.Module:
    """Return ``cfg.MODEL.META_ARCHITECTURE`` on ``cfg.MODEL.DEVICE``, with random weights.

    Weights are loaded by :class:`lucidet.checkpoint.DetectionCheckpointer`. Where the config asks
    for a GPU and there is none, that is said and the model stays on the CPU.

    Raises:
        ValueError: no such architecture, the config asks for what lucidet doesn't have, or
            MODEL.CLASS_MAP doesn't fit the model.
    """
    from lucidet.config.checks import check_supported, keys_that_say

    check_supported(cfg)
    try:
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    except UnknownNameError as error:
        keys = keys_that_say(cfg, error.name)
        hint = f" ({keys}); a component of your own is known once its module is imported"
        raise UnknownNameError(f"{error}{hint if keys else ''}", error.name) from error
    if cfg.MODEL.CLASS_MAP:
        if not hasattr(model, "set_class_map"):
            raise ValueError(
                f"MODEL.CLASS_MAP has {len(cfg.MODEL.CLASS_MAP)} entries, but "
                f"{type(model).__name__} is none of lucidet's detectors and can't map its classes; "
                "set MODEL.CLASS_MAP []"
            )
        model.set_class_map(cfg.MODEL.CLASS_MAP)
    return model.to(available_device(cfg.MODEL.DEVICE))


def available_device(name: str) -> torch.device:
    """Return the device called `name`, or the CPU, with a warning, where there is no such device.

    >>> available_device("cpu")
    device(type='cpu')
    """
    device = torch.device(name)
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        logging.getLogger(__name__).warning(
            "MODEL.DEVICE is %r, but this machine has no such device; running on the CPU", name
        )
        return torch.device("cpu")
    return device
