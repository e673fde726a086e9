"""The page: made for every architecture, and used in a real browser."""

from __future__ import annotations

import json
import re

import pytest
import torch

from lucidet.cli.main import main
from lucidet.inspection.page.report import PANELS, embedded_page, render, write_report
from lucidet.inspection.stages import CHAPTERS, STAGES
from lucidet.inspection.trace import Trace, watch
from lucidet.pages.blocks import box_layer
from lucidet.pages.charts import bar_chart, histogram, line_chart
from lucidet.utils.probe import probe
from tests.browser import browser
from tests.modeling.tiny import ATSS, C4, FCOS, FPN, RETINANET

DETECTORS = {"fpn": FPN, "c4": C4, "retinanet": RETINANET, "atss": ATSS, "fcos": FCOS}


def content(page: str) -> dict:
    return json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_every_stage_has_a_drawing():
    assert {stage.drawing for stage in STAGES.values()} == set(PANELS)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", list(DETECTORS))
def test_the_page_has_all_eleven_chapters(look, name, training):
    trace = look(DETECTORS[name], training=training)
    assert trace.context["error"] == ""
    page = render(trace)
    data = content(page)
    expected = {"detections"} if training else {"assign", "loss"}
    if name in ("retinanet", "atss", "fcos"):
        expected |= {"roi", "proposals"} if training else {"roi"}
    walked = [key for key in CHAPTERS if key not in expected]
    assert list(dict.fromkeys(step["chapter"] for step in data["steps"])) == walked
    assert {a["chapter"] for a in data["absent"]} == {CHAPTERS[key].title for key in expected}
    assert all(a["why"] for a in data["absent"])
    assert len(page) < 15e6
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)  # nothing from elsewhere
    view = data["front"]["view"]
    assert [t["box"] for t in view["truth"]] == [[10, 10, 60, 70], [70, 5, 120, 60]]
    assert bool(data["front"]["losses"]) == training
    assert len(view["truth"][0]["chain"]) >= 6  # followed through the stages


def test_a_transform_is_called_by_its_name(look):
    titles = [step["title"] for step in content(render(look(until="input.batch")))["steps"]]
    assert "Resize" in titles
    assert "After a transform" not in titles


def test_findings_of_one_kind_are_grouped(look):
    trace = look(until="input.read", boxes=[[10, 10, 10, 40], [20, 20, 60, 20], [5, 5, 9, 9]])
    (group,) = content(render(trace))["findings"]
    assert group["check"] == "degenerate-box"
    assert [m["message"][:18] for m in group["messages"]] == [
        f"ground-truth box {i}" for i in (0, 1)
    ]


def test_many_overlapping_boxes_are_thinned():
    boxes = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) * 3
    boxes[:, 2:] += 50.0
    boxes[200:] += 300.0
    layer = box_layer("proposals", boxes, [""] * 300)
    assert len(layer["boxes"]) == 300
    assert layer["few"] == [0, 200]
    assert "few" not in box_layer("proposals", boxes[:30], [""] * 30)
    assert "few" not in box_layer("proposals", boxes[:0], [])


def test_charts_draw_what_is_finite():
    chart = bar_chart([("a", 2.0), ("b", float("nan")), ("c", 0.0)], "norms", log=True)
    assert [row["value"] for row in chart["rows"]] == [2.0, None, 0.0]
    assert bar_chart([], "norms")["type"] == "text"
    assert histogram(torch.tensor([1.0, 2.0, float("inf")]), "x", bins=2)["counts"] == [1, 1]
    assert histogram(torch.zeros(0), "x")["type"] == "text"
    assert line_chart([(0, 1), (1, float("nan"))], "rate", "x", "y")["type"] == "text"


@pytest.mark.parametrize(
    ("name", "steps_are_named"), [("WarmupMultiStepLR", True), ("WarmupCosineLR", False)]
)
def test_steps_are_named_only_where_the_schedule_has_steps(tmp_path, name, steps_are_named):
    schedule = {
        **{"name": name, "batch": 8, "base_lr": 0.001, "warmup": 2, "steps": [15], "error": ""},
        **{"max_iter": 20, "points": [[0, 0.001], [20, 0.0]]},
    }
    with watch() as trace:
        probe("config.values", rows=[["A", "1", "default", True]], schedule=schedule)
    page = render(trace)
    assert f"{name}: batch 8" in page
    assert ("decays at [15]" in page) == steps_are_named


