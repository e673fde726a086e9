"""A detector's twin for inference: the same numbers within 1e-3, sooner."""

from lucidet.modeling.optimize.folding import fold_norm
from lucidet.modeling.optimize.twin import InferenceTwin

__all__ = ["InferenceTwin", "fold_norm"]
