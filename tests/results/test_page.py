"""The page that a training ends with, from files that a training leaves."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucidet.analysis.judged import ImageVerdict, judge_dataset
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.coco import register_coco_instances
from lucidet.data.datasets.shapes import write_shapes
from lucidet.results.figures import confusion_figure
from lucidet.results.files import results_file_of
from lucidet.results.gallery import best_and_worst
from lucidet.results.measured import read_metrics
from lucidet.results.page import show_results, write_results
from tests.browser import browser

NAME = "shapes_of_results"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished training: of each image one box is missed, and one is found at a wrong place."""
    root = tmp_path_factory.mktemp("results")
    write_shapes(root / "shapes", num_train=1, num_val=8, image_size=96)
    truth = next(root.glob("shapes/**/*val*.json"))
    content = json.loads(truth.read_text())
    image_root = root / "shapes" / "val"
    register_coco_instances(NAME, {}, str(truth), str(image_root))
    detections = []
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for annotation in own[1:]:
            detections.append({**_detection(annotation), "score": 0.9})
        if own:
            detections.append({**_detection(own[0]), "bbox": [0, 0, 3, 3], "score": 0.8})
        detections += [{**_detection(a), "score": 0.01} for a in own[:1]]
    out = root / "output"
    (out / "inference").mkdir(parents=True)
    (out / "inference" / "coco_instances_results.json").write_text(json.dumps(detections))
    rows = [{"iteration": i, "total_loss": 2.0 / (i + 1), "lr": 0.01} for i in range(0, 60, 20)]
    rows.append({"iteration": 59, "bbox/AP": 41.0, "bbox/AP50": float("nan")})
    lines = [json.dumps(row) for row in rows]
    (out / "metrics.json").write_text("\n".join([*lines, '{"iteration": 60, "total_l']))
    yield out
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def _detection(annotation: dict[str, Any]) -> dict[str, Any]:
    return {key: annotation[key] for key in ("image_id", "category_id", "bbox")}


def test_page_has_curves_matrix_and_images(folder: Path) -> None:
    page = write_results(folder, [NAME], title="a <b>run</b>")
    html = page.read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html)
    assert "a &lt;b&gt;run&lt;/b&gt;" in html
    assert html.count("<img") >= 3 + 2 + 2  # losses, AP, rate; PR, confusion; examples
    names = {path.name for path in (folder / "results").iterdir()}
    assert {"losses.png", "learning_rate.png", f"{NAME}_confusion.png"} <= names
    assert any(name.startswith(f"{NAME}_worst_1") for name in names)


def test_verdicts_count_every_box_once(folder: Path) -> None:
    judged = judge_dataset(NAME, results_file_of(folder, [NAME], NAME))
    assert judged is not None
    for image in judged.images:
        assert len(image.missed) == 1
        assert len(image.wrong) == 1
        assert image.wrong[0, :4].tolist() == [0, 0, 3, 3]
    total = sum(len(i.right) + len(i.missed) for i in judged.images)
    assert total == judged.confusion[:-1].sum() == len(judged.curves.truth.boxes)
    assert 0.01 < judged.threshold <= 0.9


def test_matrix_of_many_classes_shows_those_that_occur(folder: Path) -> None:
    judged = judge_dataset(NAME, results_file_of(folder, [NAME], NAME))
    assert judged is not None
    assert np.issubdtype(judged.confusion.dtype, np.signedinteger)  # sorted by negative counts
    confusion = np.zeros((81, 81), np.int64)
    confusion[44, 80] = confusion[74, 80] = 1  # two missed boxes, 78 classes without any
    many = replace(judged, classes=[f"class {k}" for k in range(80)], confusion=confusion)
    axes = confusion_figure(many).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["class 44", "class 74", "background"]
    many = replace(many, confusion=np.zeros((81, 81), np.int64))
    labels = [label.get_text() for label in confusion_figure(many).axes[0].get_yticklabels()]
    assert labels == ["background"]


def test_nothing_measured_and_nothing_evaluated(tmp_path: Path) -> None:
    assert "No measurements yet" in write_results(tmp_path, []).read_text()
    assert read_metrics(tmp_path / "metrics.json") == {}


def test_a_page_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "results").write_text("a file is where the folder should be")
    with caplog.at_level(logging.WARNING, "lucidet"):
        assert show_results(tmp_path, []) is None
    assert "results.html could not be written" in caplog.text


def test_each_of_several_datasets_has_a_folder() -> None:
    alone = results_file_of("out", ["a"], "a")
    one, two = (results_file_of("out", ["a/x", "b"], name) for name in ("a/x", "b"))
    assert len({alone, one, two}) == 3
    assert alone.parent == Path("out/inference")


@pytest.mark.parametrize(("number", "shown"), [(0, (0, 0)), (1, (1, 0)), (3, (2, 1)), (9, (2, 2))])
def test_no_image_is_best_and_worst(number: int, shown: tuple[int, int]) -> None:
    nothing = np.zeros((0, 6))
    images = [ImageVerdict(str(i), i / 10, nothing, nothing, nothing[:, :5]) for i in range(number)]
    best, worst = best_and_worst(images, 2)
    assert (len(best), len(worst)) == shown
    assert not {i.file_name for i in best} & {i.file_name for i in worst}


@pytest.mark.parametrize("size", [(1400, 900), (420, 800)])
def test_in_a_browser(folder: Path, size: tuple[int, int]) -> None:
    page = write_results(folder, [NAME])
    found = browser(*size)
    try:
        found.get(page.as_uri())
        widths = found.execute_script(
            "return [...document.images].map("
            "i => [i.naturalWidth, i.getBoundingClientRect().right])"
        )
        assert len(widths) >= 7
        inside = found.execute_script("return document.documentElement.clientWidth")
        assert all(natural > 0 and right <= inside for natural, right in widths)
        severe = [e for e in found.get_log("browser") if e["level"] == "SEVERE"]
        assert severe == []
        found.save_screenshot(str(folder / f"page_{size[0]}.png"))
    finally:
        found.quit()
