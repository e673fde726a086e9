"""A copy of the COCO sample that faults are planted in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lucidet.doctor.assemble import doctor
from lucidet.doctor.findings import Finding, Report

#: images of each split in the copy
IMAGES = 16


@dataclass
class Copy:
    """A dataset in a folder of the test; `content` is written by `examine`."""

    root: Path
    content: dict[str, dict[str, Any]] = field(default_factory=dict)

    def image(self, number: int = 0, split: str = "train") -> dict[str, Any]:
        return self.content[split]["images"][number]

    def path(self, number: int = 0, split: str = "train") -> Path:
        return self.root / f"{split}2017" / self.image(number, split)["file_name"]

    def boxes(self, number: int = 0, split: str = "train") -> list[dict[str, Any]]:
        own = self.image(number, split)["id"]
        return [a for a in self.content[split]["annotations"] if a["image_id"] == own]

    def add_box(self, bbox: list[float], number: int = 0, **more: Any) -> dict[str, Any]:
        entry = {
            "id": 10**9 + len(self.content["train"]["annotations"]),
            "image_id": self.image(number)["id"],
            "category_id": 1,
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
            **more,
        }
        self.content["train"]["annotations"].append(entry)
        return entry

    def write(self) -> None:
        for split, content in self.content.items():
            path = self.root / "annotations" / f"instances_{split}2017.json"
            path.write_text(json.dumps(content))

    def examine(self, quick: bool = True, **options: Any) -> Report:
        self.write()
        return doctor([str(self.root)], quick=quick, **options)[0]


def of(report: Report, code: str) -> Finding | None:
    """Return a report's finding of a code."""
    return next((one for one in report.findings if one.code == code), None)


@pytest.fixture
def copy_of_coco(
    tmp_path: Path, datasets_dir: Path, forget_specifications: None
) -> Callable[[int], Copy]:
    """Return a function that makes a copy with some images of each split."""

    def make(images: int = IMAGES) -> Copy:
        copy = Copy(tmp_path / "coco")
        (copy.root / "annotations").mkdir(parents=True)
        for split in ("train", "val"):
            source = datasets_dir / "coco" / "annotations" / f"instances_{split}2017.json"
            content = json.loads(source.read_text())
            content["images"] = content["images"][:images]
            kept = {image["id"] for image in content["images"]}
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
            folder = copy.root / f"{split}2017"
            folder.mkdir()
            for image in content["images"]:
                name = image["file_name"]
                shutil.copyfile(datasets_dir / "coco" / folder.name / name, folder / name)
                os.chmod(folder / name, 0o644)
            copy.content[split] = content
        return copy

    return make
