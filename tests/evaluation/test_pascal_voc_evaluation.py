from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lucidet.data import MetadataCatalog
from lucidet.evaluation import PascalVOCDetectionEvaluator
from lucidet.evaluation.pascal_voc_evaluation import voc_ap
from lucidet.structures import Boxes, Instances

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def write(folder: Path, images: dict[str, list[tuple]], year: int = 2012) -> str:
    """Write a VOC data set with the classes cat and dog; return its registered name."""
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("".join(f"{i}\n" for i in images))
    for image, objects in images.items():
        body = "".join(OBJECT.format(*o) for o in objects)
        (folder / "Annotations" / f"{image}.xml").write_text(f"<annotation>{body}</annotation>")
    name = f"voc_test_{folder.name}_{year}"
    MetadataCatalog.get(name).set(
        dirname=str(folder), split="val", year=year, thing_classes=["cat", "dog"]
    )
    return name


def evaluate(name: str, found: dict[str, list[tuple]]) -> dict[str, float]:
    evaluator = PascalVOCDetectionEvaluator(name)
    evaluator.reset()
    for image, rows in found.items():
        instances = Instances((100, 100))
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
        instances.pred_boxes = Boxes(table[:, :4])
        instances.scores = table[:, 4]
        instances.pred_classes = table[:, 5].long()
        evaluator.process([{"image_id": image}], [{"instances": instances}])
    return evaluator.evaluate()["bbox"]


CAT = ("cat", 0, 11, 11, 30, 30)  # VOC's corners are inclusive and counted from 1
CAT_BOX = (10, 10, 30, 30)


@pytest.mark.parametrize(
    ("objects", "rows", "ap50"),
    [
        ([CAT], [(*CAT_BOX, 0.9, 0)], 100.0),
        ([CAT], [(*CAT_BOX, 0.9, 1)], 0.0),  # another class
        ([CAT], [(*CAT_BOX, 0.9, 0), (*CAT_BOX, 0.95, 0)], 100.0),  # the second is late
        ([CAT], [(60, 60, 90, 90, 0.95, 0), (*CAT_BOX, 0.9, 0)], 50.0),
        ([CAT], [(10, 10, 10, 30, 0.9, 0)], 0.0),  # a box without area
        ([CAT], [], 0.0),
        ([CAT, ("cat", 1, 61, 61, 90, 90)], [(60, 60, 90, 90, 0.95, 0), (*CAT_BOX, 0.9, 0)], 100.0),
        ([CAT, ("horse", 0, 61, 61, 90, 90)], [(*CAT_BOX, 0.9, 0)], 100.0),
        ([], [(*CAT_BOX, 0.9, 0)], float("nan")),
        ([("cat", 1, 11, 11, 30, 30)], [(*CAT_BOX, 0.9, 0)], float("nan")),
    ],
)
def test_ap(tmp_path, objects, rows, ap50):
    results = evaluate(write(tmp_path, {"a": objects}), {"a": rows})
    assert results["AP50"] == pytest.approx(ap50, nan_ok=True)
    assert np.isnan(results["AP-dog"])


def test_thresholds_and_several_images(tmp_path):
    name = write(tmp_path, {"a": [CAT], "b": [CAT], "empty": []})
    # IoU 0.72 in a: found at 0.5 ... 0.7; b is found always, but ranks below a
    found = {"a": [(10, 10, 30, 24.4, 0.9, 0)], "b": [(*CAT_BOX, 0.8, 0)], "elsewhere": []}
    results = evaluate(name, found)
    assert results["AP50"] == pytest.approx(100)
    assert results["AP75"] == pytest.approx(25)  # half of the recall at precision 1/2
    assert results["AP"] == pytest.approx((5 * 100 + 5 * 25) / 10)


def test_2007_is_the_11_point_form(tmp_path):
    name = write(tmp_path, {"a": [CAT, ("cat", 0, 61, 61, 90, 90)]}, year=2007)
    assert evaluate(name, {"a": [(*CAT_BOX, 0.9, 0)]})["AP50"] == pytest.approx(100 * 6 / 11)


@pytest.mark.parametrize(
    ("recall", "precision", "area", "eleven"),
    [
        ([], [], 0.0, 0.0),
        ([0.5, 1.0], [1.0, 1.0], 1.0, 1.0),
        ([0.5, 0.5, 1.0], [1.0, 0.5, 2 / 3], 5 / 6, (6 + 5 * 2 / 3) / 11),
        ([0.0], [0.0], 0.0, 0.0),
    ],
)
def test_voc_ap(recall, precision, area, eleven):
    assert voc_ap(np.array(recall), np.array(precision)) == pytest.approx(area)
    assert voc_ap(np.array(recall), np.array(precision), use_07_metric=True) == pytest.approx(
        eleven
    )


def test_a_broken_file_is_named(tmp_path):
    name = write(tmp_path, {"a": [CAT]})
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match=r"a\.xml .*not a complete XML file"):
        evaluate(name, {})
    path.write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(ValueError, match=r"a\.xml: object 'cat' lacks a corner"):
        evaluate(name, {})


def test_real_annotations_found_perfectly(datasets_dir):
    name = "voc_test_bccd"
    MetadataCatalog.get(name).set(
        dirname=str(datasets_dir / "bccd"),
        split="val",
        year=2012,
        thing_classes=["RBC", "WBC", "Platelets"],
    )
    truth = PascalVOCDetectionEvaluator(name)._read_truth()
    found = {
        image: [(*box, 0.9, k) for k, own in enumerate(classes) for box in own.boxes.tolist()]
        for image, classes in truth.items()
    }
    results = evaluate(name, found)
    # a handful of annotations there are listed twice or have no area
    assert results["AP"] > 98
    assert {n for n in results if n.startswith("AP-")} == {"AP-RBC", "AP-WBC", "AP-Platelets"}
