"""Find the image that an annotation names, inside one folder and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from lucidet.data.image_io import image_size
from lucidet.data.specification.reading import Report
from lucidet.data.text_files import is_image, name_forms


class ImageFolder:
    """The images below one folder, found by the names that annotations give them.

    Args:
        root: the folder; nothing outside it is ever returned (symbolic links inside it may lead
            elsewhere).
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))

    @cached_property
    def files(self) -> list[str]:
        """Paths of all images, relative to the root, with slashes, sorted."""
        found = []
        seen: set[str] = set()
        for folder, below, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link back to a folder above
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if not name.startswith("."))
            start = os.path.relpath(folder, self.root)
            prefix = "" if start == "." else start.replace(os.sep, "/") + "/"
            found += [prefix + name for name in names if is_image(name) and name[0] != "."]
        return sorted(found)

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _grouped((file.lower(), file) for file in self.files)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped((PurePosixPath(file).name.lower(), file) for file in self.files)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((os.path.splitext(file)[0].lower(), file) for file in self.files)

    @cached_property
    def _by_last_stem(self) -> dict[str, list[str]]:
        return _grouped(
            (os.path.splitext(PurePosixPath(file).name)[0].lower(), file) for file in self.files
        )

    def find(self, name: str) -> Path | None:
        """Return the image called `name`; None if there is none, or more than one.

        Tried in turn: the path itself, other upper and lower case, other suffixes, its last part
        anywhere in the folder. A name that leaves the folder is matched by its last part only.
        """
        for form in name_forms(name):
            relative = self._inside(form)
            if relative is not None and relative in self._exact:
                return self.root / relative
        for form in name_forms(name):
            relative = self._inside(form)
            last = PurePosixPath(form.replace("\\", "/")).name.lower()
            tables = []
            if relative is not None:
                tables += [(self._by_path, relative.lower()), (self._by_stem, _stem(relative))]
            tables += [(self._by_name, last), (self._by_last_stem, _stem(last))]
            for table, key in tables:
                found = table.get(key, ())
                if len(found) == 1:
                    return self.root / found[0]
                if found:
                    break
        return None

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.files)

    def _inside(self, form: str) -> str | None:
        """Return a name as a path relative to the root; None if it leads out of it."""
        path = os.path.normpath(os.path.join(self.root, form))
        if path != str(self.root) and not path.startswith(str(self.root).rstrip(os.sep) + os.sep):
            return None
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def reason_missing(self, name: str) -> str:
        """Return why `find` has no answer, as the reason of a :class:`Report`."""
        if all(self._inside(form) is None for form in name_forms(name)):
            return (
                f"images are named outside the image folder {self.root} and left out (name the "
                "folder they are in: KIND:FILE@FOLDER)"
            )
        return f"images are not in {self.root} and left out"

    def label(self, path: Path) -> str:
        """Return a short unique id of an image: its name without suffix, with folders if needed."""
        relative = path.relative_to(self.root).as_posix()
        stem = os.path.splitext(PurePosixPath(relative).name)[0]
        if len(self._by_last_stem.get(stem.lower(), ())) == 1:
            return stem
        whole = os.path.splitext(relative)[0]
        return whole if len(self._by_stem.get(whole.lower(), ())) == 1 else relative

    def size(self, path: Path, report: Report) -> tuple[int, int] | None:
        """Return (width, height), upright; None, counted, if the file can't be read."""
        size = image_size(path)
        if size is None:
            report.drop("image files can't be read and are left out", str(path))
        return size


def _stem(path: str) -> str:
    """Return a path in lower case without an image's suffix; other dots belong to the name."""
    return (os.path.splitext(path)[0] if is_image(path) else path).lower()


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
