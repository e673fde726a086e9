"""Recognise a config in maskrcnn-benchmark's names (also FCOS', ATSS') and translate it.

After the authors' config reference. Every key of the file ends in one of three ways: translated;
named in a note, because it has no effect here; or an error, because nobody knows it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, NamedTuple

from lucidet.config.dialect_keys import KEYS, WITHOUT_EFFECT
from lucidet.config.files import ConfigContent
from lucidet.config.suggestions import UnknownKeyError, nearest_keys
from lucidet.config.values import coerce, decode

logger = logging.getLogger(__name__)

# one of these is enough; of the others two are needed, since one may be a slip (WEIGHT, WEIGHTS),
# more than half of the keys that lucidet doesn't know, and more than there are keys that only
# lucidet knows
_MARKS = frozenset(
    {
        "MODEL.BACKBONE.CONV_BODY",
        "MODEL.RPN_ONLY",
        "MODEL.ATSS_ON",
        "MODEL.FCOS_ON",
        "MODEL.RETINANET_ON",
        "DATALOADER.SIZE_DIVISIBILITY",
    }
)


class Translation(NamedTuple):
    """A translated file: lucidet's keys with their origins, and a sentence for each lost key."""

    content: ConfigContent
    notes: list[str]


def is_dialect(values: dict[str, Any], known: Collection[str]) -> bool:
    """Return whether a file's values are in maskrcnn-benchmark's names.

    Args:
        values: nested.
        known: the keys of the config that they are for.

    >>> is_dialect({"MODEL": {"ATSS_ON": True}}, ["MODEL.WEIGHTS"])
    True
    >>> is_dialect({"MODEL": {"WEIGHT": "R-50.pkl"}}, ["MODEL.WEIGHTS"])  # a slip
    False
    """
    keys = list(_flat(values))
    given = [key for key in keys if key not in known]
    if not _MARKS.isdisjoint(given):
        return True
    theirs = [key for key in given if key in KEYS or _reason(key)]
    ours = [key for key in keys if key in known and key not in KEYS and not _reason(key)]
    return len(theirs) >= 2 and len(theirs) > max(len(ours), len(given) // 2)


class Source:
    """The file's values on top of maskrcnn-benchmark's defaults; remembers what was asked for."""

    def __init__(self, content: ConfigContent, filename: str) -> None:
        self._given = _flat(content.values)
        self._origins = content.origins
        self._filename = filename
        self.used: set[str] = set()
        self._check_known()

    def _check_known(self) -> None:
        unknown = [key for key in self._given if key not in KEYS and not _reason(key)]
        if unknown:
            lines = [f"  {self.origin(key)}: {key}{_meant(key)}" for key in unknown]
            raise UnknownKeyError(
                f"{self._filename} is in maskrcnn-benchmark's names, and has keys that lucidet "
                "cannot translate:\n" + "\n".join(lines)
            )

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key, or its default in maskrcnn-benchmark."""
        self.used.add(key)
        default = KEYS[key]
        if key not in self._given:
            return default
        raw = self._given[key]
        if isinstance(default, tuple) and not isinstance(decode(raw), (list, tuple)):
            raw = (decode(raw),)  # MIN_SIZE_TRAIN: 800 is legal there
        return coerce(raw, default, key, self.origin(key))

    def gives(self, key: str) -> bool:
        """Return whether the file itself has this key."""
        return key in self._given

    def origin(self, key: str) -> str:
        """Return the file and line of a key, or the file where it is a default there."""
        return self._origins.get(key, f"{self._filename} (maskrcnn-benchmark's default)")

    def refuse(self, key: str, reason: str) -> ValueError:
        """Return the error for a value that has no counterpart."""
        return ValueError(f"{self.origin(key)}: {key} {self[key]!r}: {reason}")

    def unused(self) -> list[str]:
        """Return the keys that the file has and nobody asked for."""
        return [key for key in self._given if key not in self.used]


class Target:
    """lucidet's keys, as the rules set them."""

    def __init__(self, source: Source) -> None:
        self.content = ConfigContent({}, {})
        self.notes: list[str] = []
        self._source = source

    def set(self, key: str, value: Any, because: str) -> None:
        """Set one of lucidet's keys; its origin is that of the key `because` of the file."""
        *sections, name = key.split(".")
        node = self.content.values
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
        self.content.origins[key] = self._source.origin(because)

    def copy(self, prefix: str, names: dict[str, str]) -> None:
        """Set ``prefix.OURS`` to the value of ``prefix.THEIRS`` for ``{THEIRS: OURS}``."""
        for theirs, ours in names.items():
            key = f"{prefix}.{theirs}"
            self.set(ours if "." in ours else f"{prefix}.{ours}", self._source[key], key)

    def note(self, text: str) -> None:
        """Say something that the user should know about the translation."""
        self.notes.append(text)


def translate(content: ConfigContent, filename: str) -> Translation:
    """Translate a file into lucidet's keys.

    Raises:
        ValueError: keys that nobody knows (all are named, with the nearest), or a value that
            lucidet has no counterpart for.
    """
    from lucidet.config import dialect_rules

    source = Source(content, filename)
    target = Target(source)
    dialect_rules.apply(source, target)
    for key in source.unused():
        reason = _reason(key) or "the detector of this file doesn't use it"
        if key.startswith("TEST.BBOX_AUG.") and not source["TEST.BBOX_AUG.ENABLED"]:
            reason = "TEST.BBOX_AUG.ENABLED is False"
        target.note(f"{source.origin(key)}: {key} has no effect here: {reason}")
    return Translation(target.content, target.notes)


def translate_and_tell(content: ConfigContent, filename: str) -> ConfigContent:
    """Translate, and log what has no counterpart."""
    translated, notes = translate(content, filename)
    told = "".join(f"\n  {note}" for note in notes)
    logger.warning("%s is in maskrcnn-benchmark's names and was translated%s", filename, told)
    return translated


def _reason(key: str) -> str:
    """Return why a known key needs no counterpart; "" for the others."""
    section = next((s for s in WITHOUT_EFFECT if s.endswith(".") and key.startswith(s)), key)
    return WITHOUT_EFFECT.get(section, "")


def _meant(key: str) -> str:
    near = nearest_keys(key, [*KEYS, *(k for k in WITHOUT_EFFECT if not k.endswith("."))])
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values by dotted path."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{path}{name}."))
        elif value is not None:
            flat[f"{path}{name}"] = value
    return flat
