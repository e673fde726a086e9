"""Names of data sets: how to load each (DatasetCatalog) and what is known of it (MetadataCatalog).

Both are global tables. Loading is a function without arguments, called when the data set is used.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Sequence
from typing import Any

from lucidet.utils.registry import UnknownNameError, nearest_names

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog", "check_metadata_consistency"]


def _unknown(kind: str, name: object, known: list[str]) -> UnknownNameError:
    close = nearest_names(str(name), known)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    names = ", ".join(sorted(known)) or "none"
    return UnknownNameError(
        f"unknown {kind} {name!r}{hint} Registered: {names}. Your own: the path of its folder or "
        "file, which does not exist here; or register_coco_instances(name, {}, json_file, "
        "image_root) before it is used"
    )


class _DatasetCatalog(UserDict):
    """Name -> function that returns the data set's records, a list of dicts.

    >>> catalog = _DatasetCatalog()
    >>> catalog.register("two_empty_images", lambda: [{"image_id": 1}, {"image_id": 2}])
    >>> len(catalog.get("two_empty_images"))
    2
    """

    #: name -> registered name of a dataset specification; see `lucidet.data.specification`
    find: Callable[[str], str | None] | None = None

    def register(self, name: str, func: Callable[[], list[dict[str, Any]]]) -> None:
        """Add a data set.

        Args:
            name: as in ``DATASETS.TRAIN``.
            func: takes nothing, returns the records; must give the same ones at every call.

        Raises:
            ValueError: `func` can't be called, or the name is taken.
        """
        if not callable(func):
            raise ValueError(
                f"data set {name!r}: register a function that returns the records, "
                f"got {type(func).__name__}; wrap a list as lambda: records"
            )
        if name in self.data:
            raise ValueError(
                f"data set {name!r} is already registered; choose another name or call "
                f"DatasetCatalog.remove({name!r}) first"
            )
        self.data[name] = func

    def get(self, name: str) -> list[dict[str, Any]]:  # type: ignore[override]
        """Load and return the records of `name`.

        Raises:
            UnknownNameError: (a KeyError) no such data set.
        """
        if name not in self.data:
            found = self.find(name) if self.find is not None else None
            if found is None:
                raise _unknown("data set", name, list(self.data))
            name = found
        return self.data[name]()

    def list(self) -> list[str]:
        """Return all registered names."""
        return list(self.data)

    def remove(self, name: str) -> None:
        """Forget `name`; its metadata stays, see ``MetadataCatalog.remove``."""
        if name not in self.data:
            raise _unknown("data set", name, self.list())
        del self.data[name]

    def __repr__(self) -> str:
        return f"DatasetCatalog(registered data sets: {', '.join(self.data)})"

    __str__ = __repr__


class Metadata:
    """What is known of a data set beside its records: class names, colours, files, evaluator.

    An attribute may be set again to an equal value only, because code elsewhere may already have
    used the first one.

    >>> meta = Metadata(name="cells")
    >>> meta.thing_classes = ["red", "white"]
    >>> meta.set(thing_classes=["red", "white"], split="train").split
    'train'
    >>> meta.thing_classes = ["red"]  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: metadata 'cells': thing_classes is ['red', 'white'] and can't become ['red']...
    """

    name: str = "N/A"

    def __init__(self, **attributes: Any) -> None:
        self.__dict__["_lazy"] = {}
        for key, value in attributes.items():
            setattr(self, key, value)

    def set_lazy(self, **functions: Callable[[], Any]) -> Metadata:
        """Set attributes that are computed at each use; None means that there is no such value.

        For paths under a folder that an environment variable names.
        """
        self._lazy.update(functions)
        return self

    def __getattr__(self, key: str) -> Any:
        # only called for what is not set
        lazy = self.__dict__.get("_lazy", {})
        if key in lazy:
            value = lazy[key]()
            if value is not None:
                return value
        known = sorted(k for k in {**lazy, **self.__dict__} if not k.startswith("_"))
        raise AttributeError(
            f"metadata {self.__dict__.get('name', 'N/A')!r} has no {key!r}; it has {known}. "
            f"Set it with MetadataCatalog.get(name).set({key}=...)"
        )

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__:
            old = self.__dict__[key]
            if old != value:
                raise ValueError(
                    f"metadata {self.name!r}: {key} is {old!r} and can't become {value!r}; "
                    "register under another name, or forget the old one with "
                    f"MetadataCatalog.remove({self.name!r})"
                )
        else:
            self.__dict__[key] = value

    def as_dict(self) -> dict[str, Any]:
        """Return all values as a new dict; changing it changes nothing here."""
        lazy = {key: function() for key, function in self._lazy.items()}
        values = {key: value for key, value in lazy.items() if value is not None}
        values.update((k, v) for k, v in self.__dict__.items() if k != "_lazy")
        return values

    def set(self, **attributes: Any) -> Metadata:
        """Set several attributes; returns itself."""
        for key, value in attributes.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return an attribute, or `default` if it isn't set."""
        return getattr(self, key, default)

    def __repr__(self) -> str:
        return f"Metadata({', '.join(f'{k}={v!r}' for k, v in self.as_dict().items())})"


class _MetadataCatalog(UserDict):
    """Name -> :class:`Metadata`, made empty at the first look."""

    find: Callable[[str], str | None] | None = None

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """Return the metadata of `name`; makes an empty one if there is none."""
        if not name:
            raise ValueError("a data set's name must not be empty")
        if name not in self.data:
            try:
                found = self.find(name) if self.find is not None else None
            except ValueError:  # a folder of that name, which is no dataset: loading it says why
                found = None
            if found is not None:
                return self.get(found)
            self.data[name] = Metadata(name=name)
        return self.data[name]

    def list(self) -> list[str]:
        """Return all names with metadata."""
        return list(self.data)

    def remove(self, name: str) -> None:
        """Forget the metadata of `name`."""
        if name not in self.data:
            raise _unknown("metadata", name, self.list())
        del self.data[name]

    def __repr__(self) -> str:
        return f"MetadataCatalog(registered metadata: {', '.join(self.data)})"

    __str__ = __repr__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Make sure that several data sets have equal metadata.

    Args:
        key: for example ``"thing_classes"``.
        dataset_names: registered names.

    Raises:
        AttributeError: a data set has no such metadata.
        ValueError: they differ.
    """
    if not dataset_names:
        raise ValueError(
            "no data set names given: set DATASETS.TRAIN, as in \"('coco_2017_train',)\""
        )
    values = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names, values, strict=True):
        if value != values[0]:
            raise ValueError(
                f"data sets {dataset_names[0]!r} and {name!r} can't be used together: their {key} "
                f"are {values[0]!r} and {value!r}. Register both with the same categories"
            )
