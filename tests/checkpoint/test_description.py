"""Checkpoints say what they are, and weights that don't fit are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lucidet.checkpoint import DetectionCheckpointer, load_weights_file
from lucidet.checkpoint.description import (
    KEY,
    Description,
    config_of_weights,
    describe_run,
    description_of_weights,
    flat_results,
    metadata_of_classes,
)
from lucidet.config import CfgNode, get_cfg
from lucidet.data import MetadataCatalog
from lucidet.engine.describing import add_results


@pytest.fixture
def cfg() -> CfgNode:
    MetadataCatalog.get("described_train").set(
        thing_classes=["cat", "dog"], thing_dataset_id_to_contiguous_id={7: 0, 3: 1}
    )
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("described_train",)
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    return cfg


def saved(folder: Path, cfg: CfgNode, results: dict | None = None) -> Path:
    checkpointer = DetectionCheckpointer(nn.Linear(2, 2), str(folder))
    checkpointer.describe = lambda: describe_run(cfg, {"images": 5}, results)
    checkpointer.save("model")
    return folder / "model.pth"


def test_a_checkpoint_describes_itself(tmp_path: Path, cfg: CfgNode) -> None:
    path = saved(tmp_path, cfg, {"bbox": {"AP": 12.5}})
    found = description_of_weights(path)
    assert found is not None
    assert found.classes == ("cat", "dog")
    assert found.category_ids == (7, 3)
    assert len(set(found.colors)) == 2
    assert found.pixels["format"] == "BGR"
    assert found.data == {"images": 5}
    assert found.results == {"bbox/AP": 12.5}
    assert set(found.versions) == {"lucidet", "torch", "torchvision"}
    again = config_of_weights(path)
    assert (64, str(path)) == (again.MODEL.FPN.OUT_CHANNELS, again.MODEL.WEIGHTS)
    metadata = metadata_of_classes(cfg, found)
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {7: 0, 3: 1}


def test_results_come_into_a_file_that_was_saved_before(tmp_path: Path, cfg: CfgNode) -> None:
    path = saved(tmp_path, cfg)
    before = load_weights_file(path)["model"]
    add_results(str(path), {"bbox": {"AP": 50, "AP50": float("nan")}})
    found = description_of_weights(path)
    assert found is not None
    assert found.results["bbox/AP"] == 50
    assert all(torch.equal(v, before[k]) for k, v in load_weights_file(path)["model"].items())
    add_results(str(tmp_path / "absent.pth"), {"bbox": {"AP": 50}})


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({}, {}),
        ({"bbox": {}}, {}),
        ({"val": {"bbox": {"AP": 1}}}, {"val/bbox/AP": 1.0}),
        ({"bbox": {"AP": True, "x": None}}, {}),
    ],
)
def test_results_are_flat(results: dict, expected: dict) -> None:
    assert flat_results(results) == expected


def test_keys_of_other_versions_are_left_out(cfg: CfgNode) -> None:
    text = cfg.dump().replace("OUT_CHANNELS: 64", "OUT_CHANNELS: 64\n    GONE: 3")
    assert Description(config=text).cfg().MODEL.FPN.OUT_CHANNELS == 64


def test_weights_without_a_description(tmp_path: Path, cfg: CfgNode) -> None:
    path = tmp_path / "plain.pth"
    torch.save({"model": {"a": torch.zeros(1)}}, path)
    assert description_of_weights(path) is None
    with pytest.raises(ValueError, match=r"holds no config.*--config-file"):
        config_of_weights(path)
    path.with_suffix(".yaml").write_text("MODEL: {FPN: {OUT_CHANNELS: 32}}\n")
    assert config_of_weights(path).MODEL.FPN.OUT_CHANNELS == 32


def test_a_damaged_description_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    torch.save({"model": {"a": torch.zeros(1)}, KEY: {"classes": ["a"]}}, path)
    with pytest.raises(ValueError, match=r"damaged.pth: its description is damaged"):
        description_of_weights(path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"weight": torch.zeros(2, 2)}, "1 missing in the file"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "1 of another shape"),
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(2), "more": torch.zeros(1)}, "1 left"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, file: dict, message: str) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": file}, path)
    with pytest.raises(ValueError, match=f"(?s){message}.*--allow-partial"):
        DetectionCheckpointer(nn.Linear(2, 2), complete=True).load(str(path))
    DetectionCheckpointer(nn.Linear(2, 2)).load(str(path))  # a training may start from it
