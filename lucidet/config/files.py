"""Read a config file with its ``_BASE_`` chain into one dictionary, and say where values stood."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from lucidet._regular_file import limit_of, open_regular_text
from lucidet.config import safe_yaml
from lucidet.config.suggestions import closest_names

BASE_KEY = "_BASE_"
MAX_CHAIN = 50  # files that name each other as _BASE_; detectron2's have 3

Opener = Callable[[str], IO[str]]


class ConfigContent(NamedTuple):
    """Nested values of a file, and ``FILE:LINE`` of each key, by dotted path."""

    values: dict[str, Any]
    origins: dict[str, str]


def open_config(filename: str) -> IO[str]:
    """Open a config file: a regular one of at most a megabyte."""
    return open_regular_text(filename, "config")


def read_config(filename: str, opener: Opener = open_config) -> ConfigContent:
    """Read `filename` on top of the file or files that its ``_BASE_`` names.

    A base's path is relative to the file that names it; in a list, later files win over earlier.
    Each file is read once.

    Raises:
        FileNotFoundError: a file of the chain isn't there.
        ValueError: not YAML, no regular file, a chain that comes back to itself, or a base with a
            value where the file has a section.
    """
    return _read(filename, opener, (), {})


def _read(
    filename: str, opener: Opener, chain: tuple[str, ...], known: dict[str, ConfigContent]
) -> ConfigContent:
    real = os.path.realpath(filename)
    if real in known:
        return known[real]
    if real in chain:
        loop = " -> ".join([*(os.path.basename(f) for f in chain), os.path.basename(real)])
        raise ValueError(f"{filename}: {BASE_KEY} comes back to itself: {loop}")
    if len(chain) > MAX_CHAIN:
        raise ValueError(f"{filename}: more than {MAX_CHAIN} files name each other as {BASE_KEY}")
    own = _read_one(filename, opener, named_by=chain[-1] if chain else None)
    merged = ConfigContent({}, {})
    for base in _bases(own, filename):
        merge_content(_read(base, opener, (*chain, real), known), merged)
    merge_content(own, merged)
    known[real] = merged
    return merged


def _read_one(filename: str, opener: Opener, named_by: str | None) -> ConfigContent:
    if filename.endswith(".py"):
        raise ValueError(
            f"{filename}: Python files are not run to read a config; the same as YAML is needed"
            f"{_ours(filename.removesuffix('.py') + '.yaml')}"
        )
    try:
        with opener(filename) as file:
            text = file.read(limit_of("config") + 1)
        if len(text) > limit_of("config"):  # of an opener that knows no limit
            raise ValueError(f"config file {filename} is longer than {limit_of('config')}")
    except FileNotFoundError as error:
        where = f", which {named_by} names as {BASE_KEY}," if named_by else ""
        raise FileNotFoundError(
            f"config file {filename}{where} does not exist{_ours(filename)}"
        ) from error
    except IsADirectoryError as error:
        raise ValueError(f"config file {filename} is a folder") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"config file {filename} is not text: {error}") from error
    values, lines = safe_yaml.load(text, filename)
    if values is None:  # an empty file
        values = {}
    if not isinstance(values, dict):
        raise ValueError(f"{filename}:1: expected `KEY: value` lines, got {type(values).__name__}")
    return ConfigContent(values, {key: f"{filename}:{line}" for key, line in lines.items()})


def _bases(content: ConfigContent, filename: str) -> list[str]:
    """Take ``_BASE_`` out of `content` and return the paths it names."""
    bases = content.values.pop(BASE_KEY, [])
    where = content.origins.pop(BASE_KEY, filename)
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"{where}: {BASE_KEY} must be a path or a list of paths, got {bases!r}")
    if any("://" in base for base in bases):
        raise ValueError(
            f"{where}: {BASE_KEY} must be a file on this machine, got {bases}; put a copy beside "
            f"this file and name it{_ours(next(base for base in bases if '://' in base))}"
        )
    folder = os.path.dirname(filename)
    return [os.path.normpath(os.path.join(folder, os.path.expanduser(base))) for base in bases]


def _ours(base: str) -> str:
    """Return where lucidet has a config of that name, to end a message; "" where it has none."""
    folder, name = ["", *base.split("/")][-2:]
    configs = configs_folder()
    for candidate in (configs / folder / name, configs / name):
        if candidate.is_file():
            return f"; lucidet has one of that name: {candidate}"
    return ""


def get_config_file(config_path: str) -> str:
    """Return the file of a config that comes with lucidet.

    Args:
        config_path: below configs/, such as ``COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml``.

    Raises:
        RuntimeError: there is no such config; names the nearest.
    """
    folder = configs_folder()
    file = folder / config_path
    if not file.is_file():
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")]
        raise RuntimeError(f"no config {config_path}; {closest_names(str(config_path), names)}")
    return os.fspath(file)


def configs_folder() -> Path:
    """Return configs/: in the package, or beside it where the checkout cannot hold a link."""
    inside = Path(__file__).parents[1] / "model_zoo" / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def merge_content(new: ConfigContent, into: ConfigContent) -> None:
    """Put `new`, its values and origins, over `into`, section by section."""
    _merge(new.values, into.values, new.origins, "")
    into.origins.update(new.origins)


def _merge(new: dict[str, Any], into: dict[str, Any], origins: dict[str, str], path: str) -> None:
    for key, value in new.items():
        if not isinstance(value, dict):
            into[key] = value
            continue
        below = into.setdefault(key, {})
        if not isinstance(below, dict):
            where = origins.get(f"{path}{key}", "")
            raise ValueError(f"{where}: {path}{key} is a section, but a value in {BASE_KEY}")
        _merge(value, below, origins, f"{path}{key}.")
