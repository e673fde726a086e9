"""``lucidet data show`` and ``convert``, and ``--import`` on any command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lucidet.cli.main import main
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.utils import user_modules
from tests.data.specification.exports import pictures, voc
from tests.data.specification.test_layouts import roboflow_coco

pytestmark = pytest.mark.usefixtures("forget_specifications")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A VOC folder with a difficult object, an image without XML, and XML without an image."""
    pictures(tmp_path / "pets" / "images")
    voc(tmp_path / "pets" / "annotations", [0, 1, 2, 3])
    xml = tmp_path / "pets" / "annotations" / "img_1.xml"
    xml.write_text(xml.read_text().replace("<difficult>0", "<difficult>1", 1))
    lost = tmp_path / "pets" / "annotations" / "lost.xml"
    lost.write_text(xml.read_text().replace("img_1.jpg", "lost.jpg"))
    return tmp_path / "pets"


def test_show_says_what_was_understood(pets, tmp_path, capsys):
    assert main(["data", "show", str(pets), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "VOC XML in annotations/, without lists" in text
    assert "2 classes: cat, dog" in text
    assert "images without an XML file are left out; for example img_4.jpg" in text
    assert "lost.xml: lost.jpg" in text
    assert "difficult boxes are trained on" in text
    assert "40 x 60 (2)" in text
    assert f"voc:{pets}:train" in text
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 400


def test_show_names_images_that_would_stop_a_training(pets, tmp_path, capsys):
    xml = pets / "annotations" / "img_0.xml"
    xml.write_text(xml.read_text().replace("<width>60", "<width>99"))
    (pets / "images" / "img_2.jpg").write_bytes(b"no picture")
    assert main(["data", "show", str(pets), "--out", str(tmp_path / "sheet.png")]) == 0
    text = capsys.readouterr().out
    assert "img_0.jpg is 60 x 40, not 99 x 40" in text
    assert "1 image files can't be read" in text
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("copy", [False, True])
def test_convert_writes_what_is_read_again_as_the_same(tmp_path, capsys, copy):
    roboflow_coco(tmp_path / "pets")
    out = tmp_path / "out"
    words = ["data", "convert", str(tmp_path / "pets"), "--to", "coco", "--out", str(out)]
    assert main([*words, *["--copy"] * copy]) == 0
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    assert len(content["images"]) == 3
    spec = capsys.readouterr().out.strip().splitlines()[-1].removeprefix("use it as ")
    assert main(["data", "show", spec, "--no-picture"]) == 0
    assert "| train |      3 |" in capsys.readouterr().out
    assert main(words) == 2  # files are not written over
    assert "exists already" in capsys.readouterr().err


def test_a_folder_that_is_no_dataset(tmp_path, capsys):
    pictures(tmp_path / "photos", [0, 1])
    assert main(["data", "show", str(tmp_path / "photos")]) == 2
    message = capsys.readouterr().err
    for part in ("Looked for:", "voc: *.xml", "Found: 2 images", "coco:FILE.json@IMAGES"):
        assert part in message


MODULE = """
from lucidet.data import DatasetCatalog, MetadataCatalog
RECORD = {"file_name": "a.jpg", "image_id": 1, "height": 8, "width": 9, "annotations": []}
DatasetCatalog.register("brought", lambda: [RECORD])
MetadataCatalog.get("brought").set(thing_classes=["thing"], evaluator_type="coco")
"""


@pytest.mark.parametrize("place", ["before", "after", "within"])
def test_modules_are_imported_by_every_command(tmp_path, monkeypatch, capsys, place):
    monkeypatch.setenv(user_modules.VARIABLE, "")
    name = f"brought_{place}"
    (tmp_path / f"{name}.py").write_text(MODULE.replace('"brought"', f'"{name}"'))
    monkeypatch.chdir(tmp_path)
    option = ["--import", name if place == "before" else f"{name}.py"]
    words = ["data", "show", name, "--no-picture"]
    at = {"before": 0, "after": len(words), "within": 2}[place]
    assert main([*words[:at], *option, *words[at:]]) == 0
    assert "1 classes: thing" in capsys.readouterr().out
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove(name)


def test_started_processes_import_the_same(tmp_path, monkeypatch):
    (tmp_path / "brought.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(user_modules.VARIABLE, json.dumps([str(tmp_path / "brought.py")]))
    code = (
        "from lucidet.utils.user_modules import import_again; import_again(); import_again()\n"
        "from lucidet.data import DatasetCatalog; assert DatasetCatalog.get('brought')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_a_missing_module_is_named(capsys):
    assert main(["data", "show", "x", "--import", "no_such_module_here"]) == 2
    assert "--import no_such_module_here: there is no such module" in capsys.readouterr().err
