"""Files under one interface, local ones and those with an address such as ``detectron2://...``.

`PathManager` handles local paths itself. Whoever knows a scheme registers a `PathHandler` for it
(weights: `lucidet.checkpoint`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO, Any

__all__ = ["PathHandler", "PathManager", "PathManagerBase"]


class PathHandler:
    """Handles the paths that begin with one of some prefixes. The default: local files."""

    def get_supported_prefixes(self) -> list[str]:
        """Return the prefixes, such as ``["detectron2://"]``."""
        return []

    def get_local_path(self, path: str, **kwargs: Any) -> str:
        """Return a local path with the same content, fetched where necessary."""
        return path.removeprefix("file://")

    def open(self, path: str, mode: str = "r", **kwargs: Any) -> IO[Any]:
        """Open the file as the built-in `open`; by default its local copy, for reading."""
        writes = set(mode) & set("wax+")
        if writes and self.get_supported_prefixes():
            raise ValueError(f"{path} can only be read, but mode is {mode!r}")
        return open(self.get_local_path(path), mode, **kwargs)

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        return os.path.exists(self.get_local_path(path))

    def isfile(self, path: str) -> bool:
        """Return whether there is such a file."""
        return os.path.isfile(self.get_local_path(path))

    def isdir(self, path: str) -> bool:
        """Return whether there is such a folder."""
        return os.path.isdir(self.get_local_path(path))

    def ls(self, path: str) -> list[str]:
        """Return the sorted names of what the folder holds."""
        return sorted(os.listdir(self.get_local_path(path)))


class PathManagerBase:
    """Sends each path to the handler registered for its prefix.

    >>> PathManager.exists("no/such/file")
    False
    >>> PathManager.open("weird://weights.pth")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: no handler for 'weird://weights.pth': known are local paths, ...file://...
    """

    def __init__(self) -> None:
        self._local = PathHandler()
        self._handlers: dict[str, PathHandler] = {"file://": self._local}

    def register_handler(self, handler: PathHandler, allow_override: bool = False) -> None:
        """Let `handler` answer for its prefixes.

        Raises:
            ValueError: a prefix is taken and `allow_override` is False.
        """
        for prefix in handler.get_supported_prefixes():
            taken = self._handlers.get(prefix)
            if taken is not None and type(taken) is not type(handler) and not allow_override:
                raise ValueError(
                    f"prefix {prefix!r} is handled by {type(taken).__name__} already; "
                    f"pass allow_override=True to replace it"
                )
            self._handlers[prefix] = handler

    def _handler(self, path: str) -> PathHandler:
        # the longest prefix is the most specific: https://host/ before https://
        for prefix in sorted(self._handlers, key=len, reverse=True):
            if path.startswith(prefix):
                return self._handlers[prefix]
        if "://" in path:
            known = ", ".join(["local paths", *sorted(self._handlers)])
            raise ValueError(f"no handler for {path!r}: known are {known}")
        return self._local

    def open(self, path: str | os.PathLike[str], mode: str = "r", **kwargs: Any) -> IO[Any]:
        """Open a file, with the arguments of the built-in `open`."""
        path = os.fspath(path)
        return self._handler(path).open(path, mode, **kwargs)

    def get_local_path(self, path: str | os.PathLike[str], **kwargs: Any) -> str:
        """Return a local path with the same content, fetched where necessary."""
        path = os.fspath(path)
        return self._handler(path).get_local_path(path, **kwargs)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Return whether there is such a file or folder."""
        path = os.fspath(path)
        return self._handler(path).exists(path)

    def isfile(self, path: str | os.PathLike[str]) -> bool:
        """Return whether there is such a file."""
        path = os.fspath(path)
        return self._handler(path).isfile(path)

    def isdir(self, path: str | os.PathLike[str]) -> bool:
        """Return whether there is such a folder."""
        path = os.fspath(path)
        return self._handler(path).isdir(path)

    def ls(self, path: str | os.PathLike[str]) -> list[str]:
        """Return the sorted names of what a folder holds."""
        path = os.fspath(path)
        return self._handler(path).ls(path)

    def mkdirs(self, path: str | os.PathLike[str]) -> None:
        """Make a local folder and those above it, where they do not exist."""
        Path(self._writable(path)).mkdir(parents=True, exist_ok=True)

    def rm(self, path: str | os.PathLike[str]) -> None:
        """Remove a local file."""
        os.remove(self._writable(path))

    def copy(
        self,
        src_path: str | os.PathLike[str],
        dst_path: str | os.PathLike[str],
        overwrite: bool = False,
    ) -> bool:
        """Copy a file to a local path; False where that exists and `overwrite` is not set."""
        target = self._writable(dst_path)
        if os.path.exists(target) and not overwrite:
            return False
        shutil.copyfile(self.get_local_path(src_path), target)
        return True

    def _writable(self, path: str | os.PathLike[str]) -> str:
        path = os.fspath(path)
        handler = self._handler(path)
        if handler is not self._local:
            raise ValueError(f"{path} can only be read; give a local path")
        return handler.get_local_path(path)


PathManager = PathManagerBase()
