from __future__ import annotations

import doctest
from pathlib import Path

from lucidet.data import DatasetCatalog, MetadataCatalog

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("LUCIDET_DATASETS", "DETECTRON2_DATASETS"):
        monkeypatch.delenv(variable, raising=False)
    try:
        results = doctest.testfile(str(PAGE), module_relative=False)
    finally:
        for name in ("cells_train", "blood_train", "two"):
            for catalog in (DatasetCatalog, MetadataCatalog):
                if name in catalog:
                    catalog.remove(name)
    assert results.attempted > 10
    assert results.failed == 0
