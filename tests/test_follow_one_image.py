"""`docs/follow_one_image.md` is true: its files, in its order, and for the models no others."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lucidet.data.datasets.shapes import write_shapes
from lucidet.modeling import build_model
from tests.modeling.tiny import FPN, record, tiny_config

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "follow_one_image.md").read_text()
ROW = re.compile(r"^\| `(lucidet/[\w/]+\.py)` \| `([\w.]+)` \|", re.MULTILINE)

Entry = tuple[str, str]


def _chapter(number: int) -> list[Entry]:
    """Return (file, function) of each row of a chapter."""
    text = re.split(r"^## \d\. .*$", PAGE, flags=re.MULTILINE)[number]
    return ROW.findall(text)


@contextmanager
def _entries() -> Iterator[dict[Entry, None]]:
    """Collect (file, function) of lucidet in the order of their first call."""
    seen: dict[Entry, None] = {}
    packages = str(ROOT / "lucidet")

    def on_call(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(packages) and code.co_name[0] != "<":
            name = getattr(code, "co_qualname", code.co_name).split(".<locals>")[0]
            seen.setdefault((str(Path(code.co_filename).relative_to(ROOT)), name))

    sys.setprofile(on_call)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def _files(entries: dict[Entry, None]) -> list[str]:
    return list(dict.fromkeys(file for file, _ in entries))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="qualified names need Python 3.11")
def test_from_the_command_to_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lucidet.__main__ import main

    write_shapes(tmp_path / "shapes", num_train=2, num_val=1, image_size=128)
    monkeypatch.setenv("LUCIDET_DATASETS", str(tmp_path))
    # the look before the program is not part of the tour; it enters some of the same files
    monkeypatch.setattr("lucidet.cli.train.examine", lambda args: None)
    overrides = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "TEST.EVAL_PERIOD", "0"]
    overrides += ["DATALOADER.NUM_WORKERS", "0"]
    config = str(ROOT / "configs" / "shapes" / "faster_rcnn_R_18_FPN.yaml")
    with _entries() as entries:
        main(["train", "--config-file", config, "OUTPUT_DIR", str(tmp_path / "out"), *overrides])
    order = list(entries)
    tour = [*_chapter(1), *_chapter(2), *_chapter(3)[:1]]
    for entry in tour:
        assert entry in entries, f"{entry} is in the tour but is never entered"
    assert sorted(tour, key=order.index) == tour


def _rcnn() -> Any:
    return tiny_config(FPN)


def _atss() -> Any:
    dense = [
        ("MODEL.META_ARCHITECTURE", "ATSS"),
        ("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
        ("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
        ("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]),
        ("MODEL.FPN.OUT_CHANNELS", 32),
        ("MODEL.ATSS.NUM_CLASSES", 3),
    ]
    return tiny_config(dense)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="qualified names need Python 3.11")
@pytest.mark.parametrize(("chapter", "config"), [(3, _rcnn), (4, _atss)])
def test_a_training_forward(chapter: int, config: Callable[[], Any]) -> None:
    model = build_model(config()).train()
    batch = [record((192, 256), [[10.0, 10, 60, 70]])]
    with _entries() as entries:
        model(batch)
    tour = _chapter(chapter)
    assert [file for file, _ in tour] == _files(entries)
    for entry in tour:
        assert entry in entries, f"{entry} is in the tour but is never entered"
