"""Datasets of all layouts, written by the tests from a few small pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lucidet.data import DatasetCatalog, MetadataCatalog
from lucidet.data.specification import datasets, register


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep divisions in a folder of the test; take what it registers out of the catalogs."""
    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "cache"))
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalog.list()) - names:
            catalog.remove(name)
    register._DATASETS.clear()
    register._ALIASES.clear()
    datasets.forget()
