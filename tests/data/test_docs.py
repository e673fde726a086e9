"""docs/datasets.md: its commands and its Python run, on folders as it describes them."""

from __future__ import annotations

import doctest
import json
import re
import shlex
from pathlib import Path

import pytest

from lucidet.cli.main import main
from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.utils import user_modules
from tests.data.specification.exports import boxes_of, coco, pictures, voc, yolo_labels
from tests.data.specification.test_layouts import cvat_xml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
NUMBERS = range(12)
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
MODULE = """
from lucidet.data import DatasetCatalog, MetadataCatalog
RECORD = {"file_name": "a.jpg", "image_id": 1, "height": 80, "width": 100, "annotations": []}
DatasetCatalog.register("two", lambda: [RECORD])
MetadataCatalog.get("two").set(thing_classes=["thing"], evaluator_type="coco")
"""

pytestmark = pytest.mark.usefixtures("forget_specifications")


@pytest.fixture
def _folders(tmp_path, monkeypatch):
    """The page's folders, in the current one."""
    monkeypatch.chdir(tmp_path)
    for variable in ("LUCIDET_DATASETS", "DETECTRON2_DATASETS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(user_modules.VARIABLE, "")
    for name in ("pets", "pets_coco", "pets_yolo", "pets_cvat", "pets_csv"):
        pictures(tmp_path / name / "images", NUMBERS)
    voc(tmp_path / "pets" / "annotations", NUMBERS)
    coco(tmp_path / "pets_coco" / "all.json", NUMBERS)
    yolo_labels(tmp_path / "pets_yolo" / "labels", NUMBERS)
    (tmp_path / "pets_yolo" / "data.yaml").write_text(
        "train: images\nval: images\nnames: [cat, dog]\n"
    )
    (tmp_path / "pets_cvat" / "annotations.xml").write_text(cvat_xml({"": list(NUMBERS)}))
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    rows += [
        ",".join([f"img_{n}.jpg", kind, *map(str, box)])
        for n in NUMBERS
        for kind, box in boxes_of(n)
    ]
    (tmp_path / "pets_csv" / "boxes.csv").write_text("\n".join(rows))
    (tmp_path / "my_data.py").write_text(MODULE)


@pytest.mark.usefixtures("_folders")
def test_the_page_runs():
    for name in ("cells_train", "blood_train", "two"):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog:
                catalog.remove(name)
    results = doctest.testfile(str(PAGE), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0


@pytest.mark.usefixtures("_folders")
def test_its_commands_on_data_run(capsys):
    commands = [line for line in COMMANDS if line.startswith("lucidet data ")]
    assert len(commands) >= 8
    for line in commands:
        assert main(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    assert Path("data_show/contact_sheet.png").is_file()
    assert "boxes of class" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("_folders")
def test_its_commands_on_models_run(capsys):
    """In their order: training from the folder, evaluation, prediction with names."""
    commands = [line for line in COMMANDS if not line.startswith("lucidet data ")]
    assert len(commands) == 4
    for line in commands:
        assert main(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    predicted = json.loads(Path("detections/predictions.json").read_text())
    assert {entry["category"] for entry in predicted} <= {"cat", "dog"}
