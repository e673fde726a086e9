"""The command: files, exit status, `--fix`, and what `lucidet train` does with it."""

from __future__ import annotations

import copy as copies
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lucidet.cli.main import main
from lucidet.doctor.assemble import doctor
from lucidet.doctor.findings import Case, Report, finding, merged
from lucidet.doctor.rules import ERROR, RULES
from lucidet.doctor.sarif import as_sarif
from tests.doctor.conftest import Copy, of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"


def test_every_code_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert not [code for code in RULES if f"`{code}`" not in text]


def test_findings_of_one_code_are_joined() -> None:
    a, b = Case("a.jpg", image_id=1), Case("b.jpg", image_id=2)
    first = finding("image-dark", "{n} dark", [a])
    second = finding("image-dark", "{n} dark", [a, b])
    joined = merged([second, finding("image-size", "{n}", [a]), first])
    assert [(one.code, one.count) for one in joined] == [("image-size", 1), ("image-dark", 2)]


def test_the_exit_status_follows_the_severity() -> None:
    assert Report("").status == 0
    assert Report("", findings=[finding("box-huge", "x")]).status == 0
    assert Report("", findings=[finding("image-dark", "x")]).status == 1
    assert Report("", findings=[finding("image-dark", "x"), finding("image-size", "x")]).status == 2


def test_sarif_has_a_result_for_each_case() -> None:
    cases = [Case("/data/a b.jpg", "train", 1), Case("/data/b.jpg", "train", 2, 5)]
    log = as_sarif(Report("", findings=[finding("box-thin", "{n} thin", cases)]))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["box-thin"]
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in run["results"]
    ]
    assert uris == ["file:///data/a%20b.jpg", "file:///data/b.jpg"]
    assert {result["level"] for result in run["results"]} == {"warning"}


def _digest(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _plant_much(copy: Copy) -> None:
    train = copy.content["train"]
    copy.path(1).write_bytes(copy.path(1).read_bytes()[:3000])
    copy.path(2).unlink()
    copy.path(0, "val").write_bytes(copy.path(3).read_bytes())  # leaked
    image = Image.open(copy.path(4))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.convert("RGB").save(copy.path(4), exif=exif)
    copy.image(5)["width"] *= 2
    copy.image(5)["height"] *= 2
    for box in copy.boxes(5):
        box["bbox"] = [2 * v for v in box["bbox"]]
    train["annotations"].append({**copies.deepcopy(copy.boxes(0)[0]), "id": 5})
    train["annotations"].append(copies.deepcopy(copy.boxes(0)[0]))  # the same id
    copy.add_box([20, 20, 0, 30])
    copy.add_box([30, 40, 2000, 30])
    copy.add_box([30, 40, 20, 30], category_id=777)


def test_fix_writes_a_copy_without_errors_and_leaves_the_original(
    copy_of_coco: Callable[[int], Copy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_of_coco(7)
    _plant_much(copy)
    copy.write()
    before = _digest(copy.root)
    line = ["doctor", "--data", str(copy.root), "--out", str(tmp_path / "report")]
    assert main([*line, "--fix", str(tmp_path / "clean")]) == 2
    assert _digest(copy.root) == before
    text = capsys.readouterr().out
    assert "images left out" in text
    assert "| error " in text
    page = (tmp_path / "report" / "doctor.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert "http" not in page.replace("http://www.w3.org", "")
    content = json.loads((tmp_path / "report" / "doctor.json").read_text())
    assert content["status"] == 2
    assert all(one["repair"] and one["code"] in RULES for one in content["findings"])
    assert json.loads((tmp_path / "report" / "doctor.sarif").read_text())["version"] == "2.1.0"

    again = doctor([str(tmp_path / "clean")])[0]
    assert not [one for one in again.findings if one.severity == ERROR]
    for code in ("leak-exact", "image-turned", "box-doubled", "box-over-border", "image-missing"):
        assert of(again, code) is None, code
    boxes = json.loads((tmp_path / "clean/annotations/instances_train.json").read_text())
    ids = {c["name"]: c["id"] for c in copy.content["train"]["categories"]}
    assert {c["name"]: c["id"] for c in boxes["categories"]} == ids

    assert main([*line, "--fix", str(tmp_path / "clean")]) == 2
    assert "is there already" in capsys.readouterr().err


BROKEN: dict[str, Callable[[Copy], object]] = {
    "image-unreadable": lambda c: c.path(1).write_bytes(c.path(1).read_bytes()[:4000]),
    "image-missing": lambda c: c.path(1).unlink(),
    "image-size": lambda c: c.image(1).update(width=33),
    "unknown-category-id": lambda c: c.boxes(1)[0].update(category_id=777),
    "annotation-malformed": lambda c: c.boxes(1)[0].pop("bbox"),
    "no-boxes": lambda c: c.content["train"].update(annotations=[]),
}


@pytest.mark.parametrize("code", BROKEN)
def test_train_stops_before_it_starts(
    code: str,
    copy_of_coco: Callable[[int], Copy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = copy_of_coco(3)
    BROKEN[code](copy)
    copy.write()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", str(copy.root), "--epochs", "1"]) == 2
    text = capsys.readouterr().err
    assert f"error    {code}: " in text
    assert "repair: " in text
    assert "--force" in text
    assert not (tmp_path / "output").exists()


def test_force_goes_on(
    copy_of_coco: Callable[[int], Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lucidet.cli import train

    started = []
    monkeypatch.setattr(train, "start", started.append)
    copy = copy_of_coco(3)
    BROKEN["image-missing"](copy)
    copy.write()
    monkeypatch.chdir(copy.root)
    assert main(["train", "--data", str(copy.root), "--force"]) == 0
    assert len(started) == 1


def test_nothing_to_look_at() -> None:
    assert main(["doctor"]) == 2
