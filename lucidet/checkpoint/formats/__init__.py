"""Names and settings of weights that other libraries wrote, one file a format."""

from lucidet.checkpoint.formats.recognize import rename_weights

__all__ = ["rename_weights"]
