from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lucidet.config import get_cfg
from lucidet.data import DatasetMapper, detection_utils
from lucidet.data import transforms as T
from lucidet.structures import BoxMode
from lucidet.utils.probe import watching
from tests.data.conftest import save_image


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "x.png"
    save_image(path, 40, 60)

    def anno(bbox, category, **more):
        return {"bbox": bbox, "bbox_mode": BoxMode.XYWH_ABS, "category_id": category, **more}

    return {
        "file_name": str(path),
        "image_id": 5,
        "height": 40,
        "width": 60,
        "annotations": [
            anno([10, 10, 20, 10], 1),
            anno([0, 0, 5, 5], 0, iscrowd=1),
            anno([50, 30, 20, 20], 2),  # reaches over the border
        ],
    }


def test_training(record):
    augmentations = [T.ResizeTransform(40, 60, 80, 120), T.HFlipTransform(120)]
    mapper = DatasetMapper(True, augmentations=augmentations, image_format="BGR")
    before = copy.deepcopy(record)
    out = mapper(record)
    assert record == before
    assert out["image"].shape == (3, 80, 120)
    assert out["image"].dtype == torch.uint8
    assert out["image"].is_contiguous()
    assert out["instances"].gt_boxes.tensor.tolist() == [[60, 20, 100, 40], [0, 60, 20, 80]]
    assert out["instances"].gt_classes.tolist() == [1, 2]
    assert out["instances"].image_size == (80, 120)
    assert (out["height"], out["width"], out["image_id"]) == (40, 60, 5)
    assert "annotations" not in out


def test_colour_order_and_test_time(record):
    rgb = DatasetMapper(False, augmentations=[], image_format="RGB")(record)
    bgr = DatasetMapper(False, augmentations=[], image_format="BGR")(record)
    assert torch.equal(rgb["image"], bgr["image"].flip(0))
    assert "instances" not in rgb
    assert "annotations" not in rgb
    grey = DatasetMapper(False, augmentations=[], image_format="L")(record)
    assert grey["image"].shape == (1, 40, 60)
    yuv = DatasetMapper(False, augmentations=[], image_format="YUV-BT.601")(record)
    assert yuv["image"].dtype == torch.float32


def test_objects_that_a_crop_removes(record):
    mapper = DatasetMapper(True, augmentations=[T.CropTransform(0, 0, 40, 30)], image_format="BGR")
    assert mapper(record)["instances"].gt_classes.tolist() == [1]
    mapper = DatasetMapper(True, augmentations=[T.CropTransform(0, 0, 5, 5)], image_format="BGR")
    none = mapper(record)["instances"]
    assert len(none) == 0
    assert none.gt_boxes.tensor.shape == (0, 4)


def test_no_annotations(record):
    mapper = DatasetMapper(True, augmentations=[], image_format="BGR")
    assert len(mapper({**record, "annotations": []})["instances"]) == 0
    del record["annotations"]
    assert "instances" not in mapper(record)


def test_from_config(record):
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.MIN_SIZE_TRAIN = (32,)
    mapper = DatasetMapper(cfg, True)
    assert isinstance(mapper.augmentations.augs[0], T.RandomCrop)
    np.random.seed(0)
    assert min(mapper(record)["image"].shape[1:]) == 32
    assert len(DatasetMapper(cfg, is_train=False).augmentations.augs) == 1


def test_options_that_do_not_fit_are_named():
    for options, message in (
        ({"precomputed_proposal_topk": 5}, "leave precomputed_proposal_topk"),
        ({"recompute_boxes": True}, "recompute_boxes needs use_instance_mask"),
        ({"instance_mask_format": "rle"}, "INPUT.MASK_FORMAT must be one of .* got 'rle'"),
    ):
        with pytest.raises(ValueError, match=message):
            DatasetMapper(True, augmentations=[], image_format="BGR", **options)


def test_missing_broken_and_other_images_are_named(record, tmp_path):
    mapper = DatasetMapper(True, augmentations=[], image_format="BGR")
    with pytest.raises(FileNotFoundError, match=r"image_id 5: image file .*nowhere.jpg.*not exist"):
        mapper({**record, "file_name": str(tmp_path / "nowhere.jpg")})
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"image_id 5: image file .*bad.jpg.*3 bytes.*Fetch"):
        mapper({**record, "file_name": str(tmp_path / "bad.jpg")})
    with pytest.raises(detection_utils.SizeMismatchError, match=r"image_id 5.*60 x 40.*61 x 40"):
        mapper({**record, "width": 61})


def test_what_is_shown(record):
    seen = []
    mapper = DatasetMapper(True, augmentations=[T.HFlipTransform(60)], image_format="BGR")
    with watching(lambda name, values: seen.append((name, values))):
        mapper(record)
    assert [name for name, _ in seen] == ["input.read", "input.transform"]
    assert seen[0][1]["record"] is record
    assert seen[0][1]["image"].shape == (40, 60, 3)
    np.testing.assert_allclose(seen[1][1]["boxes"][0], [30, 10, 50, 20])


def test_a_real_image_keeps_its_boxes(datasets_dir, monkeypatch):
    from lucidet.data import DatasetCatalog

    monkeypatch.setenv("LUCIDET_DATASETS", str(datasets_dir))
    mapper = DatasetMapper(get_cfg(), True)
    for record in DatasetCatalog.get("coco_2017_val")[:3]:
        out = mapper(record)
        objects = [a for a in record["annotations"] if not a["iscrowd"]]
        assert len(out["instances"]) == len(objects)
        scale = out["image"].shape[2] / record["width"]
        widths = out["instances"].gt_boxes.tensor[:, 2] - out["instances"].gt_boxes.tensor[:, 0]
        expected = torch.tensor([a["bbox"][2] * scale for a in objects])
        torch.testing.assert_close(widths, expected, atol=1.0, rtol=0)