def test_anchors_of_400_by_600():
    """The count that the page gives for Faster R-CNN with FPN at 400 x 600."""
    from lucidet.modeling.anchor_generator import DefaultAnchorGenerator

    generator = DefaultAnchorGenerator(
        sizes=[[32], [64], [128], [256], [512]],
        aspect_ratios=[[0.5, 1.0, 2.0]],
        strides=[4, 8, 16, 32, 64],
    )
    sizes = [(104, 152), (52, 76), (26, 38), (13, 19), (7, 10)]
    with watch() as trace:
        generator([torch.zeros(1, 1, h, w) for h, w in sizes])
    assert "47424 + 11856 + 2964 + 741 + 210 = 63195 anchors" in render(trace)


def test_no_objects_and_no_data_path(look):
    assert "0 ground-truth boxes" in render(look(boxes=[]))
    with watch() as trace:
        probe("rpn.nothing", x=1)
    data = content(render(trace))
    assert data["steps"] == []
    assert len(data["absent"]) == len(CHAPTERS)
    assert render(Trace())


def test_text_cannot_end_the_script(look):
    trace = look(until="input.read")
    trace["input.read"].values["record"]["file_name"] = "</script><script>alert(1)</script>"
    trace.context["error"] = "</script><img src=x onerror=alert(1)>"
    page = render(trace)
    assert "<img src=x" not in page
    assert page.count("</script>") == 2


def test_a_model_that_refuses_its_input_still_gives_a_page(look):
    trace = look(classes=[0, 7])
    assert "ValueError" in trace.context["error"]
    assert "stopped: ValueError" in content(render(trace))["subtitle"]


@pytest.mark.parametrize("until", ["rpn.assign", "anchors", "roi.*", "backbone"])
def test_until_ends_the_run(look, until):
    trace = look(until=until)
    last = trace.events[-1].name
    assert last in ("rpn.assign", "anchors.grid", "roi.assign", "backbone.features")
    with pytest.raises(ValueError, match=r"no stage 'rpm.assign'; did you mean rpn.assign"):
        look(until="rpm.assign")


def test_the_command_writes_page_and_trace(image_file, tmp_path, capsys):
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    config = str(root / "configs/COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    words = ["inspect", "--config-file", config, "--image", image_file, "--out", str(tmp_path)]
    small = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "MODEL.RESNETS.DEPTH", "18"]
    small += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    assert main([*words, "--until", "anchors", *small]) == 0
    assert "report.html" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {
        *("report.html", "trace.json", "trace.safetensors"),
    }
    assert "anchors.grid" in Trace.load(tmp_path)
    assert main([*words, "--dataset", "coco_2017_val"]) == 2
    assert "either --image FILE, or --dataset NAME" in capsys.readouterr().err


# ---- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, image_file):
    from lucidet.inspection.run import inspect_image
    from tests.inspection.conftest import SIZES, make_record
    from tests.modeling.tiny import tiny_config

    trace = inspect_image(tiny_config(FPN, SIZES), make_record(image_file), training=True)
    trace["model.tree"].values["weights"] = "a_long_folder_name/" * 8 + "model_final.pth"
    return write_report(trace, tmp_path_factory.mktemp("page"))


@pytest.mark.slow
def test_in_a_notebook(tmp_path, look):
    """A page in a frame has no address of its own: its links must stay within it."""
    page = tmp_path / "notebook.html"
    page.write_text("<!doctype html><title>x</title>" + embedded_page(look(until="anchors")))
    driver = browser(1200, 800)
    try:
        driver.get(page.as_uri())
        position = driver.execute_script(
            "const inside = document.querySelector('iframe').contentDocument;"
            "inside.querySelectorAll('.film a')[3].click();"
            "return inside.getElementById('position').textContent"
        )
        assert position.startswith("4 / ")
        assert driver.execute_script("return frames[0].location.href") == "about:srcdoc"
        assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []
    finally:
        driver.quit()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "dark"), [(1400, 900, False), (420, 900, True)])
