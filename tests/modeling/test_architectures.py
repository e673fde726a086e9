"""One suite over every registered architecture."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lucidet.config import CfgNode
from lucidet.modeling import META_ARCH_REGISTRY, build_model
from tests.modeling.tiny import C4, CASCADE, DC5, FPN, PROPOSALS, record, tiny_config

SIZE = (96, 128)

#: name -> config; every architecture of the registry has a row
CONFIGS = {
    "GeneralizedRCNN-FPN": lambda: tiny_config(FPN),
    "GeneralizedRCNN-Cascade": lambda: tiny_config(FPN, CASCADE),
    "GeneralizedRCNN-C4": lambda: tiny_config(C4),
    "GeneralizedRCNN-DC5": lambda: tiny_config(DC5),
    "ProposalNetwork": lambda: tiny_config(FPN, PROPOSALS),
}


@pytest.fixture(scope="module", params=list(CONFIGS))
def cfg(request) -> CfgNode:
    return CONFIGS[request.param]()


@pytest.fixture(scope="module")
def model(cfg) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(cfg)
    # heads start near 0, where all scores tie; spread them
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(word in name for word in ("cls_", "objectness", "anchor_deltas", "bbox_pred")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


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
    key = "instances" if "instances" in outputs[0] else "proposals"
    fields = [
        {name: getattr(value, "tensor", value) for name, value in output[key].get_fields().items()}
        for output in outputs
    ]
    return fields


def assert_same(alone, together):
    assert set(alone) == set(together)
    for name, value in alone.items():
        assert len(value) == len(together[name])
        torch.testing.assert_close(value, together[name], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_an_image_alone_is_as_in_a_batch(model):
    model.eval()
    images = batch(None, None)
    together = results(model(images))
    alone = [results(model([image]))[0] for image in images]
    assert any(len(next(iter(fields.values()))) > 0 for fields in alone)
    for one, same in zip(alone, together, strict=True):
        assert_same(one, same)


@torch.no_grad()
def test_results_are_finite_and_inside_the_image(model):
    for fields in results(model.eval()(batch(None))):
        boxes = fields.get("pred_boxes", fields.get("proposal_boxes"))
        assert boxes.isfinite().all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([SIZE[1], SIZE[0]] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


@torch.no_grad()
def test_names_load_back(model, cfg):
    other = build_model(cfg)
    other.load_state_dict(model.state_dict())
    one, same = (results(m.eval()(batch(None)))[0] for m in (model, other))
    assert_same(one, same)
