"""Where proposals come from: the region proposal network and its tools."""

from lucidet._absent import absent
from lucidet.modeling.proposal_generator.build import (
    PROPOSAL_GENERATOR_REGISTRY,
    build_proposal_generator,
)
from lucidet.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    add_ground_truth_to_proposals_single_image,
    find_top_rpn_proposals,
)
from lucidet.modeling.proposal_generator.rpn import (
    RPN,
    RPN_HEAD_REGISTRY,
    StandardRPNHead,
    build_rpn_head,
)

__all__ = [
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "RRPN",
    "StandardRPNHead",
    "add_ground_truth_to_proposals",
    "add_ground_truth_to_proposals_single_image",
    "build_proposal_generator",
    "build_rpn_head",
    "find_top_rpn_proposals",
]

RRPN = absent("RRPN")