def test_in_a_browser(page_file, width, height, dark):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver = browser(width, height, dark)
    try:
        # the window's outer size is not the page's
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(page_file.as_uri())

        def find(selector):
            return driver.find_elements(By.CSS_SELECTOR, selector)

        def position():
            return driver.find_element(By.ID, "position").text

        def no_overflow(what):
            overflow = "return document.documentElement.scrollWidth - innerWidth"
            assert driver.execute_script(overflow) <= 0, f"{what} is wider than the screen"

        # the front: picture, losses, findings and boxes; nothing below the fold where it is wide
        assert len(find("#front .view rect[data-kind=truth]")) == 2
        no_overflow("the front")
        places = driver.execute_script(
            "return [...document.querySelectorAll('#front .view, #front .chart, #front .findings,"
            "#front .boxes')].map(n => n.getBoundingClientRect().bottom)"
        )
        assert len(places) == 4
        if width > 1000:
            assert max(places) <= height
        theme = driver.execute_script("return document.documentElement.dataset.theme")
        assert theme == ("dark" if dark else "light")
        driver.find_element(By.ID, "theme").click()
        assert driver.execute_script("return document.documentElement.dataset.theme") != theme

        # a box is followed through every stage that knows of it
        find("#front .boxes tr.pick")[1].click()
        chain = find("#front .chain li")
        assert "Following box 1" in find("#front .chain h3")[0].text
        assert len(chain) >= 6
        stages = len(find("nav a"))
        assert stages >= 20
        for i in range(1, stages + 1):
            driver.find_element(By.ID, "next").click()
            assert position() == f"{i} / {stages}"
            assert find("main h2")[0].text
            assert "Following box 1" in find(".following")[0].text
            no_overflow(f"stage {i}")
        body = driver.find_element(By.TAG_NAME, "body")
        body.send_keys(Keys.ESCAPE)
        assert find(".following") == []
        for i in range(stages - 1, 0, -1):
            body.send_keys(Keys.ARROW_LEFT)
            assert position() == f"{i} / {stages}"

        # layers switch, boxes tell their numbers, images zoom
        place = next(
            i
            for i, link in enumerate(find("nav a"))
            if link.get_attribute("title").startswith("rpn.assign")
        )
        for _ in range(place):
            body.send_keys("j")
        toggle = next(
            box
            for box in find("main .layers input")
            if box.get_attribute("data-layer") == "ground truth"
        )
        group = find('main g[data-layer="ground truth"]')[0]
        assert group.is_displayed()
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", toggle)
        toggle.click()
        assert not group.is_displayed()
        toggle.click()
        box = group.find_elements(By.CSS_SELECTOR, "rect")[0]
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        # a part of the box that no anchor covers: the event goes to the box itself
        driver.execute_script(
            "arguments[0].dispatchEvent(new PointerEvent('pointermove', {bubbles: true}))", box
        )
        tip = driver.find_element(By.ID, "tip").text
        assert tip.startswith("ground-truth box ")
        assert re.search(r"x1 [\d.]+\s+y1 [\d.]+\s+x2 [\d.]+\s+y2 [\d.]+", tip)
        view_box = "return document.querySelector('main .view svg').getAttribute('viewBox')"
        before = driver.execute_script(view_box)
        zoom = find('main .zoom button[title="zoom in"]')[0]
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", zoom)
        zoom.click()
        assert driver.execute_script(view_box) != before

        # a row of the table singles out its box, and follows it
        row = find("main tr.pick")[0]
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
        row.click()
        shown = [r for r in find('main g[data-layer="ground truth"] rect') if r.is_displayed()]
        assert len(shown) == 1
        assert "Following box 0" in find(".following")[0].text

        errors = [e for e in driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
        assert errors == []
        requests = [
            message["params"]["request"]["url"]
            for message in (
                json.loads(e["message"])["message"] for e in driver.get_log("performance")
            )
            if message["method"] == "Network.requestWillBeSent"
        ]
        assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    finally:
        driver.quit()
