"""What several tests share: the folders of real data and reference numbers, and a fixed seed."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

# oneDNN adds in the order that suits the processor. The reference was computed with AVX2; torch
# reads this when it first convolves, so it is set before any test imports torch.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, default: Path, what: str) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"{what} not found at {path}; set {variable} to the folder that holds them")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no process is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Folder of the reference numbers (``LUCIDET_FIXTURES``, else ``../shared/fixtures``)."""
    return _folder("LUCIDET_FIXTURES", SHARED / "fixtures", "reference fixtures")


@pytest.fixture(scope="session")
def datasets_dir() -> Path:
    """Folder of real images, ``coco/`` and ``bccd/`` inside (``LUCIDET_DATASETS``)."""
    return _folder("LUCIDET_DATASETS", SHARED / "data", "real data sets")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As many threads as the reference was computed with: they too decide what is added first."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """A suite that a shell started in the background has Ctrl-C ignored; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logger() -> None:
    """Undo what `setup_logger` did in an earlier test: this one may look at messages."""
    logger = logging.getLogger("lucidet")
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logger.handlers.clear()


@pytest.fixture
def forget_specifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep divisions in a folder of the test; take what it registers out of the catalogs."""
    from lucidet.data import DatasetCatalog, MetadataCatalog
    from lucidet.data.specification import datasets, register

    monkeypatch.setenv("LUCIDET_CACHE", str(tmp_path / "cache"))
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalog.list()) - names:
            catalog.remove(name)
    register._DATASETS.clear()
    register._ALIASES.clear()
    datasets.forget()
