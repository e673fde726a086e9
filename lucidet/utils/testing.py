"""Helpers for tests of detectors; names as `detectron2.utils.testing`."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["assert_instances_allclose", "get_model_no_weights", "random_boxes"]


def get_model_no_weights(config_path: str) -> torch.nn.Module:
    """Return the model of a config from the model zoo, on the CPU, with random weights.

    Args:
        config_path: as for `lucidet.model_zoo`: ``COCO-Detection/retinanet_R_50_FPN_1x.yaml``.
    """
    # helpers stand below the components that they help to test, so these come at the call
    from lucidet import model_zoo
    from lucidet.config import get_cfg
    from lucidet.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(config_path))
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def random_boxes(
    num_boxes: int, max_coord: float = 100, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return (num_boxes, 4) XYXY boxes in 0..max_coord, with sides of at least 1 pixel.

    >>> boxes = random_boxes(5, max_coord=50)
    >>> bool((boxes[:, 2:] - boxes[:, :2] >= 1).all()), bool((boxes <= 50).all())
    (True, True)
    """
    half = max_coord / 2
    corner_and_size = torch.rand(num_boxes, 2, 2, device=device) * half  # (R, corner|size, xy)
    corner, size = corner_and_size.unbind(1)
    return torch.cat([corner, corner + size.clamp(min=1.0)], dim=1)


def assert_instances_allclose(
    input: Any,
    other: Any,
    *,
    rtol: float = 1e-5,
    msg: str = "",
    size_as_tensor: bool = False,
) -> None:
    """Fail unless two Instances agree in image size, fields and values, in the same order.

    Args:
        input: Instances.
        other: Instances.
        rtol: allowed difference relative to the greatest absolute value of each field; integers
            and booleans must be equal.
        msg: begins the message of a failure.
        size_as_tensor: image sizes may be tensors.
    """
    prefix = f"{msg}: " if msg else ""
    sizes = [i.image_size for i in (input, other)]
    if size_as_tensor:
        sizes = [tuple(torch.as_tensor(size).tolist()) for size in sizes]
    assert tuple(sizes[0]) == tuple(sizes[1]), f"{prefix}image sizes {sizes[0]} and {sizes[1]}"
    fields = [sorted(i.get_fields()) for i in (input, other)]
    assert fields[0] == fields[1], f"{prefix}fields {fields[0]} and {fields[1]}"
    for name in fields[0]:
        a, b = (getattr(i.get(name), "tensor", i.get(name)) for i in (input, other))  # Boxes
        if not isinstance(a, torch.Tensor):
            assert a == b, f"{prefix}field {name!r} differs: {a!r} and {b!r}"
            continue
        assert a.shape == b.shape, (
            f"{prefix}field {name!r} has shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
        if a.is_floating_point() and a.numel():
            difference = (a - b).abs().max().item()
            allowed = rtol * max(a.abs().max().item(), b.abs().max().item())
            close = difference <= allowed
        else:
            difference, close = float("nan"), torch.equal(a, b)
        assert close, f"{prefix}field {name!r} differs, by up to {difference:g}:\n{a}\n{b}"
