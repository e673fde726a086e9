"""Configs of the zoo by name: ``faster_rcnn_R_50_FPN_1x``, with or without folder and suffix."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from lucidet.config.files import configs_folder

__all__ = ["find_config", "zoo_configs"]

#: where a name stands in several folders, the first of these wins
FOLDERS = (
    "COCO-Detection",
    "COCO-InstanceSegmentation",
    "COCO-Keypoints",
    "PascalVOC-Detection",
    "torchvision",
)
#: training programs of their own, with data that they make or name: last
_EXAMPLES = ("shapes", "blood_cells")


def zoo_configs() -> list[Path]:
    """Return the files of all configs that come with lucidet, in the order in which names win.

    Bases (``Base-...yaml``) are not among them.
    """
    folder = configs_folder()
    files = [path for path in folder.rglob("*.yaml") if not path.name.startswith("Base-")]

    def order(path: Path) -> tuple[int, str]:
        name = path.relative_to(folder).parts[0]
        place = FOLDERS.index(name) if name in FOLDERS else len(FOLDERS)
        return place + (name in _EXAMPLES), path.as_posix()

    return sorted(files, key=order)


def find_config(name: str | os.PathLike[str]) -> str:
    """Return the file that a command line means: a path, or the name of a config of the zoo.

    Args:
        name: a file; or a path below configs/ (``COCO-Detection/retinanet_R_50_FPN_1x.yaml``); or
            its last part, with or without ``.yaml``. "" stays "".

    Raises:
        FileNotFoundError: there is neither; names the nearest.

    >>> find_config("retinanet_R_50_FPN_1x").replace(os.sep, "/").split("/")[-2:]
    ['COCO-Detection', 'retinanet_R_50_FPN_1x.yaml']
    """
    text = os.fspath(name)
    if not text or os.path.isfile(os.path.expanduser(text)):
        return os.path.expanduser(text)
    if os.path.isdir(text):
        raise FileNotFoundError(f"config file {text} is a folder; name a file in it")
    wanted = text.removesuffix(".yaml").removesuffix(".yml").replace("\\", "/")
    wanted = re.sub(r"^(?:.*/)?configs/", "", wanted)
    folder = configs_folder()
    known = {p.relative_to(folder).with_suffix("").as_posix(): p for p in zoo_configs()}
    if wanted in known:
        return os.fspath(known[wanted])
    for path in known.values():
        if path.stem == wanted:
            return os.fspath(path)
    nearest = _nearest(wanted, known)
    raise FileNotFoundError(f"no config file {text}, and none of the zoo has that name{nearest}")


def _nearest(wanted: str, known: dict[str, Path]) -> str:
    stems = {path.stem: name for name, path in reversed(known.items())}
    close = difflib.get_close_matches(wanted.rpartition("/")[2], stems, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; `lucidet models` lists them: {', '.join(list(stems)[-3:])} ..."
