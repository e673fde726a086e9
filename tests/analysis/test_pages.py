"""The pages of an analysis and of a comparison, driven in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lucidet.analysis.sources import dataset_of, results_file_in
from lucidet.analysis.write import write_analyses, write_comparison
from lucidet.cli.main import main
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.datasets.coco import register_coco_instances
from lucidet.data.datasets.shapes import write_shapes
from tests.browser import browser

NAME = "shapes_of_analysis"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs: B finds all boxes, one of each image as another class; A misses the first ones."""
    root = tmp_path_factory.mktemp("analysis")
    write_shapes(root / "shapes", num_train=1, num_val=6, image_size=96)
    truth = next(root.glob("shapes/**/*val*.json"))
    content = json.loads(truth.read_text())
    register_coco_instances(NAME, {}, str(truth), str(root / "shapes" / "val"))
    runs: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for number, annotation in enumerate(own):
            keys = ("image_id", "category_id", "bbox")
            found = {key: annotation[key] for key in keys} | {"score": 0.9}
            if number:
                runs["a"].append(found)
            if number == 1:
                kinds = [c["id"] for c in content["categories"]]
                found = {**found, "category_id": kinds[kinds.index(found["category_id"]) - 1]}
            runs["b"].append(found)
        runs["b"].append({**runs["b"][-1], "bbox": [1, 1, 4, 4], "score": 0.95})
    for name, detections in runs.items():
        (root / name).mkdir()
        (root / name / "coco_instances_results.json").write_text(json.dumps(detections))
    write_analyses([(NAME, results_file_in(root / "b"))], root / "analysis")
    files = (results_file_in(root / "a"), results_file_in(root / "b"))
    _, text = write_comparison(NAME, files, ("a", "b"), root / "comparison", 20)
    (root / "comparison.txt").write_text(text)
    yield root
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_the_files_of_an_analysis(folder: Path) -> None:
    found = json.loads((folder / "analysis" / "analysis.json").read_text())
    assert found["images"] == 6
    assert len(found["false_positives"]) >= 6
    assert {"AP", "AP50", "threshold", "F1"} <= found["classes"][0].keys()
    assert len(found["precision_recall"]["recall"]) == 101
    assert found["tide"]["counts"]["Bkg"] == 6
    # the folder of an analysis says which dataset its detections are of
    assert dataset_of(results_file_in(folder / "analysis")) == NAME


def test_boxes_won_and_lost(folder: Path) -> None:
    found = json.loads((folder / "comparison" / "comparison.json").read_text())
    metrics = {row["name"]: row for row in found["metrics"]}
    row = metrics["AP50"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert found["won"]["count"] == 6  # the first box of each image
    truth = json.loads(next(folder.glob("shapes/**/*val*.json")).read_text())
    images = [a["image_id"] for a in truth["annotations"]]
    several = sum(images.count(image) > 1 for image in set(images))
    assert found["lost"]["count"] == several  # the second box has another class in B
    assert all(e["scores"][0] is None for e in found["won"]["examples"])
    text = (folder / "comparison.txt").read_text()
    assert f"ground-truth boxes won: 6, lost: {several}" in text


def _severe(found: Any) -> list[Any]:
    return [entry for entry in found.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.parametrize(("size", "dark"), [((1400, 900), False), ((420, 800), True)])
def test_a_cell_opens_its_images(folder: Path, size: tuple[int, int], dark: bool) -> None:
    found = browser(*size, dark=dark)
    by = "css selector"
    try:
        found.get((folder / "analysis" / "analysis.html").as_uri())
        assert not found.execute_script(
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        confused = [
            cell
            for cell in found.find_elements(by, ".matrix button")
            if "background" not in (cell.get_attribute("data-row"),)
            and cell.get_attribute("data-row") != cell.get_attribute("data-column")
        ]
        found.execute_script("arguments[0].click()", confused[0])
        cards = found.find_elements(by, "#cell-examples button.card")
        assert len(cards) == min(int(confused[0].text), 24)
        found.execute_script("arguments[0].click()", cards[0])
        viewer = found.find_element(by, "dialog.viewer[open]")
        assert viewer.find_element(by, "image").get_attribute("href").startswith("data:image/jpeg")
        assert viewer.find_elements(by, "rect[data-label]")
        assert viewer.find_elements(by, "tr.picked")
        viewer.find_element(by, "button[aria-label='close (Escape)']").click()
        assert not found.find_elements(by, "dialog.viewer[open]")
        header = found.find_element(by, "th.sorts")
        found.execute_script("arguments[0].click()", header)
        assert header.get_attribute("aria-sort") == "ascending"
        assert found.find_elements(by, "[data-gallery='most-confident-false-positives'] .card")
        assert len(found.find_elements(by, "polyline.curve")) >= 3
        assert _severe(found) == []
    finally:
        found.quit()


def test_the_comparison_shows_both_runs(folder: Path) -> None:
    found = browser(420, 800)
    by = "css selector"
    try:
        found.get((folder / "comparison" / "comparison.html").as_uri())
        assert not found.execute_script(
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        cards = found.find_elements(by, "[data-gallery='won'] button.card")
        assert len(cards) == 6
        found.execute_script("arguments[0].click()", cards[0])
        missed = "return document.querySelector('dialog .tile b.missed').textContent"
        of_b = found.execute_script(missed)
        found.execute_script(
            "document.querySelector(\"dialog [aria-label='detections of a (a)']\").click()"
        )
        assert found.execute_script(missed) == str(int(of_b))  # one in each, another box
        assert "missed" in found.find_element(by, "dialog tr.picked").text
        assert _severe(found) == []
    finally:
        found.quit()


def test_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    runs = [str(folder / "a"), str(folder / "b")]
    assert main(["compare", *runs, "--out", out]) == 2
    assert "Name it with --data SPEC" in capsys.readouterr().err
    assert main(["compare", *runs, "--data", NAME, "--bootstrap", "0", "--out", out]) == 0
    assert "boxes won: 6" in capsys.readouterr().out
    assert (tmp_path / "out" / "comparison.html").is_file()
    assert main(["eval", "--results", runs[1], "--data", NAME, "--analyse", out]) == 0
    assert (tmp_path / "out" / "analysis.html").is_file()
    assert main(["eval", "--results", runs[1]]) == 2
    assert "--analyse DIR" in capsys.readouterr().err
    assert main(["eval", "--results", str(tmp_path / "no"), "--analyse", out]) == 2
    assert "lucidet eval WEIGHTS" in capsys.readouterr().err
    assert main(["compare", *runs, "--data", NAME, "--bootstrap", "-1"]) == 2
