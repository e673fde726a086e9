"""lucidet: object detection that shows what it does."""

__version__ = "0.1.0"
