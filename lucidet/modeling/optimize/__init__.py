"""A detector's twin for inference: the same numbers within 1e-3, sooner."""

from .folding import fold_norm
from .twin import InferenceTwin

__all__ = ["InferenceTwin", "fold_norm"]
