"""Addresses of weights: ``detectron2://``, ``catalog://``, ``torchvision://``, ``https://``."""

from __future__ import annotations

from typing import Any

from lucidet.checkpoint.download import fetch
from lucidet.utils.file_io import PathHandler, PathManager
from lucidet.utils.registry import nearest_names

__all__ = ["WeightsHandler", "register", "url_of"]

_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"
_DETECTRON = "https://dl.fbaipublicfiles.com/detectron/"
#: backbones of Detectron that ``catalog://ImageNetPretrained/`` names
_IMAGENET = {
    "MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
    "MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
    "FAIR/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
    "FAIR/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
    "FAIR/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
    "FAIR/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
    "FAIR/X-152-32x8d-IN5k": "ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl",
}
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
    from lucidet.model_zoo import get_checkpoint_url

    try:
        return get_checkpoint_url(name).removeprefix(_DETECTRON2)
    except RuntimeError as error:
        raise ValueError(f"{address}: {error}") from error


def _catalog(name: str, address: str) -> str:
    wanted = name.removeprefix("ImageNetPretrained/")
    if wanted == name or wanted not in _IMAGENET:
        near = ", ".join(f"catalog://ImageNetPretrained/{n}" for n in _near(wanted, _IMAGENET))
        raise ValueError(f"no weights are known as {address}; near it: {near}")
    return _DETECTRON + _IMAGENET[wanted]


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
