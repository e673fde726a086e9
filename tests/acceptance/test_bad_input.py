"""Bad input through the command line: one message with file, id and repair; exit code 2."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lucidet.__main__ import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(tiny_config: Path, tmp_path: Path, capfd: Any, monkeypatch: Any) -> Run:
    """Run ``lucidet train`` here; return exit code, error stream and everything printed."""
    monkeypatch.setenv("LUCIDET_DEBUG", "0")

    def run(*words: str, command: str = "train") -> tuple[int, str, str]:
        out = ("OUTPUT_DIR", str(tmp_path / "out"))
        words = ("--config-file", str(tiny_config), "--num-gpus", "0", *words)
        # the training's own messages, behind the quick look (tests/doctor) that stops before it
        first = [command, "--force"] if command == "train" else [command]
        code = main([*first, *words, *(() if "OUTPUT_DIR" in words else out)])
        printed = capfd.readouterr()
        return code, printed.err, printed.out + printed.err

    return run


def missing_image(content: dict[str, Any], folder: Path) -> None:
    (folder / "2.jpg").unlink()


def corrupt_image(content: dict[str, Any], folder: Path) -> None:
    (folder / "2.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture" * 9)


def truncated_image(content: dict[str, Any], folder: Path) -> None:
    data = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(data[: len(data) // 2])


def empty_image(content: dict[str, Any], folder: Path) -> None:
    (folder / "2.jpg").write_bytes(b"")


def folder_for_image(content: dict[str, Any], folder: Path) -> None:
    (folder / "2.jpg").unlink()
    (folder / "2.jpg").mkdir()


def other_size(content: dict[str, Any], folder: Path) -> None:
    content["images"][1]["width"] = 65


def truncated_json(content: dict[str, Any], folder: Path) -> str:
    return json.dumps(content)[:300]


def empty_list(content: dict[str, Any], folder: Path) -> str:
    return "[]"


def empty_file(content: dict[str, Any], folder: Path) -> str:
    return ""


def no_images(content: dict[str, Any], folder: Path) -> None:
    content.update(images=[], annotations=[])


def unknown_category(content: dict[str, Any], folder: Path) -> None:
    content["annotations"][1]["category_id"] = 99


def unknown_image(content: dict[str, Any], folder: Path) -> None:
    content["annotations"][1]["image_id"] = 99


def only_crowds(content: dict[str, Any], folder: Path) -> None:
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def nothing_annotated(content: dict[str, Any], folder: Path) -> None:
    content["annotations"] = []


def no_categories(content: dict[str, Any], folder: Path) -> None:
    content["categories"] = []


def third_category(content: dict[str, Any], folder: Path) -> None:
    content["categories"].append({"id": 6, "name": "bird"})


def same_image_twice(content: dict[str, Any], folder: Path) -> None:
    content["images"][1]["id"] = 1


def images_of_numbers(content: dict[str, Any], folder: Path) -> None:
    content["images"] = [1, 2, 3]


def box_of_text(content: dict[str, Any], folder: Path) -> None:
    for annotation in content["annotations"]:
        annotation["bbox"] = ["left", "top", "right", "bottom"]


FAULTS = [
    (missing_image, r"image_id 2: image file .*2\.jpg does not exist; check"),
    (corrupt_image, r"image_id 2: image file .*2\.jpg .*can't be decoded.*Fetch it again"),
    (truncated_image, r"image_id 2: image file .*2\.jpg .*can't be decoded.*Fetch it again"),
    (empty_image, r"image_id 2: image file .*2\.jpg is empty.*fetch it again"),
    (folder_for_image, r"image_id 2: .*2\.jpg can't be read.*directory.*or remove it"),
    (other_size, r"2\.jpg \(image_id 2\) is 64 x 48.*say 65 x 48.*correct width and height"),
    (truncated_json, r"tiny\.json, line 1.*ends too early.*again"),
    (empty_list, r"tiny\.json is not in COCO's layout: expected .*images.*found list"),
    (empty_file, r"tiny\.json.*(empty|line 1).*again"),
    (no_images, r"'acceptance_tiny' has no images; check"),
    (unknown_category, r"tiny\.json: annotation 12 has category_id 99.*Add it.*or remove"),
    (unknown_image, r"tiny\.json: annotation 12 has image_id 99.*Add it.*or remove"),
    (only_crowds, r"acceptance_tiny.*none of 3 images.*FILTER_EMPTY_ANNOTATIONS False"),
    (nothing_annotated, r"acceptance_tiny.*none of 3 images.*FILTER_EMPTY_ANNOTATIONS False"),
    (no_categories, r"tiny\.json: annotation 11 has category_id 7.*0 categories"),
    (third_category, r"NUM_CLASSES is 2.*3 classes.*set MODEL\.ROI_HEADS\.NUM_CLASSES 3"),
    (same_image_twice, r"tiny\.json: 1 ids of 'images' occur more than once.*\[1\].*number them"),
    (images_of_numbers, r"tiny\.json: images\[0\] must be an object.*found 1"),
    (box_of_text, r"none of 3 images.*nothing is left"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_faults_of_data(fault: Any, message: str, tiny_data: Any, train: Run) -> None:
    tiny_data(fault)
    code, error, printed = train()
    assert code == 2
    assert re.search(message, error, re.DOTALL), error
    assert error.count("lucidet train: error:") == 1
    assert "Traceback" not in printed
    assert "fault of lucidet" not in error


def outside(content: dict[str, Any]) -> None:
    content["annotations"][1]["bbox"] = [100, 5, 20, 30]


def without_area(content: dict[str, Any]) -> None:
    content["annotations"][1]["bbox"] = [5, 5, 0, 30]


def over_the_border(content: dict[str, Any]) -> None:
    content["annotations"][1]["bbox"] = [50, 5, 40, 30]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (outside, r"1 boxes outside the image are left out.*annotation 12 of image 2"),
        (without_area, r"1 boxes without area are left out.*annotation 12 of image 2"),
        (over_the_border, r"1 boxes reach more than a pixel over.*annotation 12 of image 2"),
    ],
)
def test_boxes_that_cannot_be_used_are_named(
    fault: Any, message: str, tiny_data: Any, train: Run
) -> None:
    tiny_data(lambda content, folder: fault(content))
    code, error, printed = train("SOLVER.IMS_PER_BATCH", "2")
    assert code == 0, error
    assert re.search(message, printed)


# --------------------------------------------------------------------------- what must just work


def float_image_ids(content: dict[str, Any], folder: Path) -> None:
    for entry, key in [(i, "id") for i in content["images"]] + [
        (a, "image_id") for a in content["annotations"]
    ]:
        entry[key] = float(entry[key])


def huge_ids(content: dict[str, Any], folder: Path) -> None:
    for image in content["images"]:
        image["id"] += 10**17
    for annotation in content["annotations"]:
        annotation["image_id"] += 10**17


def text_ids(content: dict[str, Any], folder: Path) -> None:
    for image in content["images"]:
        image["id"] = f"image-{image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"image-{annotation['image_id']}"


def image_of_one_pixel(content: dict[str, Any], folder: Path) -> None:
    Image.new("RGB", (1, 1)).save(folder / "2.jpg")
    content["images"][1].update(width=1, height=1)
    content["annotations"][1]["bbox"] = [0, 0, 1, 1]


def _replace(content: dict[str, Any], folder: Path, image: Image.Image, suffix: str) -> None:
    image.save(folder / f"2{suffix}")
    content["images"][1]["file_name"] = f"2{suffix}"


def grey(content: dict[str, Any], folder: Path) -> None:
    _replace(content, folder, Image.new("L", (64, 48), 90), ".jpg")


def sixteen_bit(content: dict[str, Any], folder: Path) -> None:
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20
    _replace(content, folder, Image.fromarray(pixels), ".png")


def transparent(content: dict[str, Any], folder: Path) -> None:
    _replace(content, folder, Image.new("RGBA", (64, 48), (9, 9, 9, 100)), ".png")


def animated(content: dict[str, Any], folder: Path) -> None:
    frames = [Image.new("P", (64, 48), colour) for colour in (1, 2)]
    frames[0].save(folder / "2.gif", save_all=True, append_images=frames[1:])
    content["images"][1]["file_name"] = "2.gif"


def turned(content: dict[str, Any], folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(folder / "2.jpg", exif=exif)  # 64 x 48 when upright


def no_annotation_ids(content: dict[str, Any], folder: Path) -> None:
    for annotation in content["annotations"]:
        del annotation["id"]


def absolute_names(content: dict[str, Any], folder: Path) -> None:
    for image in content["images"]:
        image["file_name"] = str(folder / image["file_name"])


ODD = [
    float_image_ids,
    huge_ids,
    text_ids,
    image_of_one_pixel,
    grey,
    sixteen_bit,
    transparent,
    animated,
    turned,
    no_annotation_ids,
    absolute_names,
]


@pytest.mark.parametrize("change", ODD, ids=lambda f: f.__name__)
def test_odd_data_trains_and_evaluates(change: Any, tiny_data: Any, train: Run) -> None:
    tiny_data(change)
    code, error, printed = train("DATASETS.TEST", "('acceptance_tiny',)")
    assert code == 0, error
    assert "copypaste: AP,AP50,AP75,APs,APm,APl" in printed


def test_folders_with_spaces_and_other_letters(tiny_data: Any, train: Run, tmp_path: Path) -> None:
    tiny_data(name="Bilder für 検出 & co")
    out = tmp_path / "Läufe 1"
    code, error, _ = train("OUTPUT_DIR", str(out))
    assert code == 0, error
    assert (out / "model_final.pth").is_file()


# ------------------------------------------------------------------------- weights, folder, loss


def test_weights_of_another_architecture(tiny_data: Any, train: Run, tmp_path: Path) -> None:
    tiny_data()
    weights = tmp_path / "other.pth"
    torch.save({"model": {"encoder.layer.weight": torch.zeros(3, 3)}}, weights)
    code, error, printed = train("MODEL.WEIGHTS", str(weights))
    assert code == 2
    assert re.search(r"other\.pth.*another architecture.*Use the config", error, re.DOTALL), error
    assert "Traceback" not in printed


def test_weights_that_are_no_weights(tiny_data: Any, train: Run, tmp_path: Path) -> None:
    tiny_data()
    weights = tmp_path / "other.pth"
    weights.write_text("<html>not found</html>")
    code, error, printed = train("MODEL.WEIGHTS", str(weights))
    assert code == 2
    assert "other.pth" in error
    assert "fault of lucidet" not in error
    assert "Traceback" not in printed


def test_weights_that_are_not_there(tiny_data: Any, train: Run) -> None:
    tiny_data()
    for name in ("nowhere/R-50.pkl", "detectron2://ImageNetPretrained/MSRA/R-50-none.pkl"):
        code, error, _ = train("MODEL.WEIGHTS", name)
        assert code == 2
        assert name.rpartition("/")[2] in error
        assert 'MODEL.WEIGHTS "" trains from scratch' in error, error


def test_output_folder_that_is_a_file(tiny_data: Any, train: Run, tmp_path: Path) -> None:
    tiny_data()
    (tmp_path / "file").write_text("kept")
    code, error, _ = train("OUTPUT_DIR", str(tmp_path / "file" / "below"))
    assert code == 2
    assert re.search(r"OUTPUT_DIR.*file.*set OUTPUT_DIR to a folder", error)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_without_rights(tiny_data: Any, train: Run, tmp_path: Path) -> None:
    tiny_data()
    (tmp_path / "closed").mkdir(mode=0o500)
    code, error, _ = train("OUTPUT_DIR", str(tmp_path / "closed" / "out"))
    assert code == 2
    assert re.search(r"OUTPUT_DIR.*cannot be written", error)


def test_a_loss_that_is_not_finite(tiny_data: Any, train: Run, tmp_path: Path) -> None:
    tiny_data()
    code, error, printed = train(
        *("SOLVER.MAX_ITER", "20", "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "1e30")
    )
    assert code == 2
    found = re.search(r"(loss_\w+) is (nan|inf) at iteration (\d+)", error)
    assert found, error
    assert "SOLVER.BASE_LR" in error
    assert re.search(r"[123]\.jpg", error)
    assert "Traceback" not in printed
    saved = tmp_path / "out" / f"bad_step_iter{found[3]}"
    assert str(saved) in error
    # one batch, as nothing is accumulated
    (batch,) = torch.load(saved / "step.pth", weights_only=True)["batches"]
    assert [Path(record["file_name"]).name for record in batch] == re.findall(r"\d\.jpg", error)
    assert not (tmp_path / "out" / "model_final.pth").exists()
    assert main(["replay", str(saved)]) == 0  # the same bits


# ------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SOLVER.BASE_LRR", "1"), r"SOLVER\.BASE_LRR.*SOLVER\.BASE_LR"),
        (("SOLVER.MAX_ITER",), r"pairs KEY VALUE"),
        (("DATASETS.TRAIN", "('acceptance_tinny',)"), r"acceptance_tinny.*acceptance_tiny"),
        (("MODEL.META_ARCHITECTURE", "RetinaNett"), r"RetinaNett.*RetinaNet"),
        (("MODEL.LOAD_PROPOSALS", "True"), r"MODEL\.LOAD_PROPOSALS"),
        (("SOLVER.IMS_PER_BATCH", "0"), r"IMS_PER_BATCH"),
        (("SOLVER.OPTIMIZER", "ADAM"), r"SOLVER\.OPTIMIZER.*ADAMW"),
        (("MODEL.RESNETS.DEPTH", "51"), r"51.*DEPTH.*50"),
        (("MODEL.DEVICE", "gpu"), r"MODEL\.DEVICE.*gpu.*cuda"),
    ],
)
def test_faults_of_arguments(words: Any, message: str, tiny_data: Any, train: Run) -> None:
    tiny_data()
    code, error, printed = train(*words)
    assert code == 2
    assert re.search(message, error, re.DOTALL), error
    assert "Traceback" not in printed
    assert "fault of lucidet" not in error
