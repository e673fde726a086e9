"""An evaluation that is interrupted leaves the predictions so far, and says how many there are."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lucidet.data import DatasetCatalog
from lucidet.evaluation import (
    COCOEvaluator,
    DatasetEvaluators,
    PascalVOCDetectionEvaluator,
    inference_on_dataset,
)
from lucidet.evaluation.evaluator import partial_name
from lucidet.utils import comm
from lucidet.utils.terminations import Terminated, terminations_as_interrupts
from tests.evaluation.test_ids_and_copies import NAME, _forget, coco, found, voc

__all__ = ["_forget", "voc"]  # fixtures

FILE = "coco_instances_results.partial.json"


class Loader(list):
    """Batches of a sampler's images."""

    sampler = range(3)


def batches() -> Loader:
    return Loader([[{"image_id": 0}], [{"image_id": 1}], [{"image_id": 2}]])


def ended_at(image: int, number: int) -> Any:
    def model(batch: list[dict[str, Any]]) -> list[Any]:
        if batch[0]["image_id"] == image:
            os.kill(os.getpid(), number)
            signal.pause()
        return [found() for _ in batch]

    return model


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("image", [0, 2])
def test_predictions_so_far(
    number: int, image: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    coco(tmp_path, [0, 1, 2])
    evaluator = DatasetEvaluators([COCOEvaluator(NAME, output_dir=str(tmp_path / "out"))])
    with pytest.raises(KeyboardInterrupt) as ended, terminations_as_interrupts():
        inference_on_dataset(ended_at(image, number), batches(), evaluator)
    if number == signal.SIGTERM:
        assert isinstance(ended.value, Terminated)
    results = json.loads((tmp_path / "out" / FILE).read_text())
    assert [r["image_id"] for r in results] == [*range(image)]
    assert f"Interrupted after {image} of 3 images" in caplog.text
    assert FILE in caplog.text
    assert not (tmp_path / "out" / "coco_instances_results.json").exists()


def test_without_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    coco(tmp_path, [0, 1, 2])
    with pytest.raises(KeyboardInterrupt):
        inference_on_dataset(ended_at(1, signal.SIGINT), batches(), COCOEvaluator(NAME))
    assert "1 of 3 images; their predictions: no file" in caplog.text


def test_voc(voc: Any, tmp_path: Path) -> None:
    voc(["b"])
    record = {"file_name": "b.jpg", "image_id": "b", "height": 48, "width": 64, "annotations": []}
    DatasetCatalog.register(NAME, lambda: [record])
    evaluator = PascalVOCDetectionEvaluator(NAME, str(tmp_path / "out"))
    evaluator.process([{"image_id": "b"}], [found()])
    assert evaluator.save_partial() == [tmp_path / "out" / FILE]
    assert [r["image_id"] for r in json.loads((tmp_path / "out" / FILE).read_text())] == ["b"]


def test_each_process_has_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "get_rank", lambda: 2)
    assert partial_name("a.json") == "a_process2.partial.json"
