"""Refuse a config that asks for what lucidet doesn't build, by its key."""

from __future__ import annotations

from lucidet.config.node import CfgNode

# switch -> (what it asks for, the sections that only it reads)
_SWITCHES = {
    "MODEL.LOAD_PROPOSALS": (
        "proposals from files",
        (
            "DATASETS.PROPOSAL_FILES_TRAIN",
            "DATASETS.PROPOSAL_FILES_TEST",
            "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN",
            "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
        ),
    ),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": (
        "the federated loss of LVIS",
        (
            "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER",
            "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES",
        ),
    ),
}

# (key, name) -> what it asks for, what to set instead
_NAMES = {
    ("MODEL.META_ARCHITECTURE", "PanopticFPN"): ("panoptic segmentation", "GeneralizedRCNN"),
    ("MODEL.META_ARCHITECTURE", "SemanticSegmentor"): ("semantic segmentation", "GeneralizedRCNN"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"): ("rotated proposals", "RPN"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"): ("proposals from files", "RPN"),
    ("MODEL.ROI_HEADS.NAME", "RROIHeads"): ("rotated ROI heads", "StandardROIHeads"),
}

# switch -> the sections that only it reads
_OPTIONAL = {
    "MODEL.MASK_ON": ("MODEL.ROI_MASK_HEAD", "INPUT.MASK_FORMAT"),
    "MODEL.KEYPOINT_ON": ("MODEL.ROI_KEYPOINT_HEAD", "TEST.KEYPOINT_OKS_SIGMAS"),
}

# architectures that find boxes only
_BOXES_ONLY = ("ProposalNetwork", "RetinaNet", "ATSS", "FCOS")

# sections of models that are not built; a config of another model may mention them
_NEVER_READ = ("MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN")


def check_supported(cfg: CfgNode) -> None:
    """Raise where `cfg` turns on what lucidet doesn't build.

    Keys that belong to such a feature count as read while it is off, so that
    :meth:`CfgNode.unread_keys` doesn't report what detectron2's base files mention.

    Raises:
        ValueError: names every such key, its value, where it was set and how to turn it off.
    """
    problems = [
        f"{key} True asks for {what} ({cfg.origin(key)}); set it to False"
        for key, (what, _) in _SWITCHES.items()
        if _value(cfg, key)
    ]
    problems += [
        f"{key} {name!r} asks for {what} ({cfg.origin(key)}); for boxes set it to {instead!r}"
        for (key, name), (what, instead) in _NAMES.items()
        if _value(cfg, key) == name and not _registered(key, name)
    ]
    if problems:
        known = "lucidet detects boxes, masks and keypoints"
        raise ValueError(f"{known}; it does not build " + "; ".join(problems))
    architecture = _value(cfg, "MODEL.META_ARCHITECTURE")
    for key in _OPTIONAL:
        if _value(cfg, key) and architecture in _BOXES_ONLY:
            raise ValueError(
                f"{key} True ({cfg.origin(key)}), but MODEL.META_ARCHITECTURE {architecture!r} "
                f"finds boxes only: set {key} to False, or MODEL.META_ARCHITECTURE to "
                "'GeneralizedRCNN'"
            )
    unused = [s for key, own in _OPTIONAL.items() if not _value(cfg, key) for s in own]
    refused = [s for _, own in _SWITCHES.values() for s in own]
    for section in [*_NEVER_READ, *unused, *refused]:
        if _has(cfg, section):
            cfg.mark_read(section)


def keys_that_say(cfg: CfgNode, value: str) -> str:
    """Return the keys of MODEL that hold `value`, each with where it was set.

    >>> from lucidet.config import get_cfg
    >>> keys_that_say(get_cfg(), "StandardRPNHead")
    'MODEL.RPN.HEAD_NAME, default'
    """
    found = [
        f"MODEL.{key}, {node.origin(name)}"
        for key, node in (cfg.MODEL._leaves() if "MODEL" in cfg else ())
        for name in [key.rpartition(".")[2]]
        if node._raw(name) == value
    ]
    return "; ".join(found)


def _registered(key: str, name: str) -> bool:
    """Return whether user code has registered a component of that name."""
    import sys

    module, table = {
        "MODEL.META_ARCHITECTURE": ("lucidet.modeling.meta_arch.build", "META_ARCH_REGISTRY"),
        "MODEL.PROPOSAL_GENERATOR.NAME": (
            "lucidet.modeling.proposal_generator.build",
            "PROPOSAL_GENERATOR_REGISTRY",
        ),
        "MODEL.ROI_HEADS.NAME": ("lucidet.modeling.roi_heads.base", "ROI_HEADS_REGISTRY"),
    }[key]
    # only looked at where it is loaded: the config package itself needs no torch
    registry = getattr(sys.modules.get(module), table, ())
    return name in registry


def _has(cfg: CfgNode, key: str) -> bool:
    try:
        cfg.origin(key)
    except KeyError:
        return False
    return True


def _value(cfg: CfgNode, key: str) -> object:
    """Return a value; None where a user's config doesn't have the key."""
    node: object = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CfgNode) else None
    return node
