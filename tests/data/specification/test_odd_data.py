"""What people really have: names, encodings, missing halves; and what strangers may send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lucidet.data import DatasetCatalog, MetadataCatalog, dataset_names
from lucidet.data.specification import SpecificationError, resolve
from lucidet.data.specification.register import described

from .exports import coco, picture, pictures, voc, voc_xml, yolo_labels
from .test_layouts import cvat_xml
from .test_resolve import check

pytestmark = pytest.mark.usefixtures("forget_specifications")


def read(spec: object, split: str = "train") -> tuple[list[dict], str]:
    """Return the records of everything, and what was reported."""
    (name,) = dataset_names(str(spec), split)
    return DatasetCatalog.get(name), "\n".join(described(name).report.lines())


# ------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["photo one.jpg", "50%.jpg", "a%20b.JPG", "v1.2.jpeg", "Ünïcode 図.png", "x,y.jpg"]
)
@pytest.mark.parametrize("kind", ["voc", "coco", "yolo", "csv", "cvat"])
def test_names_of_images(tmp_path: Path, kind: str, name: str) -> None:
    root = tmp_path / "with, comma @ home"
    picture(root / "images" / name)
    stem = name.rpartition(".")[0]
    if kind == "voc":
        (root / "annotations").mkdir()
        (root / "annotations" / f"{stem}.xml").write_text(voc_xml(0, name), encoding="utf-16")
    elif kind == "yolo":
        (root / "labels").mkdir()
        (root / "labels" / f"{stem}.txt").write_text("0 0.25 0.3125 0.333333 0.375")
        (root / "data.yaml").write_text("train: images\nnames: [cat]\n")
    elif kind == "csv":
        (root / "boxes.csv").write_text(f'filename,class,bbox\n"{name}",cat,"[5, 5, 20, 15]"\n')
    elif kind == "cvat":
        (root / "a.xml").write_text(cvat_xml({"": [0]}).replace("img_0.jpg", name))
    else:
        path = coco(root / "result.json", [0])
        path.write_text(path.read_text().replace("img_0.jpg", name), encoding="utf-8-sig")
    records, report = read(root)
    assert [Path(r["file_name"]).name for r in records] == [name]
    assert len(records[0]["annotations"]) == 1
    assert "left out" not in report


@pytest.mark.parametrize(
    "written",
    ["images\\img_0.jpg", "file:///somewhere/img_0.jpg", "/data/local-files/?d=p/img_0.jpg",
     "http://localhost:8080/data/upload/1/img_0.jpg", "IMG_0.JPG", "img_0.png"],
)  # fmt: skip
def test_names_in_annotations(tmp_path: Path, written: str) -> None:
    picture(tmp_path / "images" / "img_0.jpg")
    path = coco(tmp_path / "result.json", [0])
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = written
    path.write_text(json.dumps(content))
    records, _ = read(tmp_path)
    assert Path(records[0]["file_name"]) == tmp_path / "images" / "img_0.jpg"


@pytest.mark.parametrize("form", ["{}/", "file://{}", "{}/../pets", "voc:{}", "voc:{}:all"])
def test_forms_of_a_path(tmp_path: Path, form: str) -> None:
    pictures(tmp_path / "pets")
    voc(tmp_path / "pets")
    (name,) = dataset_names(form.format(tmp_path / "pets"), "train")
    assert name == "pets"
    check(name, [0, 1, 2, 3, 4])


# ------------------------------------------------------------------- halves that are missing


def test_an_empty_folder(tmp_path):
    with pytest.raises(SpecificationError, match="Found: nothing: the folder is empty"):
        resolve(tmp_path)


def test_labels_without_images(tmp_path):
    voc(tmp_path / "Annotations")
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(SpecificationError, match=r"no images: 5 x images are not in .*JPEGImages"):
        resolve(tmp_path)


def test_images_without_labels_are_negatives_only_where_the_format_says_so(tmp_path):
    pictures(tmp_path / "yolo" / "images")
    yolo_labels(tmp_path / "yolo" / "labels", [0, 1])
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    records, report = read(tmp_path / "yolo")
    assert [len(r["annotations"]) for r in records] == [1, 2, 0, 0, 0]
    assert "images without a label file count as images without objects" in report
    pictures(tmp_path / "voc")
    voc(tmp_path / "voc", [0, 1])
    records, report = read(tmp_path / "voc")
    assert len(records) == 2
    assert "3 x images without an XML file are left out" in report


def test_images_that_are_broken_or_absent_are_counted(tmp_path):
    pictures(tmp_path / "images", [0, 1, 2])
    coco(tmp_path / "all.json")
    records, report = read(tmp_path)
    assert len(records) == 3
    assert "2 x images are not in" in report
    assert "json_file" not in MetadataCatalog.get(str(tmp_path)).as_dict()
    (tmp_path / "images" / "img_2.jpg").write_bytes(b"")
    yolo_labels(tmp_path / "labels", [0, 1, 2, 3])
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    records, report = read(f"yolo:{tmp_path}")
    assert len(records) == 2
    assert "image files can't be read" in report
    assert "1 x label files have no image" in report


def test_data_for_testing_only(tmp_path):
    pictures(tmp_path / "test")
    voc(tmp_path / "test")
    records, _ = read(tmp_path, "test")
    assert len(records) == 5
    with pytest.raises(SpecificationError, match="no split 'train'; it has test, all"):
        resolve(tmp_path)


def test_test_data_serve_for_validation_if_there_are_no_other(tmp_path):
    for split, numbers in (("train", [0, 1, 2]), ("test", [3, 4])):
        pictures(tmp_path / "pets" / split, numbers)
        voc(tmp_path / "pets" / split, numbers)
    names = resolve(tmp_path / "pets")
    assert names == {"train": "pets_train", "val": "pets_test"}


def test_a_class_that_only_validation_has(tmp_path):
    for split, numbers in (("train", [0, 2]), ("valid", [1, 3])):
        pictures(tmp_path / split, numbers)
        voc(tmp_path / split, numbers)
    with pytest.raises(SpecificationError, match=r"boxes of \['dog'\]") as caught:
        resolve(tmp_path)
    assert "['cat', 'dog']" in str(caught.value)
    assert "['cat']" in str(caught.value)


def test_mixed_layouts_are_not_guessed(tmp_path):
    pictures(tmp_path / "images")
    coco(tmp_path / "all.json")
    voc(tmp_path / "annotations")
    with pytest.raises(SpecificationError, match="more than one layout") as caught:
        resolve(tmp_path)
    assert f"voc:{tmp_path}" in str(caught.value)
    check(dataset_names(f"voc:{tmp_path}", "train")[0], [0, 1, 2, 3, 4])


def test_two_files_that_do_not_say_what_they_are_for(tmp_path):
    pictures(tmp_path / "images")
    coco(tmp_path / "monday.json", [0, 1])
    coco(tmp_path / "tuesday.json", [2, 3])
    with pytest.raises(SpecificationError, match=r"2 COCO files.*Name one: coco:.*monday\.json"):
        resolve(tmp_path)
    names = resolve([f"{tmp_path / 'monday.json'}:all", tmp_path / "tuesday.json"])
    assert set(names) == {"train", "val"}


def test_a_file_of_all_beside_train_and_val_is_passed_over(tmp_path):
    pictures(tmp_path / "images")
    for name, numbers in (("train", [0, 1]), ("val", [2, 3]), ("trainval", [0, 1, 2, 3])):
        coco(tmp_path / "annotations" / f"instances_{name}.json", numbers)
    names = resolve(tmp_path)
    check(names["train"], [0, 1])
    check(names["val"], [2, 3])


def test_metadata_of_a_folder_that_is_no_dataset_is_empty(tmp_path, monkeypatch):
    """Programs name metadata before they register data; a folder may have the same name."""
    pictures(tmp_path / "photos", [0])
    monkeypatch.chdir(tmp_path)
    assert MetadataCatalog.get("photos").get("thing_classes") is None
    with pytest.raises(SpecificationError, match="not recognized"):
        DatasetCatalog.get("photos")


def test_kaggle_like_csv_with_one_folder_of_images(tmp_path):
    pictures(tmp_path / "train")
    rows = ["image_id,width,height,bbox,source"]
    rows += [f'img_{n},60,40,"[5.0, 5.0, 20.0, 15.0]",x' for n in (0, 2, 4)]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    records, report = read(tmp_path)
    assert [a["bbox"] for r in records for a in r["annotations"]] == [[5, 5, 25, 20]] * 3
    assert "every box is 'object'" in report


def test_validation_on_training_images_is_said(tmp_path, caplog):
    pictures(tmp_path / "images")
    yolo_labels(tmp_path / "labels")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat, dog]\n")
    names = resolve(tmp_path)
    assert "5 of 5 validation images are trained on too" in caplog.text
    assert "trained on too" in "".join(described(names["val"]).report.notes)


def test_images_of_one_name_in_two_folders_have_two_ids(tmp_path):
    for folder in ("a", "b"):
        pictures(tmp_path / "images" / folder, [0, 1])
        yolo_labels(tmp_path / "labels" / folder, [0, 1])
    (tmp_path / "data.yaml").write_text("train: [images/a, images/b]\nnames: [cat, dog]\n")
    records, _ = read(tmp_path)
    assert [r["image_id"] for r in records] == ["a/img_0", "a/img_1", "b/img_0", "b/img_1"]
    for split in ("train", "valid"):
        pictures(tmp_path / "coco" / split, [0, 1])
        coco(tmp_path / "coco" / split / "_annotations.coco.json", [0, 1])
    (name,) = dataset_names(f"{tmp_path / 'coco'}:all")
    ids = [r["image_id"] for r in DatasetCatalog.get(name)]
    assert ids == ["train/img_0", "train/img_1", "valid/img_0", "valid/img_1"]


def test_train_and_val_files_by_their_names(tmp_path):
    pictures(tmp_path / "images")
    specs = [
        f"{coco(tmp_path / f'{s}.json', n)}@images" for s, n in (("train", [0, 1]), ("val", [2, 3]))
    ]
    names = resolve(specs)
    check(names["train"], [0, 1])
    check(names["val"], [2, 3])


def test_a_folder_within_a_folder_as_archives_leave_it(tmp_path):
    pictures(tmp_path / "download" / "pets")
    voc(tmp_path / "download" / "pets")
    check(dataset_names(str(tmp_path / "download"), "train")[0], [0, 1, 2, 3, 4])


# ------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat]\n", "none of its image folders is there .none named."),
        ("train: nowhere\nnames: [cat]\n", "train: .*nowhere"),
        ("train: images\nnc: 2\nnames: [cat]\n", "nc is 2, but `names` has 1"),
        ("train: images\nnames: {1: cat, 2: dog}\n", r"keys of `names` must be 0\.\.1"),
        ("train: images\nnames: [cat, cat]\n", "a name stands twice"),
        ("train: images\nnames: !!python/object/apply:os.system ['true']\n", "refused|arithmetic"),
        ("train: images\nnames: [cat]\n", "class 1, but there are 1 names"),
    ],
)
def test_yolo_files_that_contradict_themselves(tmp_path, text, message):
    pictures(tmp_path / "images", [0, 1])
    yolo_labels(tmp_path / "labels", [0, 1])
    (tmp_path / "data.yaml").write_text(text)
    if "none named" in message or "nowhere" in text:
        (tmp_path / "labels").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=message):
        resolve(tmp_path, splits=("train",))


def test_label_lines_that_are_no_shares_of_the_image(tmp_path):
    pictures(tmp_path / "images", [0])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "img_0.txt").write_text(
        "0 30 20 10 10\n0 0.5 0.5 0.2 0.2\ncat 0.5 0.5 0.2 0.2\n0 0.5\n0 0.5 0.5 0 0.1\n"
        "0 nan 0.5 0.1 0.1\n"
    )
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    records, report = read(tmp_path)
    assert len(records[0]["annotations"]) == 1
    for reason in ("not shares of the image", "not numbers", "without class and box",
                   "without area"):  # fmt: skip
        assert reason in report


def test_names_that_leave_the_image_folder_are_counted(tmp_path):
    secret = picture(tmp_path / "secret.jpg")
    picture(tmp_path / "data" / "images" / "img_0.jpg")
    for written in (str(secret), "../../secret.jpg", f"file://{secret}", "..\\..\\secret.jpg"):
        rows = ["filename,class,xmin,ymin,xmax,ymax", "img_0.jpg,cat,1,1,9,9"]
        rows += [f"{written},cat,1,1,9,9"]
        path = tmp_path / "data" / "boxes.csv"
        path.write_text("\n".join(rows))
        from lucidet.data.specification import datasets, register

        datasets.forget()
        register._ALIASES.clear()
        records, report = read(f"csv:{path}@images")
        assert [Path(r["file_name"]).name for r in records] == ["img_0.jpg"]
        assert "outside the image folder" in report
        for name in [n for n in DatasetCatalog.list() if n.startswith("data")]:
            DatasetCatalog.remove(name)


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha">]><annotation>&x;</annotation>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(tmp_path, encoding):
    pictures(tmp_path, [0])
    (tmp_path / "img_0.xml").write_text(BOMB, encoding=encoding)
    with pytest.raises(ValueError, match="entities"):
        resolve(tmp_path)


def test_archives_and_unknown_files_say_what_to_do(tmp_path):
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(SpecificationError, match="unpack it"):
        resolve(tmp_path / "pets.zip")
    (tmp_path / "pets.csv").write_text("animal,color\ncat,red\n")
    with pytest.raises(SpecificationError, match=r"columns \['animal', 'color'\].*filename"):
        resolve(tmp_path / "pets.csv")
    (tmp_path / "a.xml").write_text(voc_xml(0, "a.jpg"))
    with pytest.raises(SpecificationError, match=f"name the folder instead: voc:{tmp_path}"):
        resolve(tmp_path / "a.xml")
    video = "<annotations><track label='cat'/></annotations>"
    (tmp_path / "b.xml").write_text(video)
    with pytest.raises(SpecificationError, match="CVAT for images"):
        resolve(tmp_path / "b.xml")


def test_two_categories_of_one_name(tmp_path):
    pictures(tmp_path / "images")
    path = coco(tmp_path / "all.json")
    path.write_text(path.read_text().replace('"name": "dog"', '"name": "cat"'))
    (name,) = dataset_names(str(tmp_path), "train")
    assert MetadataCatalog.get(name).thing_classes == ["cat"]
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get(name)) == 6


def test_a_yolo_file_from_another_machine(tmp_path):
    pictures(tmp_path / "images")
    yolo_labels(tmp_path / "labels")
    (tmp_path / "data.yaml").write_text(
        "path: /content/pets\ntrain: /content/pets/here/train\nnames: [cat, dog]\n"
    )
    records, report = read(tmp_path)
    assert len(records) == 5
    assert "/content/pets/here/train, which is not there" in report


def test_boxes_that_cannot_be_used_are_counted(tmp_path):
    pictures(tmp_path, [0])
    extra = "".join(
        f"<object><name>cat</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in ((30, 5, 10, 20), (200, 5, 210, 20), (0, 0, 10, 10), (50, 5, 99, 20))
    )
    (tmp_path / "img_0.xml").write_text(voc_xml(0, "img_0.jpg", extra))
    records, report = read(tmp_path)
    assert len(records[0]["annotations"]) == 3
    for reason in ("corners swapped", "outside the image", "begin at pixel 0", "clipped"):
        assert reason in report


def test_cvat_shapes(tmp_path):
    pictures(tmp_path / "images", [0])
    shapes = (
        '<box label="cat" xtl="20" ytl="10" xbr="30" ybr="14" rotation="90.0"/>'
        '<polygon label="cat" points="1.0,2.0;11.0,2.0;5.0,9.0"/>'
        '<ellipse label="cat" cx="20" cy="20" rx="5" ry="3"/>'
        '<mask label="cat" rle="1, 2" left="3" top="4" width="5" height="6"/>'
        '<polyline label="cat" points="1,2;3,4"/><box label="cat" xtl="wide"/>'
    )
    text = cvat_xml({"": [4]}).replace("img_4", "img_0").replace("></image>", f">{shapes}</image>")
    (tmp_path / "annotations.xml").write_text(text)
    records, report = read(tmp_path)
    boxes = [[round(v, 3) for v in a["bbox"]] for a in records[0]["annotations"]]
    assert boxes == [[23, 7, 27, 17], [1, 2, 11, 9], [15, 17, 25, 23], [3, 4, 8, 10]]
    assert "<polyline> shapes have no box" in report
    assert "broken numbers" in report


def test_yolo_sizes_are_those_of_the_upright_image(tmp_path):
    """Labels are shares of the picture as it is seen, with its EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "images" / "img_0.jpg", 0, exif=exif)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "img_0.txt").write_text("0 0.5 0.5 1.0 1.0")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    records, _ = read(tmp_path)
    assert (records[0]["width"], records[0]["height"]) == (40, 60)
    assert records[0]["annotations"][0]["bbox"] == [0, 0, 40, 60]
