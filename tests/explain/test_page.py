"""The pages of explain: what they hold, and what the browser computes at other settings."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lucidet.explain.explain import explain_image
from lucidet.explain.matching import GroundTruth
from lucidet.explain.page.page import TITLES, funnel_page, image_page, thumbnail
from lucidet.explain.recompute import detections_at, fates_at, outcome_at, truth_of
from lucidet.explain.record import Explanation
from lucidet.inspection.page.report import render
from lucidet.inspection.trace import watch
from tests.browser import browser
from tests.modeling.tiny import ATSS, FPN, RETINANET, tiny_config, tiny_model

BOXES = [[10.0, 10, 60, 70], [70, 5, 120, 60], [30, 30, 90, 90], [2, 2, 8, 8]]
DETECTORS = {"fpn": FPN, "retinanet": RETINANET, "atss": ATSS}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Case:
    """A detector, an image, and its explanation."""

    def __init__(self, name: str, folder: Path) -> None:
        low = [
            ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.1),
            ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.3),
        ]
        low += [("TEST.DETECTIONS_PER_IMAGE", 30)]
        self.model = tiny_model(tiny_config(DETECTORS[name], low)).eval()
        generator = torch.Generator().manual_seed(7)
        image = torch.randint(0, 256, (3, 96, 128), generator=generator, dtype=torch.uint8)
        self.picture = image.permute(1, 2, 0).numpy()
        # the file is larger than what the model sees
        self.entry = {"image": image, "height": 144, "width": 192, "file_name": f"a/{HOSTILE}.jpg"}
        truth = GroundTruth.of([[v * 1.5 for v in b] for b in BOXES], [0, 1, 2, 0])
        self.explanation = explain_image(
            self.model, self.entry, truth, classes=["cat", HOSTILE, "dog"]
        )
        self.file = folder / f"{name}.html"
        document = {"explanation": self.explanation.to_json(), "picture": self.picture}
        heat = {"values": [[0.0, 1.0], [0.5, 0.2]], "level": "p4", "stride": 64, "score": 0.5}
        self.html = image_page({**document, "heat": {0: heat}, "back": "../explain.html"})
        self.file.write_text(self.html, encoding="utf-8")

    def run_at(self, score: float, nms: float, topk: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (D, 4) and scores (D,) of the detector itself at other settings."""
        model = self.model
        if hasattr(model, "roi_heads"):
            owner, generator = model.roi_heads.box_predictor, model.proposal_generator
            values = {(owner, "test_score_thresh"): score, (owner, "test_nms_thresh"): nms}
            values[(generator, "post_nms_topk")] = {**generator.post_nms_topk, False: topk}
        else:
            values = {(model, "test_score_thresh"): score, (model, "test_nms_thresh"): nms}
            values[(model, "test_topk_candidates")] = topk
        before = {key: getattr(*key) for key in values}
        try:
            for (owner, name), value in values.items():
                setattr(owner, name, value)
            with torch.no_grad():
                found = model([self.entry])[0]["instances"]
        finally:
            for (owner, name), value in before.items():
                setattr(owner, name, value)
        return found.pred_boxes.tensor.numpy(), found.scores.numpy()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("explained")
    return {name: Case(name, folder) for name in DETECTORS}


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    found = browser(1400, 900)
    yield found
    found.quit()


