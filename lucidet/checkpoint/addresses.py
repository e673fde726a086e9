"""Addresses of weights: ``detectron2://``, ``catalog://``, ``torchvision://``, ``https://``."""

from __future__ import annotations

from typing import Any

from lucidet.checkpoint.download import fetch
from lucidet.checkpoint.zoo_weights import published_url
from lucidet.utils.file_io import PathHandler, PathManager
from lucidet.utils.registry import nearest_names

__all__ = ["WeightsHandler", "register", "url_of"]

_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
_DETECTRON = "https://dl.fbaipublicfiles.com/detectron/"
_R50_GN = "ImageNetPretrained/47261647/R-50-GN.pkl"
_R101_GN = "ImageNetPretrained/47592356/R-101-GN.pkl"
_X101_32X8D = "ImageNetPretrained/20171220/X-101-32x8d.pkl"
_X101_64X4D = "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl"
#: backbones of Detectron that ``catalog://ImageNetPretrained/`` names: detectron2, FCOS and ATSS
#: don't name all of them alike
_IMAGENET = {
    "MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
    "MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
    "FAIR/R-50-GN": _R50_GN,
    "MSRA/R-50-GN": _R50_GN,
    "FAIR/R-101-GN": _R101_GN,
    "MSRA/R-101-GN": _R101_GN,
    "FAIR/X-101-32x8d": _X101_32X8D,
    "FAIR/20171220/X-101-32x8d": _X101_32X8D,
    "FAIR/X-101-64x4d": _X101_64X4D,
    "FAIR/20171220/X-101-64x4d": _X101_64X4D,
    "FAIR/X-152-32x8d-IN5k": "ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl",
}
#: box detectors of Detectron that ``catalog://Caffe2Detectron/COCO/`` names -> their training run
_DETECTORS = {
    "35857197/e2e_faster_rcnn_R-50-C4_1x": "01_33_49.iAX0mXvW",
    "35857345/e2e_faster_rcnn_R-50-FPN_1x": "01_36_30.cUF7QR7I",
    "35857890/e2e_faster_rcnn_R-101-FPN_1x": "01_38_50.sNxI7sX7",
    "36761737/e2e_faster_rcnn_X-101-32x8d-FPN_1x": "06_31_39.5MIHi1fZ",
}
_TRAINED_ON = "output/train/coco_2014_train%3Acoco_2014_valminusminival/generalized_rcnn"
_PREFIXES = ("detectron2://", "catalog://", "torchvision://", "https://", "http://")


class WeightsHandler(PathHandler):
    """Fetches weights into the cache folder; see `lucidet.checkpoint.download`."""

    def get_supported_prefixes(self) -> list[str]:
        """Return the prefixes of all addresses."""
        return list(_PREFIXES)

    def get_local_path(self, path: str, **kwargs: Any) -> str:
        """Return the file in the cache, fetched if it isn't there.

        Raises:
            ValueError: nothing is known under that name.
            FileNotFoundError: it can't be fetched; the message says which file to put where.
        """
        return str(fetch(url_of(path), path))


def register() -> None:
    """Let `PathManager` know the addresses: done once, when `lucidet.checkpoint` is imported."""
    PathManager.register_handler(WeightsHandler())


def url_of(address: str) -> str:
    """Return where an address points to.

    Raises:
        ValueError: nothing is known under that name; the nearest names are shown.

    >>> url_of("catalog://ImageNetPretrained/MSRA/R-50")
    'https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl'
    """
    scheme, _, name = address.partition("://")
    if scheme == "detectron2":
        return _DETECTRON2 + (name if "." in name.rpartition("/")[2] else _zoo_file(name, address))
    if scheme == "catalog":
        return _catalog(name, address)
    if scheme == "torchvision":
        return _torchvision(name, address)
    return address


def _zoo_file(name: str, address: str) -> str:
    """Return the file of a model of the zoo that is named by its config."""
    try:
        return published_url(name).removeprefix(_DETECTRON2)
    except RuntimeError as error:
        raise ValueError(f"{address}: {error}") from error


def _catalog(name: str, address: str) -> str:
    folder, _, wanted = name.partition("/")
    if folder == "ImageNetPretrained" and wanted in _IMAGENET:
        return _DETECTRON + _IMAGENET[wanted]
    wanted = wanted.removeprefix("COCO/")
    if folder == "Caffe2Detectron" and wanted in _DETECTORS:
        run, _, model = wanted.partition("/")
        trained = f"{run}/12_2017_baselines/{model}.yaml.{_DETECTORS[wanted]}"
        return f"{_DETECTRON}{trained}/{_TRAINED_ON}/model_final.pkl"
    if folder == "Caffe2Detectron":
        prefix, known = "Caffe2Detectron/COCO", _DETECTORS
    else:
        prefix, known = "ImageNetPretrained", _IMAGENET
    near = ", ".join(f"catalog://{prefix}/{n}" for n in _near(wanted, known))
    raise ValueError(f"no weights are known as {address}; near it: {near}")


def _torchvision(name: str, address: str) -> str:
    """Return the URL of a torchvision model; ``NAME`` or ``NAME/VERSION``.

    Without a version it is the first one, IMAGENET1K_V1 or COCO_V1, the one that detectors and
    their published figures start from.
    """
    from torchvision.models import get_model_weights, list_models

    model, _, version = name.partition("/")
    known = list_models()
    if model not in known:
        near = ", ".join(f"torchvision://{n}" for n in _near(model, known))
        raise ValueError(f"torchvision has no model {model!r} ({address}); near it: {near}")
    versions = {weights.name: weights for weights in get_model_weights(model)}
    if version and version not in versions:
        raise ValueError(f"{address}: {model} has the weights {', '.join(versions)}")
    return versions[version].url if version else next(iter(versions.values())).url


def _near(name: str, known: Any) -> list[str]:
    return list(nearest_names(name, list(known))) or sorted(known)[:5]
