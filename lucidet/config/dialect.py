"""Recognise configs in maskrcnn-benchmark's names."""

from __future__ import annotations

from typing import Any

from lucidet.config.files import ConfigContent


def is_dialect(values: dict[str, Any]) -> bool:
    """Return whether a file's values use maskrcnn-benchmark's names."""
    model = values.get("MODEL")
    return isinstance(model, dict) and "WEIGHT" in model


def translate(content: ConfigContent, filename: str) -> Any:
    """Refuse: the names are not translated."""
    raise ValueError(f"{filename}: maskrcnn-benchmark's key names are not read")