def content(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_holds_fates_and_chains_in_the_files_pixels(cases: dict[str, Case]) -> None:
    case = cases["fpn"]
    view = content(case.html)["view"]
    assert view["size"] == [192.0, 144.0]
    assert [t["state"] for t in view["truth"]] == [
        "found" if o.fate == "detected" else "missed" for o in case.explanation.objects
    ]
    drawn = [s for o in case.explanation.objects for s in o.chain if s.boxes]
    shown = [s for t in view["truth"] for s in t["chain"] if s["boxes"]]
    assert len(drawn) == len(shown) > 0
    for stage, step in zip(drawn, shown, strict=True):
        expected = np.array(stage.boxes[0]["box"]) * 1.5
        assert np.allclose(step["boxes"][0]["box"], expected, atol=0.01)


def test_text_from_files_cannot_run(cases: dict[str, Case]) -> None:
    page = cases["fpn"].html
    assert page.count("</script>") == 2
    assert "<img src=x" not in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_an_image_without_boxes_and_detections() -> None:
    explanation = explain_image(
        tiny_model(tiny_config(FPN, [("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.999)])).eval(),
        {"image": torch.zeros(3, 64, 64, dtype=torch.uint8), "height": 64, "width": 64},
        GroundTruth.of(np.zeros((0, 4)), []),
    )
    document = {"explanation": explanation.to_json(), "picture": np.zeros((64, 64, 3), np.uint8)}
    view = content(image_page(document))["view"]
    assert view["truth"] == view["detections"] == []
    assert [t["value"] for t in view["tiles"]] == ["0", "0", "0", "0"]


def test_a_thumbnail_of_a_box_outside_of_the_image() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    for box in ([2.0, 2, 9, 9], [100.0, 100, 120, 130], [5.0, 5, 5, 5]):
        assert thumbnail(picture, box).startswith("data:image/jpeg;base64,")


def test_the_front_of_an_inspection_shows_fates_and_links_to_stages(cases: dict[str, Case]) -> None:
    case = cases["fpn"]
    with torch.no_grad(), watch() as trace:
        case.model([case.entry])
    data = content(render(trace, case.explanation.to_json(), TITLES))
    view = data["front"]["view"]
    assert [t["state"] for t in view["truth"]] == [
        "found" if o.fate == "detected" else "missed" for o in case.explanation.objects
    ]
    names = [step["name"] for step in data["steps"]]
    linked = {names[s["step"]] for t in view["truth"] for s in t["chain"] if s["step"] is not None}
    assert {"anchors.grid", "rpn.candidates"} <= linked


def test_many_overlapping_detections_are_thinned(
    cases: dict[str, Case], driver: Any, tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By

    explanation = cases["fpn"].explanation.to_json()
    one = {**explanation["detections"][0], "verdict": "background", "object": None}
    shifted = [[20 + i / 10, 20, 90 + i / 10, 80] for i in range(300)]
    explanation["detections"] = [{**one, "index": i, "box": b} for i, b in enumerate(shifted)]
    for entry in explanation["objects"]:
        entry |= {"detection": None, "fate": "background"}
    page = tmp_path / "many.html"
    page.write_text(image_page({"explanation": explanation, "picture": cases["fpn"].picture}))
    driver.get(page.as_uri())

    def shown() -> int:
        return len(driver.find_elements(By.CSS_SELECTOR, "rect[data-kind=detection]"))

    assert 0 < shown() < 20
    assert len(driver.find_elements(By.CSS_SELECTOR, "rect[data-kind=truth]")) == len(BOXES)
    driver.find_element(By.CSS_SELECTOR, ".toggles button").click()
    assert shown() == 300


def settings_of(explanation: Explanation, number: int) -> list[dict[str, float]]:
    """Return random settings within those where the candidates are complete."""
    draw = random.Random(3)
    low, high = explanation.exact["score_thresh"], max(c for c in explanation.candidates.score)
    return [
        {
            "score_thresh": draw.uniform(low, high),
            "nms_thresh": draw.uniform(0.05, 0.95),
            "topk": draw.randint(1, explanation.exact["topk"]),
        }
        for _ in range(number)
    ]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_browser_computes_what_lucidet_does(
    cases: dict[str, Case], driver: Any, name: str
) -> None:
    case = cases[name]
    driver.get(case.file.as_uri())
    script = """
        const now = lucidet.at(arguments[0]);
        return [now.found.boxes, now.found.scores, now.found.candidate, now.match.detection,
                now.fates.map(f => f.kind), now.verdicts.map(v => v.verdict)];
    """
    run = driver.execute_script(script, {})
    assert run[4] == [o.fate for o in case.explanation.objects]
    assert run[5] == [d.verdict for d in case.explanation.detections]
    counts = set()
    for chosen in settings_of(case.explanation, 20):
        boxes, scores, candidate, detection, fates, _ = driver.execute_script(script, chosen)
        settings = replace(case.explanation.settings, **chosen)
        kept = detections_at(case.explanation, settings)
        assert candidate == kept.candidate
        assert np.allclose(np.reshape(boxes, (-1, 4)), kept.boxes.numpy(), atol=1e-4)
        assert fates == [f.kind for f in fates_at(case.explanation, settings)]
        outcome, _ = outcome_at(case.explanation, settings)
        assert detection == outcome.detection
        own_boxes, own_scores = case.run_at(*chosen.values())
        assert np.allclose(np.reshape(boxes, (-1, 4)), own_boxes, atol=2e-2)
        assert np.allclose(scores, own_scores, atol=1e-4)
        counts.add(len(boxes))
    assert len(truth_of(case.explanation)) == len(BOXES)
    assert len(counts) > 4  # the settings make a difference


def test_a_box_is_followed_and_a_slider_dragged(cases: dict[str, Case], driver: Any) -> None:
    from selenium.webdriver.common.by import By

    def find(selector: str) -> list[Any]:
        return driver.find_elements(By.CSS_SELECTOR, selector)

    case = cases["fpn"]
    driver.get_log("browser")
    driver.get(case.file.as_uri() + "#box-1")
    assert "Following box 1" in find(".chain h3")[0].text
    assert len(find(".chain li")) == len(case.explanation.objects[1].chain)
    for item in find(".chain li"):
        item.click()
    assert find("#back")[0].get_attribute("href").endswith("explain.html")

    threshold = float(np.median([d.score for d in case.explanation.detections]))
    drag = """
        const slider = document.querySelector(`input[name=${arguments[0]}]`);
        slider.value = arguments[1];
        slider.dispatchEvent(new Event('input'));
        return lucidet.settings();
    """
    settings = driver.execute_script(drag, "score_thresh", threshold)
    kept = detections_at(case.explanation, replace(case.explanation.settings, **settings))
    expected = sorted([round(float(v), 2) for v in box] for box in kept.boxes)
    assert 0 < len(expected) < len(case.explanation.detections)
    shown = driver.execute_script(
        "return [...document.querySelectorAll('rect[data-kind=detection]')].map("
        "r => ['x', 'y', 'width', 'height'].map(k => Number(r.getAttribute(k))))"
    )
    drawn = sorted([round(v, 2) for v in (x, y, x + w, y + h)] for x, y, w, h in shown)
    assert np.allclose(drawn, expected, atol=0.02)
    find(".settings button")[0].click()
    assert len(find("rect[data-kind=detection]")) == len(case.explanation.detections)

    # the heat map of a detection, where there is one
    driver.get(case.file.as_uri() + "#detection-0")
    driver.refresh()
    assert len(find("image.heat")) == 1
    find("#heat")[0].click()
    assert find("image.heat") == []
    assert [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_the_funnel_opens_an_example(cases: dict[str, Case], driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    case = cases["fpn"]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "7.html").write_text(case.html, encoding="utf-8")
    fate, title = "background", TITLES["fates"]["background"]
    example = {"image_id": 7, "file_name": f"a/{HOSTILE}.jpg", "index": 1, "text": HOSTILE}
    example |= {"page": "images/7.html", "thumbnail": thumbnail(case.picture, BOXES[1])}
    funnel = {
        **{"title": HOSTILE, "images": 1, "objects": 4, "ignored": 0, "ap50": 41.0},
        **{"fates": {"detected": 2, fate: 2}, "mend": {fate: 60.0}},
        **{
            "verdicts": {"true_positive": 2, "duplicate": 1, "ignored": 3},
            "without": {"duplicate": 41.5},
        },
        "by": {"size": {"small": {"detected": 2, fate: 2}}, "class": {HOSTILE: {fate: 2}}},
        "examples": {"objects": {fate: [example]}, "detections": {}},
    }
    page = tmp_path / "explain.html"
    page.write_text(funnel_page(funnel), encoding="utf-8")
    driver.get_log("browser")
    for width, height, scheme in ((1400, 900, "light"), (420, 900, "dark")):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        preference = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preference})
        driver.get(page.as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.execute_script("return document.documentElement.dataset.theme") == scheme
        bars = driver.find_elements(By.CSS_SELECTOR, "[data-bar]")
        assert len(bars) == 2  # what is lost, and what is wrong
        bar = driver.find_element(By.CSS_SELECTOR, f'[data-bar="{title}"]')
        driver.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", bar)
        examples = driver.find_element(By.ID, "examples")
        assert examples.get_attribute("data-kind") == fate
        examples.find_element(By.TAG_NAME, "a").click()
        wait = WebDriverWait(driver, 30)
        wait.until(lambda d: d.current_url.endswith("images/7.html#box-1"))
        wait.until(lambda d: d.execute_script("return document.readyState") == "complete")
        assert "Following box 1" in driver.find_element(By.CSS_SELECTOR, ".chain h3").text
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
