"""Detections of two weights, configs or versions, matched with one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucidet.cli.main import main
from lucidet.data.datasets.shapes import write_shapes
from lucidet.explain.compare import (
    Detections,
    Row,
    change_of,
    compare_image,
    counts,
    counts_by_threshold,
)
from lucidet.explain.compare_sides import find_side
from lucidet.explain.matching import GroundTruth
from lucidet.explain.page.compare_page import compare_page
from tests.browser import browser

HOSTILE = "</script><img src=x onerror=alert(1)>"


def side(*rows: tuple[list[float], float, str]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[1] for row in rows]),
        [row[2] for row in rows],
    )


BOX, MOVED, FAR = [10.0, 10, 50, 50], [10.0, 10, 50, 56], [70.0, 70, 90, 90]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [], {}),
        ([(BOX, 0.9, "cat")], [(BOX, 0.9, "cat")], {"unchanged": 1}),
        ([(BOX, 0.9, "cat")], [(BOX, 0.75, "cat")], {"rescored": 1}),
        ([(BOX, 0.9, "cat")], [(MOVED, 0.6, "cat")], {"moved": 1}),
        ([(BOX, 0.9, "cat")], [(BOX, 0.9, "dog")], {"lost": 1, "gained": 1}),
        ([(BOX, 0.9, "cat")], [(FAR, 0.9, "cat")], {"lost": 1, "gained": 1}),
        ([(BOX, 0.9, "cat")], [], {"lost": 1}),
        ([], [(BOX, 0.9, "cat")], {"gained": 1}),
        # the same box, on one side below the threshold
        ([(BOX, 0.4, "cat")], [(BOX, 0.6, "cat")], {"gained": 1}),
        ([(BOX, 0.6, "cat")], [(BOX, 0.4, "cat")], {"lost": 1}),
        ([(BOX, 0.4, "cat")], [(BOX, 0.3, "cat")], {}),
        # the better of two candidates is taken
        (
            [(BOX, 0.9, "cat")],
            [(MOVED, 0.95, "cat"), (BOX, 0.9, "cat")],
            {"unchanged": 1, "gained": 1},
        ),
        ([([0, 0, 0, 0], 0.9, "cat")], [([0, 0, 0, 0], 0.9, "cat")], {"lost": 1, "gained": 1}),
    ],
)
def test_changes(first: list[Any], second: list[Any], expected: dict[str, int]) -> None:
    image = compare_image(side(*first), side(*second))
    assert {k: n for k, n in counts([image], 0.5).items() if n} == expected
    assert not image.known


def test_what_is_gained_may_be_right_or_wrong() -> None:
    truth = GroundTruth.of([BOX], [1])
    rows = [(FAR, 0.9, "cat"), (BOX, 0.8, "cat"), (BOX, 0.7, "bird")]
    image = compare_image(side(), side(*rows), truth=truth, classes=["dog", "cat"])
    assert [row.right for row in image.rows] == [(None, False), (None, True), (None, False)]
    assert image.truth == [(BOX, "cat")]


def test_a_threshold_at_the_score_counts() -> None:
    assert change_of(Row("cat", (BOX, 0.5), (BOX, 0.5), 1.0), 0.5) == "unchanged"
    assert change_of(Row("cat", (BOX, 0.5), None), 0.51) is None


def test_counts_at_every_threshold() -> None:
    rows = [(BOX, 0.9, "cat"), (FAR, 0.33, "cat")]
    other = [(MOVED, 0.5, "cat"), (FAR, 0.33, "cat"), (FAR, 1.0, "dog")]
    truth = GroundTruth.of([BOX], [0])
    images = [
        compare_image(side(*rows), side(*other), truth=truth, classes=["cat"]),
        compare_image(side(), side()),
    ]
    found = counts_by_threshold(images)
    for k in range(101):
        expected = counts(images, k / 100)
        assert {change: found[change][0][k] for change in found} == expected
    assert found["moved"][1][0] == 1  # still right
    assert found["lost"][1][60] == 1
    assert found["gained"][1][0] == 0


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three images, and the detections of two evaluations of it."""
    root = tmp_path_factory.mktemp("compared")
    write_shapes(root / "shapes", num_train=1, num_val=3, image_size=64)
    content = json.loads(next(root.glob("shapes/**/*val*.json")).read_text())
    found = [
        {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for a in content["annotations"]
    ]
    for name, rows in {
        "old": found,
        "new": [*found[1:], {**found[-1], "bbox": [0, 0, 5, 5]}],
    }.items():
        (root / name / "inference").mkdir(parents=True)
        file = root / name / "inference" / "coco_instances_results.json"
        file.write_text(json.dumps(rows))
    return root


def test_two_evaluations_on_the_command_line(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = str(evaluated / "old"), str(evaluated / "new")
    data = ["--dataset", str(evaluated / "shapes"), "--out", str(tmp_path)]
    assert main(["inspect", "diff", old, new, *data]) == 1
    printed = capsys.readouterr().out
    assert "gained         1, 0 right" in printed
    assert "lost           1, 1 right" in printed
    assert str(tmp_path / "diff.html") in printed
    assert main(["inspect", "diff", old, old, *data, "--text"]) == 0
    assert "diff.html" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON"),
        ("{}", "expected a list of detections"),
        ('[{"image_id": 1}]', "entry 0 is no detection"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, "x"], "score": 1}]', "entry 0"),
    ],
)
def test_files_that_hold_no_detections(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        find_side(str(file))


def test_sides_that_name_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither coco_instances_results\.json nor"):
        find_side(str(tmp_path))
    with pytest.raises(ValueError, match="is no trace, no weights"):
        find_side("no_such_model_at_all")


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    truth = GroundTruth.of([BOX], [0])
    images = [
        compare_image(
            side((BOX, 0.9, HOSTILE), (FAR, 0.8, "dog")),
            side(*second),
            file_name=f"a/{HOSTILE}{i}.jpg",
            image_id=i,
            size=(100, 100),
            truth=truth,
            classes=[HOSTILE, "dog"],
        )
        for i, second in enumerate(
            ([(BOX, 0.9, HOSTILE), (FAR, 0.8, "dog")], [(MOVED, 0.6, HOSTILE), (BOX, 0.55, "dog")])
        )
    ]
    pictures = {0: np.zeros((100, 100, 3), np.uint8)}
    html = compare_page(
        images, ("old", HOSTILE), lambda i: pictures.get(i.image_id), notes=[("Configs", HOSTILE)]
    )
    assert html.count("</script>") == 2
    page = tmp_path / "diff.html"
    page.write_text(html, encoding="utf-8")
    driver = browser(1400, 900)
    try:
        for width, scheme in ((1400, "light"), (420, "dark")):
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            preference = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preference})
            driver.get(page.as_uri())

            def texts(selector: str) -> list[str]:
                return [n.text for n in driver.find_elements(By.CSS_SELECTOR, selector)]

            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            assert texts(".tile b") == ["1", "1", "1", "0", "2"]  # the second image comes first
            assert [t.split("\\n")[0].strip() for t in texts("#changes tbody td:first-child")] == [
                *("gained", "lost", "moved")
            ]
            driver.find_elements(By.CSS_SELECTOR, "#changes tr.pick")[2].click()
            moved = driver.find_elements(By.CSS_SELECTOR, "rect[data-kind=moved]")
            assert len(moved) == 2  # before and after
            driver.execute_script(
                "const s = document.querySelector('input[name=threshold]'); s.value = 0.7;"
                "s.dispatchEvent(new Event('input'));"
            )
            assert texts(".tile b") == ["0", "2", "0", "0", "2"]
            driver.find_element(By.ID, "next").click()
            assert driver.current_url.endswith("#image-1")
            assert texts("#changes tbody td:first-child") == ["unchanged"] * 2
        errors = [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
        assert errors == []
    finally:
        driver.quit()
