"""What there is in the model zoo: backbone, published AP, size and weights of each config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lucidet.checkpoint.addresses import url_of
from lucidet.checkpoint.download import cached_path
from lucidet.checkpoint.zoo_weights import published_url
from lucidet.config import CfgNode, get_cfg
from lucidet.config.files import configs_folder
from lucidet.config.names import find_config, zoo_configs
from lucidet.modeling import build_model

__all__ = ["ModelEntry", "count_parameters", "list_models"]

#: "37.9 box AP on COCO val2017" in the first lines of a config
_PUBLISHED = re.compile(r"(\d\d\.\d) (box AP|recall)[^.\n]*")
_HEADER_LINES = 4


@dataclass(frozen=True)
class ModelEntry:
    """One config of the zoo.

    Attributes:
        name: for ``--model``; with its folder where the last part alone means another config.
        backbone: such as R-50-FPN.
        box_ap: published, in percent; None where there is no figure.
        measure: what `box_ap` is: box AP, or recall for proposals.
        parameters: of the whole model, in all.
        weights: address of the trained detector; "" where none is published.
        start: address or file of the weights that training starts from; "" for random ones.
        on_disk: whether `weights`, or without them `start`, need no download.
    """

    name: str
    backbone: str
    box_ap: float | None
    measure: str
    parameters: int
    weights: str
    start: str
    on_disk: bool


def list_models(words: Sequence[str] = ()) -> Iterator[ModelEntry]:
    """Yield the configs of the zoo whose names hold all of `words`, in the order of names."""
    folder = configs_folder()
    for path in zoo_configs():
        whole = path.relative_to(folder).with_suffix("").as_posix()
        if all(word.lower() in whole.lower() for word in words):
            yield _entry(path, whole)


def _entry(path: Path, whole: str) -> ModelEntry:
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:_HEADER_LINES])
    figure = _PUBLISHED.search(head)
    weights = _trained(whole, cfg)
    start = "" if weights == cfg.MODEL.WEIGHTS else cfg.MODEL.WEIGHTS
    is_short = Path(find_config(path.stem)).samefile(path)
    return ModelEntry(
        name=path.stem if is_short else whole,
        backbone=backbone_name(cfg),
        box_ap=float(figure[1]) if figure else None,
        measure=figure[2] if figure else "",
        parameters=count_parameters(cfg),
        weights=weights,
        start=start,
        on_disk=_is_on_disk(weights or start),
    )


def count_parameters(cfg: CfgNode) -> int:
    """Return the number of parameters of a config's model, without memory for them."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.TIMM.PRETRAINED = False
    cfg.MODEL.CLASS_MAP = []  # has no parameters, and is checked by value
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(cfg).parameters())


def backbone_name(cfg: CfgNode) -> str:
    """Return a short name of a config's backbone: R-50-FPN, X-101-32x8d-FPN, R-50-C4."""
    builder = cfg.MODEL.BACKBONE.NAME
    neck = "-FPN" if "fpn" in builder else ""
    if "mobilenet" in builder:
        return f"MobileNetV3{neck}"
    if "timm" in builder:
        return f"{cfg.MODEL.TIMM.NAME}{neck}"
    nets = cfg.MODEL.RESNETS
    if not neck:
        neck = "-C4" if nets.OUT_FEATURES == ["res4"] else "-DC5" if nets.RES5_DILATION == 2 else ""
    if nets.NUM_GROUPS > 1:
        return f"X-{nets.DEPTH}-{nets.NUM_GROUPS}x{nets.WIDTH_PER_GROUP}d{neck}"
    return f"R-{nets.DEPTH}{neck}"


def _trained(whole: str, cfg: CfgNode) -> str:
    """Return the address of the published detector, "" where there is none."""
    if whole.startswith("torchvision/"):
        return cfg.MODEL.WEIGHTS
    try:
        published_url(whole)
    except RuntimeError:
        return ""
    return f"detectron2://{whole}"


def _is_on_disk(address: str) -> bool:
    if "://" not in address:
        return not address or Path(address).is_file()
    return cached_path(url_of(address)).is_file()
