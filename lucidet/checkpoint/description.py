"""What a checkpoint says of itself: config, classes, pixel format, data, AP reached, versions.

With it, weights are evaluated, used and inspected without any other file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision

from lucidet import __version__
from lucidet.checkpoint.reading import load_weights_file, local_weights_path
from lucidet.config import CfgNode, get_cfg
from lucidet.config.files import get_config_file
from lucidet.data import DatasetCatalog, Metadata, MetadataCatalog, dataset_names
from lucidet.utils.colormap import colormap

__all__ = [
    "KEY",
    "Description",
    "config_of_weights",
    "describe_run",
    "description_of_weights",
    "metadata_of_classes",
]

#: name of the description in a checkpoint
KEY = "lucidet"
FORMAT = 1
#: beside weights of earlier runs, which hold no config
_CONFIG_BESIDE = "config.yaml"


@dataclass(frozen=True)
class Description:
    """The description of a checkpoint.

    Attributes:
        config: the whole config, as YAML.
        classes: names of the classes 0..K-1; empty where they are not known.
        colors: (R, G, B) of each class, 0..255, in which it is drawn.
        category_ids: of each class in the dataset's own files; empty: 0..K-1.
        pixels: ``{"format": "BGR", "mean": [...], "std": [...]}``: values 0..255 of each channel.
        data: what it was trained on: names, counts of images and boxes.
        results: ``{"bbox/AP": 37.9, ...}`` of the last evaluation; empty before the first.
        versions: of lucidet, torch and torchvision.
        format: of this description.
    """

    config: str
    classes: tuple[str, ...] = ()
    colors: tuple[tuple[int, ...], ...] = ()
    category_ids: tuple[int, ...] = ()
    pixels: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        """Return plain containers, texts and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Description:
        """Return the description that `as_dict` made; unknown entries are ignored.

        Raises:
            ValueError: it holds no config.
        """
        if not isinstance(content.get("config"), str):
            raise ValueError(f"expected a config as text, found {sorted(content)}")
        known = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        known["classes"] = tuple(map(str, known.get("classes", ())))
        known["colors"] = tuple(tuple(map(int, c)) for c in known.get("colors", ()))
        known["category_ids"] = tuple(map(int, known.get("category_ids", ())))
        return cls(**known)

    def cfg(self) -> CfgNode:
        """Return the config, with the keys of this version.

        Keys that only the version that wrote it had are left out.
        """
        cfg = get_cfg()
        stored = CfgNode.load_cfg(self.config)
        _merge_known(stored, cfg)
        return cfg

    def metadata(self, name: str) -> Metadata:
        """Return metadata with the names and colors of the classes, under a name of its own."""
        known: dict[str, Any] = {}
        if self.classes:
            known["thing_classes"] = list(self.classes)
        if self.colors:
            known["thing_colors"] = [list(color) for color in self.colors]
        if self.category_ids:
            ids = {category: k for k, category in enumerate(self.category_ids)}
            known["thing_dataset_id_to_contiguous_id"] = ids
        return Metadata(name=name, **known)


def describe_run(
    cfg: CfgNode, data: Mapping[str, Any], results: Mapping[str, Any] | None = None
) -> Description:
    """Return the description of a training's checkpoint.

    Args:
        cfg: the effective config.
        data: summary of the training data.
        results: of the last evaluation, nested by dataset and task as evaluators return them.
    """
    metadata = _metadata(cfg)
    classes = tuple(metadata.get("thing_classes", None) or ())
    palette = colormap(rgb=True, maximum=255).astype(int).tolist()
    colors = metadata.get("thing_colors", None) or [
        palette[k % len(palette)] for k in range(len(classes))
    ]
    ids = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
    return Description(
        config=cfg.dump(),
        classes=classes,
        colors=tuple(tuple(int(c) for c in color) for color in colors),
        category_ids=tuple(sorted(ids, key=lambda category: ids[category])),
        pixels={
            "format": cfg.INPUT.FORMAT,
            "mean": [float(v) for v in cfg.MODEL.PIXEL_MEAN],
            "std": [float(v) for v in cfg.MODEL.PIXEL_STD],
        },
        data=dict(data),
        results=flat_results(results or {}),
        versions={
            "lucidet": __version__,
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
        },
    )


