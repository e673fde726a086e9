"""One suite over every registered architecture."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from lucidet.config import CfgNode
from lucidet.modeling import META_ARCH_REGISTRY, build_model
from tests.modeling.tiny import (
    ATSS,
    C4,
    CASCADE,
    DC5,
    FCOS,
    FPN,
    PROPOSALS,
    RETINANET,
    record,
    tiny_config,
    tiny_model,
)

SIZE = (96, 128)
DEFORMABLE = [
    ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, True, True]),
    ("MODEL.RESNETS.DEFORM_MODULATED", True),
    ("MODEL.ATSS.USE_DCN_IN_TOWER", True),
]

#: name -> config; every architecture of the registry has a row
CONFIGS = {
    "GeneralizedRCNN-FPN": lambda: tiny_config(FPN),
    "GeneralizedRCNN-Cascade": lambda: tiny_config(FPN, CASCADE),
    "GeneralizedRCNN-C4": lambda: tiny_config(C4),
    "GeneralizedRCNN-DC5": lambda: tiny_config(DC5),
    "RetinaNet": lambda: tiny_config(RETINANET),
    "ATSS": lambda: tiny_config(ATSS),
    "RetinaNet-BN": lambda: tiny_config(RETINANET, [("MODEL.RETINANET.NORM", "BN")]),
    **{
        f"ATSS-{positives}-{regression}": partial(
            tiny_config,
            ATSS,
            [
                ("MODEL.ATSS.POSITIVE_TYPE", positives),
                ("MODEL.ATSS.REGRESSION_TYPE", regression),
            ],
        )
        for positives, regression in product(("ATSS", "TOPK", "IoU", "SSC"), ("BOX", "POINT"))
        if (positives, regression) != ("ATSS", "BOX")  # the default, above
    },
    "ATSS-DCN": lambda: tiny_config(ATSS, DEFORMABLE),
    "ATSS-legacy": lambda: tiny_config(ATSS, [("MODEL.LEGACY_PLUS_ONE", True)]),
    "FCOS": lambda: tiny_config(FCOS),
    "FCOS-DCN": lambda: tiny_config(FCOS, [("MODEL.FCOS.USE_DCN_IN_TOWER", True)]),
    "ProposalNetwork": lambda: tiny_config(FPN, PROPOSALS),
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def cfg(request) -> CfgNode:
    return CONFIGS[request.param]()


@pytest.fixture(scope="module")
def model(cfg) -> nn.Module:
    return tiny_model(cfg)


def batch(*objects):
    return [record(SIZE, boxes, seed=i) for i, boxes in enumerate(objects)]


def test_every_architecture_has_a_row():
    built = {make().MODEL.META_ARCHITECTURE for make in CONFIGS.values()}
    # other tests may register architectures of their own
    ours = {n for n, cls in META_ARCH_REGISTRY if cls.__module__.startswith("lucidet.")}
    assert ours == built


OBJECTS = [[10.0, 10, 60, 70], [30.0, 40, 46, 52], [0.0, 0, 128, 96], [70.0, 60, 100, 90]]


def test_forward_and_backward(model):
    model = copy.deepcopy(model).train()
    losses = model(batch(OBJECTS, OBJECTS[:1]))
    assert all(value.isfinite() and value.dim() == 0 for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"
            assert parameter.grad.any(), f"{name} has a gradient of 0"


def test_images_without_objects_train(model):
    model = copy.deepcopy(model).train()
    losses = model(batch([], []))
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"


def results(outputs):
    """Return per image one row a result: box, score and, where there are classes, class."""
    rows = []
    for output in outputs:
        fields = next(iter(output.values())).get_fields()
        rows.append(torch.cat([as_2d(value).float() for value in fields.values()], dim=1))
    return rows


def as_2d(value):
    value = getattr(value, "tensor", value)
    return value if value.dim() == 2 else value[:, None]


def assert_same(alone, together):
    """The same rows; where scores tie to the last bits the order may differ."""
    assert alone.shape == together.shape
    distance = (alone[:, None] - together[None]).abs().amax(dim=2)
    assert (distance.amin(dim=0) < 1e-3).all()
    assert (distance.amin(dim=1) < 1e-3).all()


@pytest.mark.filterwarnings("ignore:.*oneDNN")
@torch.no_grad()
def test_an_image_alone_is_as_in_a_batch(model):
    model.eval()
    images = batch(None, None)
    # oneDNN computes batches of 1 and 2 in other orders, which can turn scores that almost tie
    with torch.backends.mkldnn.flags(enabled=False):
        together = results(model(images))
        alone = [results(model([image]))[0] for image in images]
    assert min(map(len, alone)) > 0
    for one, same in zip(alone, together, strict=True):
        assert_same(one, same)


@torch.no_grad()
def test_results_are_finite_and_inside_the_image(model):
    for rows in results(model.eval()(batch(None))):
        assert rows.isfinite().all()
        boxes = rows[:, :4]
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([SIZE[1], SIZE[0]] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


@torch.no_grad()
def test_names_load_back(model, cfg):
    other = build_model(cfg)
    other.load_state_dict(model.state_dict())
    one, same = (results(m.eval()(batch(None)))[0] for m in (model, other))
    assert_same(one, same)
