"""The pages of doctor and coverage in a real browser: no error, nothing wider than the window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lucidet.cli.main import main
from tests.browser import browser
from tests.doctor.conftest import Copy


@pytest.mark.slow
def test_pages_in_a_browser(copy_of_coco: Callable[[int], Copy], tmp_path: Path) -> None:
    copy = copy_of_coco(4)
    copy.path(1).write_bytes(copy.path(1).read_bytes()[:3000])
    copy.boxes(0)[0]["bbox"] = [20, 20, 1.5, 1.5]
    copy.path(0, "val").write_bytes(copy.path(2).read_bytes())
    copy.write()
    data = ["--data", str(copy.root), "--model", "faster_rcnn_R_18_FPN"]
    assert main(["doctor", *data, "--out", str(tmp_path)]) == 2
    assert main(["coverage", *data, "--out", str(tmp_path)]) == 0
    for width in (1280, 420):
        driver = browser(width, 1000)
        try:
            for name in ("doctor.html", "coverage.html"):
                driver.get((tmp_path / name).as_uri())
                assert not driver.get_log("browser"), name
                wide = "return document.documentElement.scrollWidth - window.innerWidth"
                assert driver.execute_script(wide) <= 0, (name, width)
                pictures = "return [...document.images].every(i => i.naturalWidth > 0)"
                assert driver.execute_script(pictures), name
            driver.get((tmp_path / "doctor.html").as_uri())
            driver.execute_script("document.querySelector('td a').click()")
            assert "#" in driver.current_url
        finally:
            driver.quit()
