"""torchvision's weights through the commands, on data with COCO's category ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from lucidet.cli.main import main
from lucidet.data.datasets.builtin_meta import COCO_CATEGORIES
from tests.test_torchvision_oracle import (
    COCO_CLASS,
    SIZE,
    build_oracle,
    find_unused_id,
    match,
    randomise_norms,
    spread_predictions,
)

NAMES = {category["id"]: category["name"] for category in COCO_CATEGORIES}


def write_coco(folder: Path) -> list[Tensor]:
    """Write coco_2017_val with two small images, one object each; return them (3, H, W), 0..1."""
    pictures = folder / "coco" / "val2017"
    pictures.mkdir(parents=True)
    (folder / "coco" / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, annotations, pixels = [], [], []
    for i, (height, width) in enumerate([(SIZE[0], 224), (256, SIZE[0])], start=1):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        array = coarse.repeat(16, axis=0).repeat(16, axis=1)
        Image.fromarray(array).save(pictures / f"{i}.png")
        pixels.append(torch.from_numpy(array).permute(2, 0, 1).float() / 255)
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        annotations.append(
            {"id": i, "image_id": i, "category_id": 90, "bbox": [8, 8, 64, 64], "area": 4096}
            | {"iscrowd": 0}
        )
    categories = [{"id": id_, "name": name} for id_, name in NAMES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "coco" / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))
    return pixels


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["fasterrcnn_mobilenet_v3_large_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"],
)
def test_convert_eval_and_predict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that the commands write have torchvision's labels: COCO's ids."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    images = write_coco(tmp_path)
    oracle = build_oracle(name)
    randomise_norms(oracle)
    spread_predictions(oracle, images)
    find_unused_id(oracle, images)
    torch.save(oracle.state_dict(), "trained.pth")
    with torch.no_grad():
        expected = [oracle([image])[0] for image in images]  # alone, as by the commands
    # not below the model's own, which predict would lower: more would then come from NMS
    threshold = in_a_gap(torch.cat([found["scores"] for found in expected]))

    assert main(["weights", "convert", "trained.pth", "--to", "safetensors"]) == 0
    assert yaml.safe_load(Path("trained.yaml").read_text())["DATASETS"] == {
        "TEST": ["coco_2017_val"]
    }
    weights = ["--config-file", "trained.yaml", "--weights", "trained.safetensors"]
    # the images have torchvision's size already: its way of resizing is another
    options = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "0", "OUTPUT_DIR", "run"]
    options += ["MODEL.RPN.POST_NMS_TOPK_TEST", "150"]  # the oracle's
    assert main(["eval", *weights, *options, "DATALOADER.NUM_WORKERS", "0"]) == 0
    evaluated = json.loads(Path("run/inference/coco_instances_results.json").read_text())
    pictures = ["coco/val2017/1.png", "coco/val2017/2.png"]
    how = ["--score-threshold", str(threshold), "--no-pictures", "--out", "found"]
    assert main(["predict", *weights, *how, *pictures, *options]) == 0
    predicted = json.loads(Path("found/predictions.json").read_text())
    assert {NAMES[entry["category_id"]] == entry["category"] for entry in predicted} == {True}
    dropped = 0
    for i, theirs in enumerate(expected, start=1):
        known = torch.tensor([label in COCO_CLASS for label in theirs["labels"].tolist()])
        dropped += int((~known).sum())
        for found, lowest in ((evaluated, 0.0), (predicted, threshold)):
            kept = known & (theirs["scores"] >= lowest)
            detections = tuple(theirs[k][kept] for k in ("boxes", "scores", "labels"))
            mine = rows([entry for entry in found if entry["image_id"] == i])
            assert len(mine[2]) == int(kept.sum()) > 0
            assert match(detections, mine) == int(kept.sum())
    assert dropped > 0


def in_a_gap(scores: Tensor) -> float:
    """Return a number near the middle of the scores, and far from the next ones."""
    middle = scores.sort().values[len(scores) // 4 : len(scores) * 3 // 4]
    k = int(middle.diff().argmax())
    return float(middle[k : k + 2].mean())


def rows(records: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes XYXY (D, 4), scores and category ids (D,) of a results file."""
    boxes = torch.tensor([entry["bbox"] for entry in records]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.tensor([entry["score"] for entry in records])
    return boxes, scores, torch.tensor([entry["category_id"] for entry in records])
