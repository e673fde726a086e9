"""Every layout that is recognized, written by the tests as labeling tools write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lucidet.data.specification import resolve

from .exports import CLASSES, boxes_of, coco, pictures, size_of, voc, voc_xml, yolo_labels
from .test_resolve import check

pytestmark = pytest.mark.usefixtures("forget_specifications")

TRAIN, VAL = [0, 1, 2], [3, 4]
SPLITS = (("train", TRAIN), ("val", VAL))


def coco_in_images_folder(root: Path) -> None:
    for split, numbers in SPLITS:
        pictures(root / "images" / split, numbers)
        coco(root / "annotations" / f"{split}.json", numbers)


def coco_with_folders_in_names(root: Path) -> None:
    pictures(root / "images")
    for split, numbers in SPLITS:
        coco(root / f"{split}.json", numbers, prefix="images\\\\"[:-1])


def roboflow_coco(root: Path) -> None:
    """With the category that Roboflow adds, and its folder name for validation."""
    for split, numbers in (("train", TRAIN), ("valid", VAL)):
        pictures(root / split, numbers)
        path = coco(root / split / "_annotations.coco.json", numbers)
        content = json.loads(path.read_text())
        for entry in content["categories"]:
            entry["supercategory"] = "pets"
        content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        path.write_text(json.dumps(content))


def roboflow_voc(root: Path) -> None:
    for split, numbers in (("train", TRAIN), ("valid", VAL)):
        pictures(root / split, numbers)
        voc(root / split, numbers)


def roboflow_csv(root: Path) -> None:
    for split, numbers in (("train", TRAIN), ("valid", VAL)):
        pictures(root / split, numbers)
        rows = [f"img_{n}.jpg,{size_of(n)[0]},{size_of(n)[1]},{name},{x1},{y1},{x2},{y2}"
                for n in numbers for name, (x1, y1, x2, y2) in boxes_of(n)]  # fmt: skip
        rows += [f"img_{n}.jpg,{size_of(n)[0]},{size_of(n)[1]},,,,," for n in numbers if n == 4]
        head = "filename,width,height,class,xmin,ymin,xmax,ymax"
        (root / split / "_annotations.csv").write_text("\n".join([head, *rows]))


def roboflow_yolo(root: Path) -> None:
    """Its data.yaml names folders one level too high."""
    for split, numbers in (("train", TRAIN), ("valid", VAL)):
        pictures(root / split / "images", numbers)
        yolo_labels(root / split / "labels", numbers)
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['cat', 'dog']\n\nroboflow:\n  workspace: w\n  license: CC BY 4.0\n"
    )


def yolo_lists(root: Path) -> None:
    for split, numbers in SPLITS:
        pictures(root / "images", numbers)
        yolo_labels(root / "labels", numbers)
        (root / f"{split}.txt").write_text("".join(f"./images/img_{n}.jpg\n" for n in numbers))
    (root / "pets.yaml").write_text("train: [train.txt]\nval: val.txt\nnames:\n  - cat\n  - dog\n")


def yolo_polygons(root: Path) -> None:
    """Segments instead of boxes, absolute path, labels beside the images."""
    for split, numbers in SPLITS:
        pictures(root / split, numbers)
        for n in numbers:
            w, h = size_of(n)
            lines = [
                f"{CLASSES.index(name)} {x1 / w} {y1 / h} {x2 / w} {y1 / h} {x2 / w} {y2 / h} "
                f"{x1 / w} {y2 / h}"
                for name, (x1, y1, x2, y2) in boxes_of(n)
            ]
            (root / split / f"img_{n}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(
        f"path: {root}\ntrain: train\nval: val\nnames: {{0: cat, 1: dog}}\n"
    )


def voc_devkit(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2007"
    pictures(base / "JPEGImages")
    voc(base / "Annotations")
    lists = base / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, numbers in SPLITS:
        (lists / f"{split}.txt").write_text("".join(f"img_{n}\n" for n in numbers))
        (lists / f"cat_{split}.txt").write_text("".join(f"img_{n}  1\n" for n in numbers))


def voc_split_folders(root: Path) -> None:
    for split, numbers in SPLITS:
        pictures(root / "images" / split, numbers, ".png")
        voc(root / "annotations" / split, numbers, ".png")


def csv_with_split_names(root: Path) -> None:
    """COCO-like x, y, w, h; the names of pandas users; a semicolon."""
    pictures(root / "images")
    for split, numbers in SPLITS:
        rows = ["image;label;x;y;width;height"]
        rows += [
            f"img_{n}.jpg;{name};{x1};{y1};{x2 - x1};{y2 - y1}"
            for n in numbers
            for name, (x1, y1, x2, y2) in boxes_of(n)
        ]
        rows += [f"img_{n}.jpg;;;;;" for n in numbers if not boxes_of(n)]
        (root / f"{split}.csv").write_text("\n".join(rows), encoding="utf-8-sig")


def csv_with_split_column(root: Path) -> None:
    """Open Images' column names, shares of the image."""
    pictures(root / "imgs")
    rows = ["ImageID,LabelName,XMin,XMax,YMin,YMax,split"]
    for split, numbers in SPLITS:
        for n in numbers:
            w, h = size_of(n)
            rows += [
                f"img_{n},{name},{x1 / w},{x2 / w},{y1 / h},{y2 / h},{split}"
                for name, (x1, y1, x2, y2) in boxes_of(n)
            ]
            rows += [f"img_{n},,,,,,{split}"] * (not boxes_of(n))
    (root / "boxes.csv").write_text("\n".join(rows))


