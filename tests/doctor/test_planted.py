"""Every fault, planted once in a copy of the COCO sample, is found; the clean copy has no error."""

from __future__ import annotations

import copy as copies
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from lucidet.doctor.findings import Case
from lucidet.doctor.rules import ERROR, RULES
from tests.doctor.conftest import Copy, of

Plant = Callable[[Copy], object]


def _annotation(copy: Copy) -> dict:
    return copy.content["train"]["annotations"][3]


def _twice(copy: Copy, section: str, **changes: object) -> object:
    entry = {**copies.deepcopy(copy.content["train"][section][1]), **changes}
    copy.content["train"][section].append(entry)
    return entry["id"]


def _change(entry: dict, **changes: object) -> object:
    entry.update(changes)
    return entry["id"]


def _drop(entry: dict, key: str) -> object:
    del entry[key]
    return entry["id"]


def _box(copy: Copy, bbox: list[float], **more: object) -> object:
    return copy.add_box(bbox, **more)["id"]


def _contradict(copy: Copy) -> object:
    entry = copy.boxes()[0]
    other = 1 if entry["category_id"] != 1 else 2
    return copy.add_box(list(entry["bbox"]), category_id=other)["id"]


#: code -> how it is planted; what it returns is the id of the annotation or image that is named
ANNOTATIONS: dict[str, Plant] = {
    "duplicate-image-id": lambda c: _twice(c, "images", file_name="other.jpg"),
    "duplicate-annotation-id": lambda c: _twice(c, "annotations", bbox=[5, 5, 40, 40]),
    "unknown-image-id": lambda c: _change(_annotation(c), image_id=999_999_999),
    "unknown-category-id": lambda c: _change(_annotation(c), category_id=777),
    "annotation-malformed": lambda c: _drop(_annotation(c), "bbox"),
    "box-invalid": lambda c: _change(_annotation(c), bbox=[1, 2, float("nan"), 4]),
    "box-degenerate": lambda c: _change(_annotation(c), bbox=[20, 20, 0, 30]),
    "box-outside": lambda c: _change(_annotation(c), bbox=[5000, 5000, 30, 30]),
    "box-over-border": lambda c: _box(c, [100, 100, 900, 50]),
    "box-doubled": lambda c: _box(
        c, list(c.boxes()[0]["bbox"]), category_id=c.boxes()[0]["category_id"]
    ),
    "box-contradictory": _contradict,
    "box-thin": lambda c: _box(c, [20, 30, 300, 4]),
    "box-tiny": lambda c: _box(c, [50, 60, 3, 3]),
    "box-huge": lambda c: _box(c, [0, 0, c.image()["width"], c.image()["height"]]),
    "box-at-border": lambda c: _box(c, [0, 40, 50, 60]),
}


@pytest.mark.parametrize("code", ANNOTATIONS)
def test_a_fault_of_the_annotations_is_found(
    code: str, copy_of_coco: Callable[[int], Copy]
) -> None:
    copy = copy_of_coco(5)
    before = of(copy.examine(), code)
    planted = ANNOTATIONS[code](copy)
    _read_again()
    found = of(copy.examine(), code)
    assert found is not None
    assert found.count == (before.count if before else 0) + 1
    assert planted in {i for case in found.cases for i in (case.image_id, case.annotation_id)}
    assert found.severity == RULES[code].severity or code in ("box-tiny",)


def _read_again() -> None:
    from lucidet.data.specification import datasets, register

    datasets.forget()
    register._DATASETS.clear()
    register._ALIASES.clear()


def test_the_clean_copy_has_no_error(copy_of_coco: Callable[[int], Copy]) -> None:
    report = copy_of_coco(16).examine(quick=False)
    assert not [one for one in report.findings if one.severity == ERROR]
    codes = {one.code for one in report.findings}
    assert not codes & {"image-turned", "image-dark", "image-bright", "image-low-information"}
    assert not {code for code in codes if code.startswith(("leak", "duplicate"))}


def test_many_structural_faults_at_once(copy_of_coco: Callable[[int], Copy]) -> None:
    """Each stops the reader: the others are found all the same."""
    copy = copy_of_coco(5)
    codes = [code for code in ANNOTATIONS if code.startswith(("duplicate", "unknown", "box-over"))]
    for code in codes:
        ANNOTATIONS[code](copy)
    report = copy.examine()
    assert {one.code for one in report.findings} >= {*codes} - {"unknown-image-id"}
    assert report.status == 2


