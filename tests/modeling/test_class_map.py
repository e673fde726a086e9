"""MODEL.CLASS_MAP: detections in the data set's classes, objects to train in the model's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lucidet.modeling import META_ARCH_REGISTRY, build_model
from lucidet.modeling.meta_arch.class_map import checked_class_map, inverse_class_map
from lucidet.modeling.optimize import OptimizedModel
from lucidet.structures import Instances
from lucidet.utils.probe import watching
from tests.modeling.tiny import (
    ATSS,
    FCOS,
    FPN,
    PROPOSALS,
    RETINANET,
    record,
    tiny_config,
    tiny_model,
)

SIZE = (64, 96)
NAMES = ["rcnn", "retinanet", "atss", "fcos"]
#: class 1 of the model is none of the data set's; the others change places
CLASS_MAP = [1, -1, 0]
THRESHOLDS = [
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    ("MODEL.ATSS.SCORE_THRESH_TEST", 0.0),
    ("MODEL.FCOS.SCORE_THRESH_TEST", 0.0),
]


@pytest.mark.parametrize(
    ("class_map", "inverse"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([-1, 1, 0], [2, 1]),
        ([0, 0, 1], None),  # two of the model's classes for one
        ([0, 2, -1], None),  # nothing for class 1
        ([-1, -1, -1], None),
    ],
)
def test_inverse(class_map: list[int], inverse: list[int] | None) -> None:
    found = inverse_class_map(checked_class_map(class_map, 3))
    assert (None if found is None else found.tolist()) == inverse


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ([0, 1], r"MODEL\.CLASS_MAP has 2 entries, but the model has 3 classes.*CLASS_MAP \[\]"),
        ([0, 1, 2, 3], r"has 4 entries, but the model has 3"),
        ([0, -2, 1], r"CLASS_MAP\[1\] is -2: must be a class of the data set.* or -1"),
        ([0, 1, 1.5], r"CLASS_MAP\[2\] is 1\.5"),
        ([True, 1, 2], r"CLASS_MAP\[0\] is True"),
    ],
)
def test_wrong_maps(class_map: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_class_map(class_map, 3)


@pytest.fixture(scope="module", params=[FPN, RETINANET, ATSS, FCOS], ids=NAMES)
def shared_model(request: pytest.FixtureRequest) -> nn.Module:
    cfg = tiny_config(request.param, THRESHOLDS, [("MODEL.CLASS_MAP", CLASS_MAP)])
    return tiny_model(cfg).eval()


@pytest.fixture
def model(shared_model: nn.Module) -> nn.Module:
    shared_model.eval().set_class_map(CLASS_MAP)
    return shared_model


@torch.no_grad()
def detect(model: Any) -> Instances:
    return model([record(SIZE, seed=5, height=128, width=192)])[0]["instances"]


def test_detections_are_those_of_the_model_renamed_and_sifted(model: nn.Module) -> None:
    mapped = detect(model)
    optimised = detect(OptimizedModel(model))
    model.set_class_map([])
    own = detect(model)
    new = torch.tensor(CLASS_MAP)[own.pred_classes]
    kept = new >= 0
    assert 0 < int(kept.sum()) < len(own)
    assert torch.equal(mapped.pred_classes, new[kept])
    assert torch.equal(mapped.pred_boxes.tensor, own.pred_boxes.tensor[kept])
    assert torch.equal(mapped.scores, own.scores[kept])
    assert torch.equal(optimised.pred_classes, mapped.pred_classes)


@pytest.mark.parametrize(
    ("class_map", "count"), [([0, 1, 2], "all"), ([0, 0, 0], "all"), ([-1, -1, -1], "none")]
)
def test_number_of_detections(model: nn.Module, class_map: list[int], count: str) -> None:
    model.set_class_map([])
    expected = len(detect(model)) if count == "all" else 0
    model.set_class_map(class_map)
    assert len(detect(model)) == expected


def test_final_detections_are_shown_with_the_classes_of_the_data(model: nn.Module) -> None:
    seen = []
    with watching(lambda n, v: seen.append(v["classes"]) if n == "detections.final" else None):
        found = detect(model)
    assert torch.equal(seen[0], found.pred_classes)


def losses(model: nn.Module, classes: list[int]) -> dict[str, float]:
    boxes = [[5.0, 5, 40, 50], [30, 10, 90, 60]][: len(classes)]
    entry = record(SIZE, boxes, seed=5, image_id=7)
    entry["instances"].gt_classes = torch.tensor(classes, dtype=torch.int64)
    given = entry["instances"].gt_classes.clone()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    state = dict(model.named_buffers())
    moving = {n: b.clone() for n, b in state.items() if n == "loss_normalizer"}
    torch.manual_seed(0)
    with torch.no_grad():
        found = model.train()([entry])
    for name, value in moving.items():
        setattr(model, name, value)
    assert torch.equal(entry["instances"].gt_classes, given)  # the input isn't changed
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize(("of_data", "of_model"), [([0, 1], [2, 0]), ([1], [0]), ([], [])])
def test_objects_train_the_models_classes(
    model: nn.Module, of_data: list[int], of_model: list[int]
) -> None:
    mapped = losses(model, of_data)
    model.set_class_map([])
    assert mapped == losses(model, of_model)


def test_objects_of_classes_that_the_data_does_not_have(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"image 7, gt_classes\[1\] = 2: must be in 0\.\.1"):
        losses(model, [0, 2])


@pytest.mark.parametrize("class_map", [[0, 0, 1], [0, 2, -1]])
def test_training_is_refused_where_the_way_back_is_not_clear(
    model: nn.Module, class_map: list[int]
) -> None:
    model.set_class_map(class_map)
    with pytest.raises(ValueError, match=r"CLASS_MAP can't be used for training.*CLASS_MAP \[\]"):
        losses(model, [0, 1])


def test_unprocessed_detections_have_the_models_classes() -> None:
    model = tiny_model(tiny_config(FPN, THRESHOLDS)).eval()
    model.set_class_map([-1, -1, -1])
    with torch.no_grad():
        (found,) = model.inference([record(SIZE)], do_postprocess=False)
    assert len(found) > 0
    assert len(detect(model)) == 0


def test_the_state_dict_has_no_map(model: nn.Module) -> None:
    assert not {"class_map", "own_classes"} & set(model.state_dict())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"CLASS_MAP has 2 entries, but the model has 3 classes"),
        (PROPOSALS, r"CLASS_MAP has 2 entries, but ProposalNetwork finds no classes"),
        (
            [("MODEL.META_ARCHITECTURE", "OwnNetwork")],
            r"CLASS_MAP has 2 entries, but OwnNetwork is none of lucidet's detectors",
        ),
    ],
    ids=["length", "proposals", "own"],
)
def test_a_config_whose_map_does_not_fit(
    more: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OwnNetwork(nn.Module):
        def __init__(self, cfg: Any) -> None:
            super().__init__()

    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "OwnNetwork", OwnNetwork)
    with pytest.raises(ValueError, match=message):
        build_model(tiny_config(FPN, more, [("MODEL.CLASS_MAP", [0, 1])]))
