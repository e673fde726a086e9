"""Import Python modules of the user, which register datasets and model parts, in every process."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

#: names that processes started by this one import too
VARIABLE = "LUCIDET_IMPORT"

__all__ = ["import_again", "import_modules"]


def import_modules(names: Sequence[str]) -> None:
    """Import modules, here and in each process that this one starts.

    Args:
        names: dotted names, looked for in the current folder too, or ``FILE.py``.

    Raises:
        ImportError: there is no such module, or one that it imports is missing.
    """
    for name in names:
        _import(name)
    known = json.loads(os.environ.get(VARIABLE) or "[]")
    os.environ[VARIABLE] = json.dumps(list(dict.fromkeys([*known, *map(_lasting, names)])))


def import_again() -> None:
    """Import what the process that started this one was told to import."""
    for name in json.loads(os.environ.get(VARIABLE) or "[]"):
        _import(name)


def _lasting(name: str) -> str:
    """Return a name that another process with another current folder understands."""
    return os.path.abspath(name) if name.endswith(".py") else name


def _import(name: str) -> None:
    if name.endswith(".py"):
        _import_file(Path(name))
        return
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # of a module that it imports itself
        raise ImportError(
            f"--import {name}: there is no such module in {here} or on PYTHONPATH; a file is "
            "named with its suffix, --import my_data.py"
        ) from error


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise ImportError(f"--import {path}: there is no such file")
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"{path.stem}_{digest}" if path.stem in sys.modules else path.stem
    if getattr(sys.modules.get(path.stem), "__file__", None) == str(path):
        return  # imported already: registering twice is an error
    if f"{path.stem}_{digest}" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"--import {path}: not a Python file")
    sys.path.insert(0, str(path.parent))  # its own imports
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
