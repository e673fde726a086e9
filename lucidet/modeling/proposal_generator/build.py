"""Choose the proposal generator that a config names."""

from __future__ import annotations

from torch import nn

from lucidet.config import CfgNode
from lucidet.layers import ShapeSpec
from lucidet.utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
PROPOSAL_GENERATOR_REGISTRY.__doc__ = """Proposal generators: turn features into proposals.

Each is called as ``cls(cfg, input_shape)`` and returns a module with the forward of
:class:`lucidet.modeling.proposal_generator.RPN`.
"""


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """Build ``cfg.MODEL.PROPOSAL_GENERATOR.NAME``.

    Args:
        input_shape: the backbone's ``output_shape()``.

    Returns:
        The module, or None for ``"PrecomputedProposals"``: proposals then come with the data.
    """
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
