"""``lucidet models``: what is in the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lucidet.cli.main import main


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    assert main(["models", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_model_with_published_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path))
    found = listed(capsys, "faster_rcnn_R_50_FPN_1x")
    (entry,) = [entry for entry in found if entry["name"] == "faster_rcnn_R_50_FPN_1x"]
    assert (entry["backbone"], entry["box_ap"], entry["measure"]) == ("R-50-FPN", 37.9, "box AP")
    assert 41e6 < entry["parameters"] < 42e6
    assert entry["weights"] == "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_1x"
    assert entry["on_disk"] is False


def test_a_small_model_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = listed(capsys, "atss_R_18")
    assert (entry["weights"], entry["start"], entry["on_disk"]) == ("", "", True)
    assert entry["box_ap"] is None


def test_a_name_that_stands_twice_has_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    names = [entry["name"] for entry in listed(capsys, "faster_rcnn_R_18_FPN")]
    assert names[0] == "faster_rcnn_R_18_FPN"
    assert {"shapes/faster_rcnn_R_18_FPN", "blood_cells/faster_rcnn_R_18_FPN"} < set(names)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fcos_resnet50"]) == 0
    text = capsys.readouterr().out
    assert "torchvision://fcos_resnet50_fpn" in text
    assert "39.2" in text
    assert main(["models", "yolo"]) == 2
    assert "holds yolo" in capsys.readouterr().err
