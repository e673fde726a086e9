"""Real detectors on noise: fates sum up, and agree with hotcoco's matching."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lucidet.explain.explain import explain_image
from lucidet.explain.heat_map import heat_map
from lucidet.explain.kinds import FATES, VERDICTS
from lucidet.explain.matching import GroundTruth, hotcoco_judge
from lucidet.explain.model_facts import settings_of
from lucidet.explain.recompute import detections_at, fates_at
from lucidet.explain.record import Explanation, Settings
from lucidet.inspection.trace import watch
from lucidet.modeling import build_model
from lucidet.modeling.meta_arch.dense_detector import DenseDetector
from lucidet.structures import Boxes, Instances
from tests.modeling.tiny import (
    ATSS,
    C4,
    CASCADE,
    FCOS,
    FPN,
    PROPOSALS,
    RETINANET,
    record,
    tiny_config,
    tiny_model,
)

#: heads that pool again, from the detections
MASKS = [("MODEL.MASK_ON", True), ("MODEL.ROI_MASK_HEAD.CONV_DIM", 8)]
FAMILIES = {
    "masks": FPN + MASKS,
    "fpn": FPN,
    "c4": C4,
    "cascade": FPN + CASCADE,
    "retinanet": RETINANET,
    "atss": ATSS,
    "fcos": FCOS,
}
SIZE = (96, 128)
FILE = (192, 256)


@pytest.fixture(scope="module", params=FAMILIES)
def detector(request) -> nn.Module:
    if request.param != "masks":
        return tiny_model(tiny_config(FAMILIES[request.param])).eval()
    model = build_model(tiny_config(FAMILIES["masks"])).eval()
    model.load_state_dict(tiny_model(tiny_config(FPN)).state_dict(), strict=False)
    return model


def _entry(seed: int = 3) -> dict:
    height, width = FILE
    return record(SIZE, seed=seed, height=height, width=width, file_name="a.jpg", image_id=seed)


def _truth(model: nn.Module, entry: dict) -> GroundTruth:
    """Return boxes near detections and elsewhere, and a crowd region."""
    with torch.no_grad():
        found = model([entry])[0]["instances"]
    near = found.pred_boxes.tensor[:6].double().numpy() + 2.0
    others = [[10, 10, 100, 140], [20, 30, 60, 70], [0, 0, 6, 6], [100, 100, 250, 190]]
    labels = [*found.pred_classes[:6].tolist(), 0, 1, 2, 2]
    crowd = [False] * len(near) + [False, False, False, True]
    return GroundTruth.of(np.concatenate([near, others]), labels, crowd=crowd)


@pytest.fixture(scope="module")
def explained(detector) -> tuple[nn.Module, dict, GroundTruth, Explanation]:
    entry = _entry()
    truth = _truth(detector, entry)
    return detector, entry, truth, explain_image(detector, entry, truth, classes=["a", "b", "c"])


def test_fates_and_verdicts_agree_with_hotcoco(explained) -> None:
    _, _, truth, found = explained
    assert len(found.objects) == len(truth)
    assert all(own.fate in FATES for own in found.objects)
    rows = np.array(
        [
            [0, *d.box[:2], d.box[2] - d.box[0], d.box[3] - d.box[1], d.score, d.label]
            for d in found.detections
        ]
    ).reshape(-1, 7)
    columns = (np.zeros(len(truth), np.int64), truth.labels, truth.xywh, truth.area, truth.crowd)
    judge = hotcoco_judge(1, 3, columns, rows, 0.5)
    diagnosed = judge.image_diagnostics(0.5, 0.0)
    fates = {i + 1: own.fate for i, own in enumerate(found.objects) if own.fate != "ignored"}
    assert {i: status == "matched" for i, status in diagnosed["gt_status"].items()} == {
        i: fate == "detected" for i, fate in fates.items()
    }
    verdicts = {i + 1: own.verdict for i, own in enumerate(found.detections)}
    right = {i for i, status in diagnosed["dt_status"].items() if status == "tp"}
    assert right == {i for i, verdict in verdicts.items() if verdict == "true_positive"}
    assert all(own.verdict in VERDICTS for own in found.detections)
    assert any(own.fate == "detected" for own in found.objects)


def test_every_box_and_detection_has_its_stages(explained) -> None:
    _, _, _, found = explained
    for own in found.objects:
        assert bool(own.chain) == (own.fate != "ignored")
    for own in found.detections:
        assert own.origin[-1].key == "anchors"


def test_a_record_survives_json(explained) -> None:
    *_, found = explained
    assert Explanation.from_json(found.to_json()) == found


def _set(model: nn.Module, settings: Settings) -> None:
    if isinstance(model, DenseDetector):
        model.test_score_thresh, model.test_nms_thresh = settings.score_thresh, settings.nms_thresh
        model.test_topk_candidates = settings.topk
        model.max_detections_per_image = settings.detections
        return
    heads = model.roi_heads.box_predictor
    for predictor in heads if isinstance(heads, nn.ModuleList) else [heads]:
        predictor.test_score_thresh = settings.score_thresh
        predictor.test_nms_thresh = settings.nms_thresh
        predictor.test_topk_per_image = settings.detections
    count = model.proposal_generator.post_nms_topk[True], settings.topk
    model.proposal_generator.post_nms_topk = {True: count[0], False: count[1]}


def test_other_settings_give_what_the_detector_gives(explained) -> None:
    model, entry, truth, found = explained
    generator = np.random.default_rng(0)
    lowest, most = found.exact["score_thresh"], min(found.exact["topk"], 60)
    for _ in range(5):
        settings = replace(
            found.settings,
            score_thresh=float(generator.uniform(lowest, 0.4)),
            nms_thresh=float(generator.uniform(0.2, 0.9)),
            topk=int(generator.integers(1, most)),
            detections=int(generator.integers(5, 100)),
        )
        kept = detections_at(found, settings)
        fates = fates_at(found, settings)
        try:
            _set(model, settings)
            again = explain_image(model, entry, truth)
        finally:
            _set(model, found.settings)
        boxes = np.array([own.box for own in again.detections]).reshape(-1, 4)
        assert kept.boxes.numpy() == pytest.approx(boxes, abs=2e-3)
        assert [own.label for own in again.detections] == kept.labels.tolist()
        detected = [own.fate == "detected" for own in again.objects]
        assert [fate.kind == "detected" for fate in fates] == detected


def test_settings_beyond_what_is_known_are_refused(explained) -> None:
    *_, found = explained
    with pytest.raises(ValueError, match=r"topk .* is above"):
        detections_at(found, replace(found.settings, topk=found.exact["topk"] + 1))
    with pytest.raises(ValueError, match=r"score_thresh .* is below"):
        detections_at(found, replace(found.settings, score_thresh=-1.0))


def test_the_heat_map_is_of_the_detections_score(explained) -> None:
    model, entry, _, found = explained
    for index in (0, len(found.detections) - 1):
        heat = heat_map(model, entry, found, index)
        # a cascade that is run for one proposal alone sums in another order
        assert heat.score == pytest.approx(found.detections[index].score, abs=1e-4)
        assert float(heat.values.min()) >= 0.0
        assert float(heat.values.max()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no detection 1000"):
        heat_map(model, entry, found, 1000)


def test_explaining_changes_nothing(explained) -> None:
    model, entry, truth, _ = explained
    with torch.no_grad():
        before = model([entry])[0]["instances"].scores
    explain_image(model, entry, truth)
    with torch.no_grad(), watch():
        after = model([entry])[0]["instances"].scores
    assert torch.equal(before, after)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_class_map_is_followed() -> None:
    model = tiny_model(tiny_config(FPN)).eval()
    entry = _entry()
    plain = explain_image(model, entry, GroundTruth.of([], []))
    model.set_class_map([1, -1, 0])
    box = next(own.box for own in plain.detections if own.label == 2)
    found = explain_image(model, entry, GroundTruth.of([box], [0]), classes=["two", "zero"])
    assert found.objects[0].fate == "detected"
    assert {own.label for own in found.detections} <= {0, 1}
    assert found.own_class_name(1) == "the model's class 1"


def test_proposals_that_come_with_the_data() -> None:
    model = tiny_model(tiny_config(FPN)).eval()
    model.proposal_generator = None
    near, far = [10.0, 10, 60, 70], [80.0, 50, 120, 90]
    proposals = Instances(SIZE, proposal_boxes=Boxes([near]))
    proposals.objectness_logits = torch.zeros(1)
    entry = {**_entry(), "proposals": proposals}
    truth = GroundTruth.of(2 * np.array([near, far]), [0, 0])
    found = explain_image(model, entry, truth)
    assert found.objects[0].fate not in ("no_anchor", "lost_topk")
    assert found.objects[1].fate == "no_anchor"
    assert [stage.key for stage in found.objects[1].chain] == ["rpn_nms"]


def test_what_finds_no_classes_is_refused() -> None:
    model = build_model(tiny_config(FPN, PROPOSALS)).eval()
    with pytest.raises(ValueError, match=r"ProposalNetwork can't be explained"):
        settings_of(model)


def test_a_model_in_training_mode_is_refused() -> None:
    model = tiny_model(tiny_config(FPN)).train()
    with pytest.raises(ValueError, match=r"model\.eval"):
        explain_image(model, _entry(), GroundTruth.of([], []))