def flat_results(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return ``{"bbox/AP": 37.9}`` of nested results; what is no number is left out.

    >>> flat_results({"bbox": {"AP": 50, "note": "x"}})
    {'bbox/AP': 50.0}
    """
    flat: dict[str, float] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat |= flat_results(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[f"{prefix}{name}"] = float(value)
    return flat


def description_of_weights(address: str | os.PathLike[str]) -> Description | None:
    """Return what a weights file says of itself; None where it says nothing.

    Raises:
        FileNotFoundError, ValueError: see `load_weights_file`.
    """
    path = local_weights_path(address)
    content = _safetensors_metadata(path)
    if content is None:
        content = load_weights_file(path).get(KEY)
    if content is None:
        return None
    try:
        return Description.from_dict(content)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: its description is damaged: {error}") from error


def config_of_weights(address: str | os.PathLike[str]) -> CfgNode:
    """Return the config that goes with weights; MODEL.WEIGHTS in it is `address`.

    It is the one in the file; else the YAML of the same name beside it (``weights convert`` writes
    it) or ``config.yaml`` (an earlier run's); else, for an address of the zoo, the zoo's.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: no config goes with them.
    """
    found = description_of_weights(address)
    cfg = found.cfg() if found is not None else config_beside(address) or zoo_config(address)
    if cfg is None:
        raise ValueError(
            f"{os.fspath(address)} holds no config and none is beside it; name the one it was "
            "trained with: --config-file FILE (`lucidet weights convert` writes one for weights "
            "of other libraries)"
        )
    cfg.MODEL.WEIGHTS = os.fspath(address)
    return cfg


def metadata_of_classes(cfg: CfgNode, description: Description | None) -> Metadata:
    """Return what names the classes that a model predicts.

    Args:
        cfg: its config. With MODEL.CLASS_MAP predictions are in the classes of the test dataset.
        description: of its weights.
    """
    if description is not None and description.classes and not cfg.MODEL.CLASS_MAP:
        for name in cfg.DATASETS.TEST[:1]:
            known = MetadataCatalog.get(name) if name in MetadataCatalog.list() else Metadata()
            if tuple(known.get("thing_classes", None) or ()) == description.classes:
                return known
        return description.metadata(next(iter(cfg.DATASETS.TRAIN), "the weights' classes"))
    texts = [(name, "val") for name in cfg.DATASETS.TEST]
    texts += [(name, "train") for name in cfg.DATASETS.TRAIN]
    for text, split in texts[:1]:
        # a dataset that is not on this machine: classes are shown as numbers
        with contextlib.suppress(OSError, ValueError, KeyError):
            name = dataset_names([text], split)[0]
            metadata = MetadataCatalog.get(name)
            if metadata.get("thing_classes", None) is None and name in DatasetCatalog.list():
                DatasetCatalog.get(name)  # reading the annotations fills the names in
            return metadata
        return MetadataCatalog.get(text)
    return Metadata(name="no dataset")


def _merge_known(stored: Mapping[str, Any], into: CfgNode) -> None:
    for name, value in stored.items():
        if name not in into:
            continue
        if isinstance(into[name], CfgNode) and isinstance(value, Mapping):
            _merge_known(value, into[name])
        else:
            into.merge_from_list([name, value])


def config_beside(address: str | os.PathLike[str]) -> CfgNode | None:
    """Return the config in ``NAME.yaml`` or ``config.yaml`` beside NAME.pth, None without one."""
    path = local_weights_path(address)
    for candidate in (path.with_suffix(".yaml"), path.with_name(_CONFIG_BESIDE)):
        if candidate.is_file():
            cfg = get_cfg()
            cfg.merge_from_file(str(candidate))
            return cfg
    return None


def zoo_config(address: str | os.PathLike[str]) -> CfgNode | None:
    """Return the config of a published detector of detectron2 or torchvision."""
    text = os.fspath(address)
    folder = "torchvision" if text.startswith("torchvision://") else "COCO-Detection"
    _, _, name = text.partition("torchvision://" if folder == "torchvision" else f"{folder}/")
    if not name:
        return None
    try:
        file = get_config_file(f"{folder}/{name.split('/')[0].removesuffix('.yaml')}.yaml")
    except RuntimeError:
        return None
    cfg = get_cfg()
    cfg.merge_from_file(file)
    return cfg


def _safetensors_metadata(path: Path) -> Mapping[str, Any] | None:
    """Return the description in a safetensors file's header, None for another kind of file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError):
        return None
    return None if text is None else json.loads(text)


def _metadata(cfg: CfgNode) -> Metadata:
    """Return the metadata of the training data, else of the test data."""
    texts = [(name, "train") for name in cfg.DATASETS.TRAIN]
    texts += [(name, "val") for name in cfg.DATASETS.TEST]
    for text, split in texts[:1]:
        if text in MetadataCatalog.list():
            return MetadataCatalog.get(text)
        # data that are gone must not keep a checkpoint from being saved
        with contextlib.suppress(OSError, ValueError, KeyError):
            return MetadataCatalog.get(dataset_names([text], split)[0])
    return Metadata(name="no dataset")
