"""Specifications in configs and programs: training, evaluation, one image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidet.config import get_cfg
from lucidet.data import DatasetCatalog, MetadataCatalog, dataset_names
from lucidet.data.specification import every_split, explicit, resolve
from lucidet.engine import DefaultTrainer
from lucidet.evaluation import COCOEvaluator
from lucidet.inspection.run import find_record
from lucidet.structures import Boxes, Instances

from .exports import coco, pictures, voc, voc_xml
from .test_layouts import roboflow_coco, voc_devkit

pytestmark = pytest.mark.usefixtures("forget_specifications")

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def tiny_config(folder: Path, train: str, test: str) -> Any:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "shapes" / "faster_rcnn_R_18_FPN.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = 2, 2
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (test,)
    cfg.OUTPUT_DIR = str(folder / "run")
    Path(cfg.OUTPUT_DIR).mkdir()
    return cfg


@pytest.mark.parametrize("write", [roboflow_coco, voc_devkit], ids=lambda f: f.__name__)
def test_training_and_evaluation_take_a_folder(tmp_path, write):
    root = tmp_path / "pets"
    write(root)
    trainer = DefaultTrainer(tiny_config(tmp_path, str(root), str(root)))
    trainer.train()
    results = trainer._last_eval_results["bbox"]
    assert {"AP-cat", "AP-dog"} <= set(results)
    assert len(json.loads((tmp_path / "run/inference/coco_instances_results.json").read_text()))


def test_data_in_both_places_are_divided(tmp_path):
    """Nothing is evaluated on that was trained on."""
    pictures(tmp_path / "pets" / "images")
    voc(tmp_path / "pets" / "annotations")
    cfg = tiny_config(tmp_path, str(tmp_path / "pets"), str(tmp_path / "pets"))
    trainer = DefaultTrainer(cfg)
    (tested,) = [DatasetCatalog.get(name) for name in cfg.DATASETS.TEST]
    held_out = {record["file_name"] for record in tested}
    trained = {trainer.data_loader.dataset.dataset[i]["file_name"] for i in range(3)}
    assert held_out
    assert not held_out & trained


def evaluated(name: str, folder: Path, classes: list[str]) -> dict[str, float]:
    """Return the AP of detections that are exactly the records' boxes."""
    evaluator = COCOEvaluator(name, output_dir=str(folder))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        boxes = [a["bbox"] for a in record["annotations"] if not a.get("difficult")]
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.ones(len(boxes))
        kinds = [a["category_id"] for a in record["annotations"] if not a.get("difficult")]
        found.pred_classes = torch.tensor(kinds, dtype=torch.int64)
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    results = evaluator.evaluate()["bbox"]
    assert [f"AP-{name}" in results for name in classes] == [True] * len(classes)
    return results


def test_difficult_boxes_do_not_count_in_an_evaluation(tmp_path):
    pictures(tmp_path / "JPEGImages")
    voc(tmp_path / "Annotations")
    text = voc_xml(1, "img_1.jpg").replace("<difficult>0", "<difficult>1", 1)
    (tmp_path / "Annotations" / "img_1.xml").write_text(text)
    spec = f"voc:{tmp_path}:all"
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get(spec)) == 6
    results = evaluated(spec, tmp_path / "out", ["cat", "dog"])
    assert results["AP"] == pytest.approx(100)


def test_joined_datasets_evaluate_with_ids_that_repeat(tmp_path):
    tmp_path = tmp_path / "one, two"  # commas are in paths too
    for part, classes in (("a", ["dog", "cat"]), ("b", ["cat", "dog"])):
        pictures(tmp_path / part / "images", [0, 1])
        voc(tmp_path / part / "annotations", [0, 1])
        (tmp_path / part / "classes.txt").write_text("\n".join(classes))
    names = resolve(f"{tmp_path / 'a'}:all,{tmp_path / 'b'}:all", splits=("train",))
    assert names == {"train": "a+b"}
    assert MetadataCatalog.get("a+b").thing_classes == ["dog", "cat"]
    assert dataset_names(explicit("a+b"), "train") == ["a+b"]
    assert [r["image_id"] for r in DatasetCatalog.get("a+b")] == [
        "1/img_0", "1/img_1", "2/img_0", "2/img_1",
    ]  # fmt: skip
    assert evaluated("a+b", tmp_path / "out", ["dog", "cat"])["AP"] == pytest.approx(100)


def test_one_image_is_found_in_any_split(tmp_path):
    roboflow_coco(tmp_path / "pets")
    for number in (10, 13):
        record = find_record(dataset=str(tmp_path / "pets"), image_id=str(number))
        assert Path(record["file_name"]).stem == f"img_{number - 10}"
        other = find_record(
            dataset=str(tmp_path / "pets"), image_id=str(number), classes=["dog", "ox", "cat"]
        )
        mine, matched = ([a["category_id"] for a in r["annotations"]] for r in (record, other))
        assert matched == [{0: 2, 1: 0}[k] for k in mine]
    assert every_split(tmp_path / "pets") == ["pets_train", "pets_val"]


def test_a_name_is_the_same_in_another_process(tmp_path):
    """Configs hold the explicit form, which needs no call before it is used."""
    pictures(tmp_path / "images")
    coco(tmp_path / "all.json")
    names = resolve(f"coco:{tmp_path / 'all.json'}@images")
    code = """
from lucidet.data import DatasetCatalog, MetadataCatalog, dataset_names
import sys
for text in sys.argv[1:]:
    print(MetadataCatalog.get(text).name, [r["image_id"] for r in DatasetCatalog.get(text)])
"""
    specs = [explicit(name) for name in names.values()]
    result = subprocess.run(
        [sys.executable, "-c", code, *specs], check=True, capture_output=True, text=True
    )
    expected = [
        f"{name} {[r['image_id'] for r in DatasetCatalog.get(name)]}" for name in names.values()
    ]
    assert result.stdout.splitlines() == expected


def test_a_division_that_was_made_holds_for_a_later_evaluation(tmp_path):
    pictures(tmp_path / "pets" / "images")
    voc(tmp_path / "pets" / "annotations")
    root = str(tmp_path / "pets")
    assert len(DatasetCatalog.get(root)) == 5
    names = resolve(root)
    again = resolve(root, splits=("val",))
    assert again["val"] == names["val"]
    assert len(DatasetCatalog.get(again["val"])) == 1
