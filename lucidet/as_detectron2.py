"""Let programs that import detectron2 run on lucidet, unchanged.

``import lucidet.as_detectron2`` as the first line of a program, or ``python -m
lucidet.as_detectron2 program.py ARGS`` (``-m module ARGS`` too): ``detectron2`` and its submodules
are lucidet's from then on, also for `importlib.util.find_spec` and `importlib.metadata.version`,
and logger names that begin with ``detectron2`` are those of ``lucidet``. An installed detectron2
wins, unless ``LUCIDET_AS_DETECTRON2=force`` is set, or ``--force`` stands before the program.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import os
import runpy
import sys
from collections.abc import Iterable, Iterator, Sequence
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import lucidet

__all__ = ["VERSION", "install", "main"]

#: whose names lucidet has: what programs that ask for detectron2's version get
VERSION = "0.6"
_NAME = "detectron2"

logger = logging.getLogger("lucidet.as_detectron2")


class _Loader:
    """Gives the module of lucidet that stands for one of detectron2's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._own: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own  # the import system has put the other name there


class _Package:
    """Makes the package ``detectron2`` itself: lucidet's names, and detectron2's version."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = f"lucidet under the name of {_NAME}"
        module.__version__ = VERSION  # type: ignore[attr-defined]
        module.__file__ = lucidet.__file__


class _Metadata(importlib.metadata.Distribution):
    """What `importlib.metadata` says of detectron2."""

    def read_text(self, filename: str) -> str | None:
        if filename not in ("METADATA", "PKG-INFO"):
            return None
        fields = Message()
        fields["Metadata-Version"], fields["Name"], fields["Version"] = "2.1", _NAME, VERSION
        return fields.as_string()

    def locate_file(self, path: Any) -> Any:
        return Path(lucidet.__file__).parent / path


class _Finder:
    """Finds detectron2 and its submodules in lucidet; for `sys.meta_path`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == _NAME:
            found = importlib.machinery.ModuleSpec(name, _Package(), is_package=True)  # type: ignore[arg-type]
            found.submodule_search_locations = []
            return found
        if not name.startswith(_NAME + "."):
            return None
        own = "lucidet" + name.removeprefix(_NAME)
        try:
            there = importlib.util.find_spec(own)
        except ModuleNotFoundError:
            return None
        if there is None:
            return None
        package = there.submodule_search_locations is not None
        return importlib.machinery.ModuleSpec(name, _Loader(own), is_package=package)  # type: ignore[arg-type]

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterable[importlib.metadata.Distribution]:
        return iter([_Metadata()]) if context is None or context.name == _NAME else iter(())


def _is_installed() -> bool:
    others = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
    return any(
        finder.find_spec(_NAME, None) is not None
        for finder in others
        if hasattr(finder, "find_spec")
    )


def install(force: bool = False) -> bool:
    """Let ``detectron2`` be lucidet in this process.

    Args:
        force: even where detectron2 is installed.

    Returns:
        Whether it is.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return True
    if not force and (_NAME in sys.modules or _is_installed()):
        logger.warning(
            "detectron2 is installed and used: lucidet takes its place with "
            "LUCIDET_AS_DETECTRON2=force"
        )
        return False
    for name in [n for n in sys.modules if n == _NAME or n.startswith(_NAME + ".")]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
    loggers: dict[str, Any] = logging.Logger.manager.loggerDict
    for name in list(_named(loggers)):
        del loggers[name]
    loggers[_NAME] = logging.getLogger("lucidet")
    logger.warning("detectron2 is lucidet %s here (as version %s)", lucidet.__version__, VERSION)
    return True


def _named(loggers: dict[str, Any]) -> Iterator[str]:
    """Yield the names of loggers that were made under detectron2's name before."""
    for name in loggers:
        if name == _NAME or name.startswith(_NAME + "."):
            yield name


def main(arguments: Sequence[str]) -> None:
    """Run a program: ``[--force] (program.py | -m module) ARGS``.

    Raises:
        SystemExit: no program is named, or the program ends so.
    """
    words = list(arguments)
    force = words[:1] == ["--force"]
    words = words[force:]
    as_module = words[:1] == ["-m"]
    words = words[as_module:]
    if not words:
        raise SystemExit(
            "usage: python -m lucidet.as_detectron2 [--force] (program.py | -m module) ARGS"
        )
    install(force or _is_forced())
    sys.argv = words
    if as_module:
        sys.path[0] = os.getcwd()
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


def _is_forced() -> bool:
    return os.environ.get("LUCIDET_AS_DETECTRON2", "") == "force"


if __name__ == "__main__":
    # as the module that programs may import, not as a second one called __main__
    importlib.import_module("lucidet.as_detectron2").main(sys.argv[1:])
else:
    install(_is_forced())
