"""A planted fault of each kind is found, at its stage, by its name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lucidet.inspection.checks import CHECKS, run_checks
from lucidet.inspection.trace import Trace, watch
from lucidet.modeling import build_model
from lucidet.utils.probe import probe
from tests.inspection.conftest import SIZES
from tests.modeling.tiny import ATSS, FPN, RETINANET, tiny_config


def found(trace: Trace) -> set[tuple[str, str]]:
    return {(finding.check, finding.stage) for finding in run_checks(trace)}


def message(trace: Trace, check: str) -> str:
    return next(f.message for f in run_checks(trace) if f.check == check)


def test_every_check_says_what_it_means_and_what_to_try():
    assert len(CHECKS) == 13
    assert all(len(meaning) > 20 and len(remedy) > 20 for meaning, remedy in CHECKS.values())


def test_a_sound_run_has_no_fault(look):
    checks = {check for check, _ in found(look())}
    assert not checks & {"label-out-of-range", "degenerate-box", "image-statistics", "not-finite"}


def test_object_without_positive(look):
    strict = [("MODEL.RETINANET.IOU_THRESHOLDS", [0.98, 0.99])]
    model = build_model(tiny_config(RETINANET, SIZES, strict))
    model.anchor_matcher.allow_low_quality_matches = False
    trace = look(RETINANET, overrides=strict, model=model)
    assert ("object-without-positive", "dense.assign") in found(trace)
    assert "ground-truth box 0, 50 x 60 pixels: no positive anchor" in message(
        trace, "object-without-positive"
    )


def test_object_without_anchor(look):
    far = [("MODEL.ANCHOR_GENERATOR.SIZES", [[1], [1], [1], [1], [1]])]
    trace = look(overrides=far, boxes=[[9.0, 9.0, 11.0, 11.0]])
    # anchors 1 pixel wide sit around the corners of cells; this object lies between them
    assert ("object-without-anchor", "rpn.assign") in found(trace)


def test_label_out_of_range(look):
    trace = look(classes=[0, 3])
    assert ("label-out-of-range", "input.read") in found(trace)
    assert "ground-truth box 1: class 3, but the model has classes 0..2" in message(
        trace, "label-out-of-range"
    )
    assert "gt_classes" in trace.context["error"]  # the model refuses it; the trace says so


def test_degenerate_box(look):
    assert ("degenerate-box", "input.read") in found(look(boxes=[[10, 10, 10, 40]]))


def test_box_outside_image(look):
    trace = look(boxes=[[10, 10, 60, 170]])
    assert ("box-outside-image", "input.transform") in found(trace)


@pytest.mark.parametrize(
    "override",
    [
        ("INPUT.FORMAT", "RGB"),
        ("MODEL.PIXEL_MEAN", [0.406, 0.456, 0.485]),
        ("MODEL.PIXEL_STD", [0.225, 0.224, 0.229]),
    ],
    ids=["BGR for RGB", "mean / 255", "std / 255"],
)
def test_image_statistics(look, override):
    trace = look(overrides=[override], until="input.batch")
    assert ("image-statistics", "input.batch") in found(trace)


def test_image_in_0_to_1(look, image_file):
    trace = look(until="input.batch")
    batch = trace["input.batch"]["images"]
    mean = torch.tensor(trace.context["limits"]["pixel_mean"]).view(1, 3, 1, 1)
    batch.copy_(torch.rand_like(batch) - mean)
    assert "pixels reach only 1" in message(trace, "image-statistics")


def test_first_stage_that_is_not_finite(look):
    model = build_model(tiny_config(FPN, SIZES))
    with torch.no_grad():
        model.proposal_generator.rpn_head.objectness_logits.weight[0, 0] = float("nan")
    trace = look(model=model)
    assert ("not-finite", "rpn.head") in found(trace)
    assert sum(check == "not-finite" for check, _ in found(trace)) == 1
    assert message(trace, "not-finite").startswith("logits[0]")


def test_zero_normalizer(look):
    model = build_model(tiny_config(FPN, SIZES))
    model.proposal_generator.batch_size_per_image = 0
    trace = look(model=model)
    assert ("zero-normalizer", "loss.term") in found(trace)


def test_parameter_without_gradient(look):
    model = build_model(tiny_config(ATSS, SIZES))
    model.spare = torch.nn.Linear(2, 2)
    trace = look(ATSS, model=model)
    assert ("parameter-without-gradient", "loss.gradients") in found(trace)
    assert "no gradient: spare.weight, spare.bias" in message(trace, "parameter-without-gradient")


def test_topk_saturated(look):
    trace = look(training=False, overrides=[("MODEL.RPN.POST_NMS_TOPK_TEST", 2)])
    assert ("topk-saturated", "rpn.proposals") in found(trace)


def test_all_detections_in_one_class(look):
    trace = look(training=False, classes=[1, 2], until="input.batch")
    with watch(trace):
        probe(
            "detections.final",
            image=0,
            boxes=torch.rand(6, 4),
            scores=torch.rand(6),
            classes=torch.zeros(6, dtype=torch.int64),
        )
    assert ("one-class", "detections.final") in found(trace)


def test_nothing_to_check():
    assert run_checks(Trace()) == []
    with watch() as trace:
        probe("input.transform", transform="x", image=np.zeros((4, 4, 3)), boxes=np.zeros((0, 4)))
    assert run_checks(trace) == []
