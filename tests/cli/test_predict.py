from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lucidet.cli.main import main
from lucidet.cli.prediction import Thresholds, Writer
from lucidet.data import Metadata
from lucidet.data.segmentation import rle_to_bitmask
from lucidet.structures import Boxes, Instances


def predict(tiny, out: Path, *words: str) -> int:
    config = ["--config-file", str(tiny.config), "--weights", str(tiny.weights)]
    return main(["predict", *config, "--out", str(out), *words])


def records(out: Path) -> list[dict]:
    return json.loads((out / "predictions.json").read_text())


def test_a_folder_becomes_pictures_and_a_list(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(tiny, out, str(tiny.images), "--score-threshold", "0", "--batch-size", "2") == 0
    for name in ("a.jpg", "b.png"):  # 64 x 48 pixels, enlarged so that labels can be read
        assert Image.open(out / name).size == (512, 384)
    found = records(out)
    assert {r["file_name"] for r in found} == {str(tiny.images / n) for n in ("a.jpg", "b.png")}
    assert set(found[0]) == {
        "file_name", "image_id", "category_id", "category", "bbox", "score",
    }  # fmt: skip
    for r in found:
        x, y, w, h = r["bbox"]
        assert min(x, y) >= 0
        assert x + w <= 64.01
        assert y + h <= 48.01
    assert f"{len(found)} detections in 2 images" in capsys.readouterr().out


def test_no_detections_name_the_threshold(tiny, tmp_path, capsys):
    assert predict(tiny, tmp_path, str(tiny.images), "--score-threshold", "1") == 0
    printed = capsys.readouterr().out
    assert "0 detections in 2 images" in printed
    assert "No score reaches 1: " in printed


def test_one_at_a_time_gives_the_same(tiny, tmp_path):
    for n in ("1", "2"):
        words = (str(tiny.images), "--score-threshold", "0", "--batch-size", n, "--no-pictures")
        assert predict(tiny, tmp_path / n, *words) == 0
        assert not list((tmp_path / n).glob("*.png"))
    one, two = records(tmp_path / "1"), records(tmp_path / "2")
    assert [r["category_id"] for r in one] == [r["category_id"] for r in two]
    for a, b in zip(one, two, strict=True):
        assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-2)


def test_overrides_after_the_images(tiny, tmp_path):
    images = str(tiny.images)
    words = (images, "--score-threshold", "0", "TEST.DETECTIONS_PER_IMAGE", "1")
    assert predict(tiny, tmp_path, *words) == 0
    assert len(records(tmp_path)) == 2
    assert predict(tiny, tmp_path, images, "--opts", "MODEL.WEIGHT", "1") == 2


def test_an_unreadable_image_is_named_and_the_others_are_done(tiny, tmp_path, capsys):
    images = tmp_path / "in"
    shutil.copytree(tiny.images, images)
    (images / "broken.jpg").write_bytes((images / "a.jpg").read_bytes()[:200])
    (images / "empty.png").write_bytes(b"")
    assert predict(tiny, tmp_path / "out", str(images), "nowhere.jpg") == 1
    text = capsys.readouterr().err
    for name in ("broken.jpg", "empty.png", "nowhere.jpg"):
        assert name in text
    assert "Traceback" not in text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.jpg", "b.png", "predictions.json"}


def test_a_video_that_cannot_be_read_says_why(tiny, tmp_path, capsys):
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    assert predict(tiny, tmp_path / "out", str(tmp_path / "clip.mp4")) == 1
    text = capsys.readouterr().err
    assert "clip.mp4" in text
    assert "imageio[ffmpeg]" in text or "not a video" in text


