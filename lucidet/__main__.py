"""``python -m lucidet`` and the console script ``lucidet``."""

from __future__ import annotations

import sys

from lucidet.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
