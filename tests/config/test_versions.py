"""Configs of detectron2's earlier versions, in today's names and back."""

from __future__ import annotations

import pytest

from lucidet.config import CN, downgrade_config, get_cfg, upgrade_config

OLD = """VERSION: {version}
MODEL:
  WEIGHT: w.pkl
  META_ARCHITECTURE: {architecture}
  RETINANET: {{INFERENCE_SCORE_THRESHOLD: 0.1, ANCHOR_SIZES: [[16]], ANCHOR_STRIDES: [8]}}
  RPN: {{ANCHOR_SIZES: [[64]], ANCHOR_ASPECT_RATIOS: [[1.0]]}}
  ROI_HEADS: {{NMS: 0.4}}
  {more}
TEST: {{DETECTIONS_PER_IMG: 7, AUG_ON: True}}
"""


@pytest.mark.parametrize(
    ("version", "architecture", "more", "sizes"),
    [
        (1, "GeneralizedRCNN", "MASK_ON: False", [[64]]),
        (1, "RetinaNet", "MASK_ON: False", [[16]]),
        (0, "GeneralizedRCNN", "RPN_HEAD: {NAME: MyHead}", [[64]]),
    ],
)
def test_a_file_of_an_earlier_version_is_read(tmp_path, caplog, version, architecture, more, sizes):
    path = tmp_path / "old.yaml"
    path.write_text(OLD.format(version=version, architecture=architecture, more=more))
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    assert cfg.VERSION == 2
    assert (cfg.MODEL.WEIGHTS, cfg.TEST.DETECTIONS_PER_IMAGE) == ("w.pkl", 7)
    assert cfg.TEST.AUG.ENABLED is True
    assert cfg.MODEL.RETINANET.SCORE_THRESH_TEST == 0.1
    assert cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST == 0.4
    assert sizes == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert ("MyHead" if version == 0 else "StandardRPNHead") == cfg.MODEL.RPN.HEAD_NAME
    assert cfg.origin("MODEL.WEIGHTS") == f"{path}:3"
    assert "MODEL.WEIGHT is MODEL.WEIGHTS" in caplog.text


def test_there_and_back():
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = "w.pkl"
    for version in (1, 0):
        old = downgrade_config(cfg, to_version=version)
        assert (version, "w.pkl") == (old.VERSION, old.MODEL.WEIGHT)
        assert old.MODEL.RPN.ANCHOR_SIZES == cfg.MODEL.ANCHOR_GENERATOR.SIZES
        assert upgrade_config(old) == cfg
    assert old.MODEL.RPN_HEAD.NAME == "StandardRPNHead"
    assert upgrade_config(old, to_version=1).VERSION == 1
    assert cfg.MODEL.WEIGHTS == "w.pkl"


@pytest.mark.parametrize(("version", "target"), [(2, 1), (1, 3), (7, 7)])
def test_no_way(version, target):
    with pytest.raises(ValueError, match=f"VERSION {version} can't be upgraded to {target}"):
        upgrade_config(CN({"VERSION": version}), to_version=target)


def test_an_empty_config_of_version_1():
    assert upgrade_config(CN({"VERSION": 1})) == {"VERSION": 2}
    with pytest.raises(ValueError, match="can't be downgraded to 2"):
        downgrade_config(CN({"VERSION": 1}), 2)