def keras_retinanet(root: Path) -> None:
    pictures(root / "photos")
    for split, numbers in SPLITS:
        rows = [
            f"photos/img_{n}.jpg,{x1:.0f},{y1:.0f},{x2:.0f},{y2:.0f},{name}"
            for n in numbers
            for name, (x1, y1, x2, y2) in boxes_of(n)
        ]
        rows += [f"photos/img_{n}.jpg,,,,," for n in numbers if not boxes_of(n)]
        (root / f"{split}.csv").write_text("\n".join(rows))
    (root / "classes.csv").write_text("cat,0\ndog,1\n")


def cvat_xml(numbers: dict[str, list[int]]) -> str:
    images = []
    for subset, own in numbers.items():
        for n in own:
            w, h = size_of(n)
            shapes = "".join(
                f'<box label="{name}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" '
                'z_order="0"></box>'
                for name, (x1, y1, x2, y2) in boxes_of(n)
            )
            images.append(
                f'<image id="{n}" name="img_{n}.jpg" subset="{subset}" width="{w}" height="{h}">'
                f"{shapes}</image>"
            )
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        f"<labels>{labels}</labels></task></meta>{''.join(images)}</annotations>"
    )


def cvat_images(root: Path) -> None:
    pictures(root / "images")
    (root / "annotations.xml").write_text(cvat_xml({"Train": TRAIN, "Validation": VAL}))


DIVIDED = [
    coco_in_images_folder, coco_with_folders_in_names, roboflow_coco, roboflow_voc, roboflow_csv,
    roboflow_yolo, yolo_lists, yolo_polygons, voc_devkit, voc_split_folders, csv_with_split_names,
    csv_with_split_column, keras_retinanet, cvat_images,
]  # fmt: skip


@pytest.mark.parametrize("write", DIVIDED, ids=lambda f: f.__name__)
def test_divided_layouts(tmp_path: Path, write: Callable[[Path], None]) -> None:
    root = tmp_path / "data set"
    write(root)
    names = resolve(root)
    assert names == {"train": "data_set_train", "val": "data_set_val"} or write is voc_devkit
    check(names["train"], TRAIN)
    check(names["val"], VAL)


def voc_beside_images(root: Path) -> None:
    pictures(root)
    voc(root)


def voc_flat(root: Path) -> None:
    pictures(root / "images", suffix=".JPEG")
    voc(root / "annotations")


def voc_without_sizes(root: Path) -> None:
    """UTF-16 and UTF-8 with a byte-order mark; other suffixes in <filename>."""
    pictures(root / "JPEGImages", suffix=".png")
    (root / "Annotations").mkdir()
    for n in range(5):
        text = '<?xml version="1.0" encoding="utf-16"?>' * (n % 2) + voc_xml(
            n, f"C:\\photos\\img_{n}.jpg", size=False
        )
        encoding = "utf-16" if n % 2 else "utf-8-sig"
        (root / "Annotations" / f"img_{n}.xml").write_text(text, encoding=encoding)


def label_studio_coco(root: Path) -> None:
    pictures(root / "images")
    coco(root / "result.json", prefix="images/", first_id=0)


def label_studio_yolo(root: Path) -> None:
    pictures(root / "images")
    yolo_labels(root / "labels")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "notes.json").write_text(json.dumps({"categories": [], "info": {}}))


def cvat_coco(root: Path) -> None:
    pictures(root / "images" / "default")
    coco(root / "annotations" / "instances_default.json")


def cvat_yolo(root: Path) -> None:
    pictures(root / "obj_train_data")
    yolo_labels(root / "obj_train_data")
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    (root / "train.txt").write_text("".join(f"data/obj_train_data/img_{n}.jpg\n" for n in range(5)))


def cvat_voc(root: Path) -> None:
    pictures(root / "JPEGImages")
    voc(root / "Annotations")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    names = "".join(f"img_{n}\n" for n in range(5))
    (root / "ImageSets" / "Main" / "default.txt").write_text(names)
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"
    )


def cvat_one_folder(root: Path) -> None:
    pictures(root)
    (root / "annotations.xml").write_text(cvat_xml({"default": [0, 1, 2, 3, 4]}))


WHOLE = [
    voc_beside_images, voc_flat, voc_without_sizes, label_studio_coco, label_studio_yolo,
    cvat_coco, cvat_yolo, cvat_voc, cvat_one_folder,
]  # fmt: skip


@pytest.mark.parametrize("write", WHOLE, ids=lambda f: f.__name__)
def test_layouts_without_splits(tmp_path: Path, write: Callable[[Path], None]) -> None:
    root = tmp_path / "pets"
    write(root)
    (name,) = (resolve(f"{root}:all", splits=["train"])["train"],)
    check(name, [0, 1, 2, 3, 4])
    names = resolve(root)
    assert names == {"train": "pets_train", "val": "pets_val"}
