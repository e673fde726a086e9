"""Synthetic files in each foreign format load completely, into the right places."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from lucidet.checkpoint import DetectionCheckpointer, load_weights
from lucidet.checkpoint.formats import rename_weights
from lucidet.checkpoint.reading import load_weights_file
from tests.checkpoint.foreign import (
    ATSS,
    FPN,
    MASKS_AND_KEYPOINTS,
    RETINANET,
    build,
    caffe2,
    maskrcnn_benchmark,
    small_config,
)

DCN = [
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]),
    *("MODEL.RESNETS.DEFORM_MODULATED", True, "MODEL.ATSS.USE_DCN_IN_TOWER", True),
]


def write_pickle(path: Path, weights: dict[str, Tensor], protocol: int = 2, **more: Any) -> None:
    arrays = {name: value.numpy() for name, value in weights.items()}
    path.write_bytes(pickle.dumps({"model": arrays, **more} if more else arrays, protocol))


def assert_same(model: nn.Module, source: nn.Module, but: str = "no name") -> None:
    expected = source.state_dict()
    for name, value in model.state_dict().items():
        if but not in name:
            assert torch.equal(value, expected[name]), name


def load(model: nn.Module, path: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Load a file; return what was said. Nothing may be missing or left over."""
    caplog.clear()
    logging.getLogger("lucidet").propagate = True
    with caplog.at_level(logging.INFO, logger="lucidet.checkpoint"):
        DetectionCheckpointer(model).load(str(path))
    assert not [r for r in caplog.records if r.levelno > logging.INFO], caplog.text
    return caplog.text


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_detectron2_pickle(tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: int) -> None:
    source = build(*FPN)
    extra = {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    extra["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    path = tmp_path / "model_final.pkl"
    write_pickle(path, source.state_dict() | extra, protocol, __author__="Detectron2 Model Zoo")
    model = build_from(*FPN)
    text = load(model, path, caplog)
    assert "missing" in text
    assert "computed from the config: pixel_mean, pixel_std" in text
    assert_same(model, source)


def build_from(*overrides: object) -> nn.Module:
    from lucidet.modeling import build_model

    return build_model(small_config(*overrides))


def test_detectron2_pth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = build(*RETINANET)
    data = {"model": source.state_dict(), "optimizer": {"state": {}}, "iteration": 89999}
    torch.save(data, tmp_path / "a.pth")
    model = build_from(*RETINANET)
    load(model, tmp_path / "a.pth", caplog)
    assert_same(model, source)


C4 = ["MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 4]
MASKS_C4 = [*C4, "MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8]
TWO_STAGE = {
    "fpn": FPN,
    "c4": C4,
    "masks": [*FPN, *MASKS_AND_KEYPOINTS],
    "masks c4": MASKS_C4,
}


@pytest.mark.parametrize("kind", [*TWO_STAGE, "retinanet"])
def test_caffe2_detectors(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    overrides = {**TWO_STAGE, "retinanet": RETINANET}[kind]
    source = build(*overrides)
    blobs = caffe2(source.state_dict())
    blobs |= {"conv1_w_momentum": torch.zeros(1), "lr": torch.zeros(1)}
    if kind == "masks":  # fixed weights that enlarge the heat maps
        blobs |= {"kps_score_w": torch.zeros(17, 17, 4, 4), "kps_score_b": torch.zeros(17)}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"blobs": {k: v.numpy() for k, v in blobs.items()}}, 2))
    model = build_from(*overrides)
    text = load(model, path, caplog)
    assert "Caffe2" in text
    assert_same(model, source, but="running_")
    assert model.state_dict()[_name(model, "stem.conv1.norm.running_mean")].abs().max() == 0
    assert model.state_dict()[_name(model, "stem.conv1.norm.running_var")].min() == 1


def _name(model: nn.Module, end: str) -> str:
    return next(name for name in model.state_dict() if name.endswith(end))


@pytest.mark.parametrize(
    ("depth", "groups", "width"), [(50, 1, 4), (101, 1, 4), (101, 32, 1)], ids=["50", "101", "X"]
)
def test_msra_backbones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, depth: int, groups: int, width: int
) -> None:
    """R-50.pkl, R-101.pkl and X-101-32x8d.pkl: a backbone, folded norms, a classifier."""
    overrides = [
        *FPN,
        *("MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.NUM_GROUPS", groups),
        *("MODEL.RESNETS.WIDTH_PER_GROUP", width),
    ]
    source = build(*overrides)
    state = {n: v for n, v in source.state_dict().items() if ".bottom_up." in n}
    blobs = caffe2(state) | {"fc1000_w": torch.zeros(10, 4), "fc1000_b": torch.zeros(10)}
    blobs["conv1_b"] = torch.zeros(8)  # in some of these files, in front of the norm
    write_pickle(tmp_path / "R.pkl", blobs)
    model = build_from(*overrides)
    text = load(model, tmp_path / "R.pkl", caplog)
    assert "the file is a backbone" in text
    assert "classifier of images: fc1000_w, fc1000_b" in text
    loaded = model.state_dict()
    for name, value in state.items():
        assert "running_" in name or torch.equal(loaded[name], value), name


def test_c4_takes_res5_from_a_backbone() -> None:
    source = build(*C4)
    state = source.state_dict()
    backbone = {n: v for n, v in state.items() if "stem" in n or ".res" in n}
    model = build_from(*C4)
    report = load_weights(model, caffe2(backbone))
    assert not report.unexpected_keys
    assert "roi_heads.res5.0.conv1.weight" in report.loaded
    assert report.backbone_only


@pytest.mark.parametrize("kind", ["atss", "atss-dcn", "retinanet", *TWO_STAGE])
def test_maskrcnn_benchmark(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    overrides = {
        "atss": ATSS,
        "atss-dcn": [*ATSS, *DCN],
        "retinanet": RETINANET,
        **TWO_STAGE,
    }[kind]
    source = build(*overrides)
    data = {"model": maskrcnn_benchmark(source.state_dict()), "iteration": 9}
    data["model"]["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(1, 4)
    if kind == "masks c4":  # the mask's feature extractor is the box's: its tensors come twice
        box, mask = "module.roi_heads.box.feature_extractor.", "module.roi_heads.mask."
        again = {n: v for n, v in data["model"].items() if n.startswith(box)}
        for name, value in again.items():
            data["model"][f"{mask}feature_extractor.{name.removeprefix(box)}"] = value
    torch.save(data, tmp_path / "model.pth")
    model = build_from(*overrides)
    text = load(model, tmp_path / "model.pth", caplog)
    assert "maskrcnn-benchmark or ATSS" in text
    assert_same(model, source)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_torchvision_classifiers(name: str) -> None:
    weights = getattr(torchvision.models, name)(weights=None, num_classes=3).state_dict()
    overrides: list[object] = [*FPN, "MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
    overrides += ["MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0]
    if name == "resnet18":
        overrides += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    else:
        groups, width = (32, 4) if "next" in name else (1, 64)
        overrides += ["MODEL.RESNETS.NUM_GROUPS", groups, "MODEL.RESNETS.WIDTH_PER_GROUP", width]
        overrides += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 256]
    model = build_from(*overrides)
    report = load_weights(model, weights)
    assert report.backbone_only
    assert report.expected
    assert set(report.origin.unused) == {"fc.weight", "fc.bias"}
    own = model.backbone.bottom_up.eval()
    image = torch.rand(1, 3, 64, 64)
    reference = getattr(torchvision.models, name)(weights=None, num_classes=3).eval()
    reference.load_state_dict(weights)
    if name == "resnet18":  # strides of bottlenecks are a config key, tested with the detectors
        expected = nn.Sequential(*list(reference.children())[:-2])(image)
        torch.testing.assert_close(own(image)["res5"], expected)


def test_mobilenet_classifier() -> None:
    weights = torchvision.models.mobilenet_v3_large(weights=None, num_classes=2).state_dict()
    model = build_from(
        *FPN,
        *("MODEL.BACKBONE.NAME", "build_mobilenet_fpn_backbone"),
        *("MODEL.FPN.IN_FEATURES", ["c4", "c5"], "MODEL.FPN.LEVELS", [4, 5]),
        *("MODEL.RPN.IN_FEATURES", ["p4", "p5", "p6"], "MODEL.ROI_HEADS.IN_FEATURES", ["p4"]),
        *("MODEL.ANCHOR_GENERATOR.SIZES", [[32]]),
    )
    report = load_weights(model, weights)
    assert report.expected
    assert report.backbone_only


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_lite0"])
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    weights = timm.create_model(name, num_classes=3).state_dict()
    model = build_from(
        *FPN,
        *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name),
    )
    report = load_weights(model, weights)
    assert report.expected, report.table()
    assert report.backbone_only
    assert all("backbone.bottom_up.body" in n for n in report.loaded)


def test_heuristic_names_of_detectron2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its conversion of torchvision's R-50: names without what precedes ``stem`` and ``res2``."""
    source = build(*FPN)
    prefix = "backbone.bottom_up."
    state = source.state_dict()
    weights = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    write_pickle(tmp_path / "R-50.pkl", weights, __author__="torchvision", matching_heuristics=True)
    model = build_from(*FPN)
    load(model, tmp_path / "R-50.pkl", caplog)
    for name in weights:
        assert torch.equal(model.state_dict()[prefix + name], weights[name])


# ------------------------------------------------------------------------------------- verdicts


def test_other_classes_reinitialise_the_predictors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = build(*FPN, "MODEL.ROI_HEADS.NUM_CLASSES", 80)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    model = build_from(*FPN, "MODEL.ROI_HEADS.NUM_CLASSES", 3)
    before = model.state_dict()["roi_heads.box_predictor.cls_score.weight"].clone()
    text = load(model, tmp_path / "a.pth", caplog)
    assert "re-initialised as expected, the number of classes goes 80 -> 3" in text
    rows = [line.split("|") for line in text.splitlines() if "| roi_heads.box_predictor" in line]
    assert [cell.strip() for cell in rows[0][2:6]] == ["0", "4", "0", "0"]
    after = model.state_dict()["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(before, after)


def test_another_backbone_stops(tmp_path: Path) -> None:
    torch.save(build(*FPN).state_dict(), tmp_path / "a.pth")
    model = build_from(*FPN, "MODEL.RESNETS.DEPTH", 101)
    with pytest.raises(ValueError, match=r"another architecture.*nearest in the file: backbone"):
        DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))


def test_nothing_to_load() -> None:
    with pytest.raises(ValueError, match="holds no weights"):
        load_weights(build_from(*FPN), {})


def test_names_of_a_format_that_nobody_knows() -> None:
    renamed = rename_weights({"encoder.weight": torch.zeros(1)})
    assert renamed.anywhere
    assert list(renamed.weights) == ["encoder.weight"]


def test_anchors_of_several_sizes_change_places() -> None:
    """Ratio by ratio there, size by size here: 5 sizes x 3 ratios."""
    rows = torch.arange(15.0)[:, None, None, None]
    weights = {
        "rpn.head.cls_logits.weight": rows,
        "rpn.head.bbox_pred.weight": rows.repeat_interleave(4, 0),
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(3, 1),
    }
    new = rename_weights(weights).weights
    logits = new["proposal_generator.rpn_head.objectness_logits.weight"].flatten()
    assert logits.tolist()[:6] == [0, 5, 10, 1, 6, 11]
    deltas = new["proposal_generator.rpn_head.anchor_deltas.weight"].flatten()
    assert np.array_equal(deltas.reshape(15, 4)[:, 0], logits)


@pytest.mark.parametrize(
    "value",
    [np.float64(37.5), np.int64(3), np.float32(1.5), np.bool_(True), np.arange(3.0)],
    ids=lambda v: type(v).__name__,
)
def test_pth_with_numbers_of_numpy(tmp_path, value):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": torch.ones(2)}, "best": value, "more": [value]}, path)
    content = load_weights_file(path)
    assert torch.equal(content["model"]["a"], torch.ones(2))
    np.testing.assert_array_equal(content["best"], value)
    np.testing.assert_array_equal(content["more"][0], value)


@pytest.mark.parametrize("value", [np.array([print]), np.array(["a"]), np.datetime64("2020-01-01")])
def test_pth_with_arrays_of_no_numbers_is_refused(tmp_path, value):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": torch.ones(2)}, "best": value}, path)
    with pytest.raises(ValueError, match=r"weights.pth"):
        load_weights_file(path)
