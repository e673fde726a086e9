"""Configs of the zoo by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lucidet.config.names import find_config, zoo_configs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("faster_rcnn_R_50_FPN_1x", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
        ("retinanet_R_50_FPN_1x.yaml", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
        (
            "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
            "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
        ),
        ("COCO-Detection/atss_R_18_FPN", "COCO-Detection/atss_R_18_FPN.yaml"),
        # in three folders
        ("faster_rcnn_R_18_FPN", "COCO-Detection/faster_rcnn_R_18_FPN.yaml"),
        ("shapes/faster_rcnn_R_18_FPN", "shapes/faster_rcnn_R_18_FPN.yaml"),
        ("faster_rcnn_R_50_C4", "PascalVOC-Detection/faster_rcnn_R_50_C4.yaml"),
        ("elsewhere/configs/torchvision/fcos_resnet50_fpn.yaml", "fcos_resnet50_fpn.yaml"),
    ],
)
def test_a_name_is_found(name: str, expected: str) -> None:
    assert Path(find_config(name)).as_posix().endswith(expected)


def test_a_file_comes_before_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faster_rcnn_R_18_FPN").write_text("VERSION: 2\n")
    assert find_config("faster_rcnn_R_18_FPN") == "faster_rcnn_R_18_FPN"
    assert find_config("") == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("retinanet_R_50_FPN_2x", "did you mean retinanet_R_50_FPN_[13]x"),
        ("faster_rcnn_r18_fpn", "did you mean faster_rcnn_R_18_FPN"),
        ("no/such/file.yaml", "no config file no/such/file.yaml"),
        ("Base-RCNN-FPN", "lucidet models"),
    ],
)
def test_another_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        find_config(name)


def test_bases_are_no_models() -> None:
    assert not [path for path in zoo_configs() if path.name.startswith("Base")]
