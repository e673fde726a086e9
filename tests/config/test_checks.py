"""Configs that ask for what is not built."""

from __future__ import annotations

import pytest
import torch

from lucidet.config import CN, get_cfg
from lucidet.config.checks import check_supported


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.LOAD_PROPOSALS", "True"),
        ("MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "True"),
        ("MODEL.META_ARCHITECTURE", "PanopticFPN"),
        ("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
        ("MODEL.ROI_HEADS.NAME", "RROIHeads"),
    ],
)
def test_refused_by_its_key(key: str, value: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=rf"does not build {key} .*\(command line\)"):
        check_supported(cfg)


def test_a_refused_name_says_what_to_set_instead() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"])
    with pytest.raises(ValueError, match="for boxes set it to 'RPN'"):
        check_supported(cfg)


@pytest.mark.parametrize(
    ("key", "name", "match"),
    [
        ("MODEL.META_ARCHITECTURE", "TLRetinaNet", "did you mean 'RetinaNet'"),
        ("MODEL.ROI_HEADS.NAME", "CustomROIHeads", "did you mean 'Res5ROIHeads'"),
        ("MODEL.BACKBONE.NAME", "build_vgg_backbone", "unknown BACKBONE"),
    ],
)
def test_an_unknown_name_comes_with_its_key(key: str, name: str, match: str) -> None:
    from lucidet.modeling import build_model

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "meta"
    cfg.merge_from_list([key, name])
    match += rf".*\({key}, command line\); a component of your own is known once"
    with torch.device("meta"), pytest.raises(ValueError, match=match):
        build_model(cfg)


def test_defaults_are_supported() -> None:
    cfg = get_cfg()
    cfg.freeze()
    check_supported(cfg)


def test_all_problems_are_named() -> None:
    cfg = get_cfg()
    names = ["MODEL.LOAD_PROPOSALS", "True", "MODEL.ROI_HEADS.NAME", "RROIHeads"]
    cfg.merge_from_list(names)
    with pytest.raises(ValueError, match=r"LOAD_PROPOSALS(.*)RROIHeads"):
        check_supported(cfg)


@pytest.mark.parametrize("key", ["MODEL.MASK_ON", "MODEL.KEYPOINT_ON"])
@pytest.mark.parametrize("architecture", ["RetinaNet", "ATSS", "FCOS", "ProposalNetwork"])
def test_masks_and_keypoints_need_two_stages(key: str, architecture: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_list([key, "True"])
    check_supported(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    with pytest.raises(ValueError, match=rf"{key} True.*'{architecture}' finds boxes only: set"):
        check_supported(cfg)


def test_keys_of_what_is_off_do_not_count_as_unread() -> None:
    """detectron2's base files mention the mask head also for box detectors."""
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.MASK_ON", "False", "MODEL.ROI_MASK_HEAD.NUM_CONV", "4"])
    assert len(cfg.unread_keys()) == 2
    check_supported(cfg)
    assert cfg.unread_keys() == []


def test_a_config_without_those_sections() -> None:
    check_supported(CN({"MODEL": {"META_ARCHITECTURE": "Mine"}}))


def test_a_registered_name_is_the_users_own() -> None:
    from lucidet.modeling.roi_heads.base import ROI_HEADS_REGISTRY

    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "RROIHeads"
    ROI_HEADS_REGISTRY._obj_map["RROIHeads"] = object
    try:
        check_supported(cfg)
    finally:
        del ROI_HEADS_REGISTRY._obj_map["RROIHeads"]
