from __future__ import annotations

import inspect
import logging

import pytest
import torch

from lucidet.modeling import build_model
from lucidet.modeling.meta_arch import GeneralizedRCNN, ProposalNetwork
from lucidet.modeling.meta_arch.build import available_device
from lucidet.structures import Boxes, Instances
from lucidet.utils.probe import watching
from tests.modeling.tiny import FPN, PROPOSALS, objects, record, tiny_config, tiny_model

SIZE = (64, 96)


@pytest.fixture(scope="module")
def detector() -> GeneralizedRCNN:
    return tiny_model(tiny_config(FPN, [("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.1)]))


@pytest.mark.parametrize("spine", [GeneralizedRCNN, ProposalNetwork])
def test_forward_reads_like_the_paper(spine):
    lines = inspect.getsource(spine.forward).split('"""')[-1]
    assert len(lines.strip().splitlines()) <= 30


class TestBorder:
    """What is wrong with an input is said with its image, its object and the repair."""

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            ([[0, 0, 9, 9], [40, 10, 40, 90]], r"gt_boxes\[1\] = \[40, 10, 40, 90\]: width must"),
            ([[0, 9, 9, 9]], r"gt_boxes\[0\] = \[0, 9, 9, 9\]: height must be > 0"),
            ([[9, 9, 0, 0]], r"gt_boxes\[0\] = \[9, 9, 0, 0\]: width must be > 0"),
            ([[0, float("nan"), 9, 9]], r"gt_boxes\[0\] = \[0, nan, 9, 9\]: .* must be finite"),
            ([[0, 0, float("inf"), 9]], r"gt_boxes\[0\] = \[0, 0, inf, 9\]: .* must be finite"),
        ],
    )
    def test_bad_boxes(self, detector, boxes, message):
        detector.train()
        batch = [record(SIZE, []), record(SIZE, boxes, image_id=17, file_name="a.jpg")]
        with pytest.raises(ValueError, match=r"image 17 \(a\.jpg\), " + message):
            detector(batch)

    @pytest.mark.parametrize("label", [-1, 3])
    def test_bad_classes(self, detector, label):
        detector.train()
        bad = record(SIZE, file_name="a.jpg")
        bad["instances"] = objects(SIZE, [[0, 0, 9, 9]] * 2, [0, label])
        with pytest.raises(
            ValueError, match=rf"image \(a\.jpg\), gt_classes\[1\] = {label}: must be in 0\.\.2"
        ):
            detector([bad])

    @pytest.mark.parametrize(
        ("batch", "message"),
        [
            ([], "list with one dict an image.*an empty list"),
            (record(SIZE), "list with one dict an image.*a dict"),
            (torch.zeros(1, 3, 8, 8), "list with one dict an image.*a Tensor"),
            ([{"file_name": "a.jpg"}], r"\(a\.jpg\): the dict has no 'image'"),
            ([{"image": torch.zeros(8, 8, 3)}], r"number 0 .*\(3, H, W\), got \(8, 8, 3\)"),
        ],
    )
    def test_bad_batches(self, detector, batch, message):
        with pytest.raises(ValueError, match=message):
            detector.eval()(batch)

    def test_training_needs_objects(self, detector):
        with pytest.raises(ValueError, match=r"image 5: no 'instances'.*model\.eval"):
            detector.train()([record(SIZE, image_id=5)])

    def test_inference_needs_test_mode(self, detector):
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            detector.train().inference([record(SIZE)])

    def test_mean_and_std_must_agree(self):
        with pytest.raises(ValueError, match=r"PIXEL_MEAN has 1 .*PIXEL_STD has 3"):
            build_model(tiny_config(FPN, [("MODEL.PIXEL_MEAN", [1.0])]))


class TestGeneralizedRCNN:
    def test_detections_are_for_the_size_asked_for(self, detector):
        detector.eval()
        plain, double = detector([record(SIZE), record(SIZE, height=128, width=192)])
        assert plain["instances"].image_size == SIZE
        assert double["instances"].image_size == (128, 192)
        assert len(plain["instances"]) == len(double["instances"]) > 0
        raw = detector.inference([record(SIZE)], do_postprocess=False)[0]
        assert isinstance(raw, Instances)
        torch.testing.assert_close(
            raw.pred_boxes.tensor * 2, double["instances"].pred_boxes.tensor, atol=1e-3, rtol=1e-4
        )

    def test_given_detections_are_kept(self, detector):
        given = Instances(
            SIZE,
            pred_boxes=Boxes(torch.tensor([[1.0, 2, 30, 40]])),
            pred_classes=torch.tensor([2]),
        )
        (result,) = detector.eval().inference([record(SIZE)], detected_instances=[given])
        assert result["instances"].pred_boxes.tensor.tolist() == [[1, 2, 30, 40]]

    def test_proposals_may_come_with_the_data(self, detector):
        model = GeneralizedRCNN(
            backbone=detector.backbone,
            proposal_generator=None,
            roi_heads=detector.roi_heads,
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )
        given = Instances(
            SIZE,
            proposal_boxes=Boxes(torch.tensor([[1.0, 2, 30, 40]])),
            objectness_logits=torch.zeros(1),
        )
        losses = model.train()([record(SIZE, [[0, 0, 30, 40]], proposals=given)])
        assert set(losses) == {"loss_cls", "loss_box_reg"}
        with pytest.raises(ValueError, match=r"image number 0.*no 'proposals'"):
            model([record(SIZE, [[0, 0, 30, 40]])])

    def test_metrics_are_tensors_under_the_fields_names(self, detector):
        detector.train()([record(SIZE, [[4, 4, 40, 50]])])
        metrics = {}
        for module in detector.modules():
            metrics.update(getattr(module, "metrics", None) or {})
        assert set(metrics) == {
            "rpn/num_pos_anchors",
            "rpn/num_neg_anchors",
            "roi_head/num_fg_samples",
            "roi_head/num_bg_samples",
            "fast_rcnn/cls_accuracy",
            "fast_rcnn/fg_cls_accuracy",
            "fast_rcnn/false_negative",
        }
        assert all(isinstance(value, torch.Tensor) for value in metrics.values())
        assert metrics["rpn/num_pos_anchors"] + metrics["rpn/num_neg_anchors"] == 256

    def test_watching_changes_nothing(self, detector):
        batch = [record(SIZE, [[4, 4, 40, 50]]), record(SIZE, [], seed=1)]
        detector.train()

        def step():
            torch.manual_seed(3)
            detector.zero_grad()
            losses = detector(batch)
            sum(losses.values()).backward()
            return losses, [p.grad.clone() for p in detector.parameters()]

        norms = [m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert norms
        names = []
        losses, gradients = step()
        with watching(lambda name, values: names.append(name)):
            watched_losses, watched_gradients = step()
        assert losses == watched_losses
        for a, b in zip(gradients, watched_gradients, strict=True):
            assert torch.equal(a, b)
        assert names[:3] == ["input.batch", "backbone.features", "anchors.grid"]
        assert set(names) >= {"roi.levels", "roi.pool", "roi.head"}
        assert names.count("loss.term") == 4

    def test_detections_are_shown_after_scaling(self, detector):
        final = []
        with watching(lambda n, v: final.append(v) if n == "detections.final" else None):
            (result,) = detector.eval()([record(SIZE, height=128, width=192)])
        assert final[0]["boxes"] is result["instances"].pred_boxes.tensor

    def test_statistics_stay_out_of_the_state_dict(self, detector):
        assert not [name for name in detector.state_dict() if "pixel" in name]


def test_proposal_network_returns_proposals():
    model = build_model(tiny_config(FPN, PROPOSALS)).eval()
    (result,) = model([record(SIZE, height=128, width=192)])
    proposals = result["proposals"]
    assert set(proposals.get_fields()) == {"proposal_boxes", "objectness_logits"}
    assert proposals.image_size == (128, 192)
    assert 0 < len(proposals) <= 20


def test_an_unknown_architecture_is_answered_with_the_nearest():
    cfg = tiny_config(FPN, [("MODEL.META_ARCHITECTURE", "GeneralisedRCNN")])
    with pytest.raises(ValueError, match=r"'GeneralisedRCNN'; did you mean 'GeneralizedRCNN'\?"):
        build_model(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_model_stays_on_the_cpu(caplog):
    with caplog.at_level(logging.WARNING):
        assert available_device("cuda") == torch.device("cpu")
    assert "MODEL.DEVICE is 'cuda'" in caplog.text
