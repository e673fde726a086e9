"""The folder for files that lucidet makes or fetches for itself."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``LUCIDET_CACHE``, else ``~/.cache/lucidet``; it may not exist yet."""
    return Path(os.environ.get("LUCIDET_CACHE") or Path.home() / ".cache" / "lucidet")