def test_classes_and_splits(copy_of_coco: Callable[[int], Copy]) -> None:
    copy = copy_of_coco(5)
    train, val = copy.content["train"], copy.content["val"]
    train["categories"] += [{"id": 91, "name": "unicorn"}, {"id": 92, "name": "Person"}]
    first, second = val["categories"][:2]
    first["id"], second["id"] = second["id"], first["id"]
    name = train["categories"][0]["name"]
    train["annotations"] = [
        a
        for a in train["annotations"]
        if a["category_id"] != copy.boxes(0, "val")[0]["category_id"]
    ]
    report = copy.examine()
    empty = of(report, "class-empty")
    assert empty is not None
    assert any("unicorn" in case.text for case in empty.cases)
    alike = of(report, "class-names-alike")
    assert alike is not None
    assert "'Person' and 'person'" in alike.cases[0].text
    order = of(report, "category-order")
    assert order is not None
    assert order.count == 2
    assert name in order.cases[0].text
    assert of(report, "class-not-trained") is not None
    assert of(report, "class-rare") is not None


def test_a_class_that_training_lacks(copy_of_coco: Callable[[int], Copy]) -> None:
    copy = copy_of_coco(3)
    copy.content["val"]["categories"].append({"id": 95, "name": "gnu"})
    copy.boxes(0, "val")[0]["category_id"] = 95
    report = copy.examine()
    found = of(report, "class-unknown")
    assert found is not None
    assert "gnu" in found.message
    assert report.status == 2


def _save(path: Path, pixels: np.ndarray, **options: object) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95, **options)


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def _blur(path: Path) -> None:
    image = Image.open(path).convert("RGB").filter(ImageFilter.GaussianBlur(40))
    image.save(path)


def _turn(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).convert("RGB").save(path, exif=exif, quality=95)


def _gray(path: Path) -> None:
    _save(path, np.full_like(_pixels(path), 90))


IMAGES: dict[str, Callable[[Path], object]] = {
    "image-missing": lambda p: p.unlink(),
    "image-unreadable": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "image-size": lambda p: _save(p, _pixels(p)[:-20]),
    "image-turned": _turn,
    "image-dark": lambda p: _save(p, _pixels(p) // 8),
    "image-bright": lambda p: _save(p, 250 + _pixels(p) // 51),
    "image-blurred": _blur,
    "image-low-information": _gray,
}


def test_every_fault_of_an_image_is_found(copy_of_coco: Callable[[int], Copy]) -> None:
    copy = copy_of_coco(len(IMAGES))
    ids = {}
    for number, (code, plant) in enumerate(IMAGES.items()):
        plant(copy.path(number))
        ids[code] = copy.image(number)["id"]
    report = copy.examine(quick=False)
    for code, image_id in ids.items():
        found = of(report, code)
        assert found is not None, code
        assert image_id in [_id_of(case) for case in found.cases], code
    quick = copy.examine()
    for code in ("image-missing", "image-unreadable", "image-size"):
        found = of(quick, code)
        assert found is not None, code
        assert (found.count, found.severity) == (1, ERROR), code


def _id_of(case: Case) -> object:
    """A missing image has no record; its case says which it is in words."""
    return case.image_id or int(case.text.split()[1].strip(":"))


TURNS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda i: i,
    "smaller": lambda i: i.resize((i.width // 2, i.height // 2)),
    "mirrored": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda i: i.transpose(Image.Transpose.ROTATE_90),
}


def test_duplicates_within_and_across_splits(copy_of_coco: Callable[[int], Copy]) -> None:
    copy = copy_of_coco(10)
    copy.path(0, "val").write_bytes(copy.path(0).read_bytes())  # exact, across
    copy.path(1).write_bytes(copy.path(2).read_bytes())  # exact, within
    for number, change in enumerate(TURNS.values(), 3):
        change(Image.open(copy.path(number)).convert("RGB")).save(
            copy.path(number, "val"), quality=60
        )
    mirrored = _pixels(copy.path(8))[:, ::-1]
    Image.fromarray(mirrored).save(copy.path(8, "val").with_suffix(".png"))
    copy.image(8, "val")["file_name"] = copy.path(8, "val").with_suffix(".png").name
    report = copy.examine(quick=False)
    exact, near = of(report, "leak-exact"), of(report, "leak-near")
    within = of(report, "duplicate-exact")
    assert exact is not None
    assert near is not None
    assert within is not None
    assert {case.image_id for case in exact.cases} == {copy.image(n, "val")["id"] for n in (0, 8)}
    assert {case.image_id for case in near.cases} == {
        copy.image(n, "val")["id"] for n in range(3, 3 + len(TURNS))
    }
    assert within.count == 1
    assert any("mirrored" in case.text for case in near.cases)