def test_every_frame_of_a_video(tiny, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    import imageio.v2 as imageio

    with imageio.get_writer(tmp_path / "clip.mp4", fps=5, macro_block_size=2) as clip:
        for i in range(3):
            clip.append_data(np.full((48, 64, 3), 60 * i, np.uint8))
    words = (str(tmp_path / "clip.mp4"), "--score-threshold", "0", "--batch-size", "2")
    assert predict(tiny, tmp_path / "out", *words) == 0
    assert len(imageio.mimread(tmp_path / "out" / "clip.mp4")) == 3
    assert {r["frame"] for r in records(tmp_path / "out")} == {0, 1, 2}


def test_only_missing_inputs(tiny, tmp_path, capsys):
    assert predict(tiny, tmp_path, "nowhere.jpg") == 1
    assert capsys.readouterr().err == "lucidet predict: nowhere.jpg: no such file or folder\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to predict on"),
        (["x.jpg", "--score-threshold", "2"], "--score-threshold must lie between 0 and 1, got 2"),
        (["x.jpg", "--batch-size", "-1"], "--batch-size must lie between"),
        (["IMAGES", "--weights", ""], "no weights to predict with"),
        (["IMAGES", "--class-thresholds", "cow"], "needs NAME=NUMBER in 0..1, got 'cow'"),
    ],
)
def test_wrong_arguments(tiny, tmp_path, capsys, words, message):
    words = [str(tiny.images) if w == "IMAGES" else w for w in words]
    assert predict(tiny, tmp_path, *words) == 2
    assert message in capsys.readouterr().err


def make_instances() -> Instances:
    instances = Instances((10, 10))
    instances.pred_boxes = Boxes(torch.zeros(4, 4))
    instances.scores = torch.tensor([0.4, 0.6, 0.4, 0.6])
    instances.pred_classes = torch.tensor([0, 0, 1, 1])
    return instances


@pytest.mark.parametrize(
    ("default", "by_class", "kept", "lowest"),
    [
        (0.5, "", [1, 3], 0.5),
        (0.5, "dog=0.3", [1, 2, 3], 0.3),
        (0.0, "cat = 0.7, dog=0.6,", [3], 0.0),
        (1.0, "", [], 1.0),
    ],
)
def test_thresholds(default, by_class, kept, lowest):
    metadata = Metadata(name="pets", thing_classes=["cat", "dog"])
    thresholds = Thresholds(default, by_class, metadata)
    instances = make_instances()
    instances.number = torch.arange(4)
    assert thresholds.keep(instances).number.tolist() == kept
    assert len(thresholds.keep(instances[:0])) == 0
    assert thresholds.lowest == lowest


@pytest.mark.parametrize(
    ("by_class", "message"),
    [
        ("dgo=0.3", r"no class 'dgo'; did you mean 'dog'\? The model's classes: cat, dog$"),
        ("zebra=0.3", r"no class 'zebra'; The model's classes: cat, dog$"),
        ("dog=x", "needs NAME=NUMBER"),
        ("dog=1.2", "needs NAME=NUMBER"),
        ("=0.5", "needs NAME=NUMBER"),
    ],
)
def test_wrong_class_thresholds(by_class, message):
    with pytest.raises(ValueError, match=message):
        Thresholds(0.5, by_class, Metadata(name="pets", thing_classes=["cat", "dog"]))


def test_masks_and_keypoints_are_written_and_drawn(tmp_path):
    found = make_instances()[:1]
    found.pred_masks = torch.zeros(1, 20, 30, dtype=torch.bool)
    found.pred_masks[0, 5:15, 5:25] = True
    found.pred_keypoints = torch.tensor([[[7.5, 8.5, 0.9]]])
    metadata = Metadata(name="drawn", thing_classes=["cat", "dog"])
    writer = Writer(tmp_path, metadata, Thresholds(0.0, "", metadata), pictures=True)
    writer.add_records(found, "a.jpg")
    writer.finish()
    (record,) = records(tmp_path)
    assert rle_to_bitmask(record["segmentation"], 20, 30).sum() == 200
    assert record["keypoints"] == pytest.approx([7, 8, 0.9])
    picture = writer.draw(np.zeros((20, 30, 3), dtype=np.uint8), found).get_image()
    scale = picture.shape[0] // 20
    assert picture[12 * scale, 20 * scale].any()  # the mask
    assert picture[8 * scale + scale // 2, 7 * scale + scale // 2].tolist() == [255, 0, 0]
