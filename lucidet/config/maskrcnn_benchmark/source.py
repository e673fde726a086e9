"""The two ends of a translation: the file's values with their origins, and lucidet's keys."""

from __future__ import annotations

from typing import Any

from lucidet.config.files import ConfigContent
from lucidet.config.maskrcnn_benchmark.keys import KEYS, WITHOUT_EFFECT
from lucidet.config.suggestions import UnknownKeyError, nearest_keys
from lucidet.config.values import coerce, decode


class Source:
    """The file's values on top of maskrcnn-benchmark's defaults; remembers what was asked for."""

    def __init__(self, content: ConfigContent, filename: str) -> None:
        self._given = flat_values(content.values)
        self._origins = content.origins
        self._filename = filename
        self.used: set[str] = set()
        self._check_known()

    def _check_known(self) -> None:
        unknown = [key for key in self._given if key not in KEYS and not reason_without_effect(key)]
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


def reason_without_effect(key: str) -> str:
    """Return why a known key needs no counterpart; "" for the others."""
    section = next((s for s in WITHOUT_EFFECT if s.endswith(".") and key.startswith(s)), key)
    return WITHOUT_EFFECT.get(section, "")


def _meant(key: str) -> str:
    near = nearest_keys(key, [*KEYS, *(k for k in WITHOUT_EFFECT if not k.endswith("."))])
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def flat_values(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values by dotted path."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(flat_values(value, f"{path}{name}."))
        elif value is not None:
            flat[f"{path}{name}"] = value
    return flat
