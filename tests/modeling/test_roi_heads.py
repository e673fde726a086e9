from __future__ import annotations

import pytest
import torch

from lucidet.layers import ShapeSpec
from lucidet.modeling.box_regression import Box2BoxTransform
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.poolers import ROIPooler
from lucidet.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
    select_foreground_proposals,
)
from lucidet.structures import Boxes, ImageList, Instances
from lucidet.utils.probe import watching
from tests.modeling.tiny import C4, FPN, objects, tiny_config

SIZE = (64, 96)
A, B, C = [0, 0, 10, 10], [0, 0, 10, 12], [20, 20, 60, 60]


def common(**options):
    return {
        "num_classes": 3,
        "batch_size_per_image": 512,
        "positive_fraction": 0.25,
        "proposal_matcher": Matcher([0.5], [0, 1]),
        **options,
    }


def standard(train_on_pred_boxes=False, **options) -> StandardROIHeads:
    head = FastRCNNConvFCHead(ShapeSpec(channels=4, height=2, width=2), conv_dims=[], fc_dims=[16])
    return StandardROIHeads(
        box_in_features=["a", "b"],
        box_pooler=ROIPooler(2, (1 / 8, 1 / 16), 2, "ROIAlignV2"),
        box_head=head,
        box_predictor=FastRCNNOutputLayers(
            head.output_shape, box2box_transform=Box2BoxTransform((10, 10, 5, 5)), num_classes=3
        ),
        train_on_pred_boxes=train_on_pred_boxes,
        **common(**options),
    )


def res5(**options) -> Res5ROIHeads:
    return Res5ROIHeads(
        in_features=["a"],
        pooler=ROIPooler(2, (1 / 8,), 2, "ROIAlignV2"),
        res5=torch.nn.Conv2d(4, 6, 1),
        box_predictor=FastRCNNOutputLayers(
            ShapeSpec(channels=6), box2box_transform=Box2BoxTransform((10, 10, 5, 5)), num_classes=3
        ),
        **common(**options),
    )


def proposals(boxes) -> Instances:
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))


def features(count=1):
    return {"a": torch.rand(count, 4, 8, 12), "b": torch.rand(count, 4, 4, 6)}


def images(count=1):
    return ImageList(torch.zeros(count, 3, *SIZE), [SIZE] * count)


class TestSampling:
    def test_labels_classes_and_boxes(self):
        heads = ROIHeads(**common(proposal_append_gt=False))
        (result,) = heads.label_and_sample_proposals(
            [proposals([B, [50, 0, 60, 9], C])], [objects(SIZE, [C, A], [2, 1])]
        )
        # foreground first, then background, which is class K = 3
        assert result.gt_classes.tolist() == [1, 2, 3]
        assert result.proposal_boxes.tensor.tolist() == [B, C, [50, 0, 60, 9]]
        assert result.gt_boxes.tensor[:2].tolist() == [A, C]
        assert heads.metrics == {"roi_head/num_fg_samples": 2, "roi_head/num_bg_samples": 1}

    def test_objects_join_the_proposals(self):
        (result,) = ROIHeads(**common()).label_and_sample_proposals(
            [proposals([])], [objects(SIZE, [C, A], [2, 1])]
        )
        assert result.gt_classes.tolist() == [2, 1]
        assert result.proposal_boxes.tensor.tolist() == [C, A]

    @pytest.mark.parametrize(("foreground", "background"), [(400, 900), (10, 900), (400, 20)])
    def test_counts(self, foreground, background):
        # 512 an image, at most a quarter of them foreground; more background takes its place
        boxes = [C] * foreground + [[0, 0, 5, 5]] * background
        (result,) = ROIHeads(**common(proposal_append_gt=False)).label_and_sample_proposals(
            [proposals(boxes)], [objects(SIZE, [C])]
        )
        expected = min(foreground, 128)
        assert (result.gt_classes == 0).sum() == expected
        assert (result.gt_classes == 3).sum() == min(background, 512 - expected)

    def test_further_fields_of_objects_are_passed_on(self):
        gt = objects(SIZE, [C, A], [2, 1])
        gt.gt_track = torch.tensor([70, 80])
        gt.note = torch.tensor([0, 0])
        (result,) = ROIHeads(**common()).label_and_sample_proposals([proposals([B])], [gt])
        assert result.gt_track.tolist() == [80, 70, 80]
        assert not result.has("note")

    def test_without_objects_all_is_background(self):
        heads = ROIHeads(**common())
        first, second = heads.label_and_sample_proposals(
            [proposals([A, C]), proposals([])], [objects(SIZE, []), objects(SIZE, [])]
        )
        assert first.gt_classes.tolist() == [3, 3]
        assert not first.has("gt_boxes")
        assert len(second) == 0
        assert heads.metrics["roi_head/num_fg_samples"] == 0

    def test_ignored_proposals_are_not_drawn(self):
        heads = ROIHeads(
            **common(proposal_matcher=Matcher([0.3, 0.9], [0, -1, 1]), proposal_append_gt=False)
        )
        (result,) = heads.label_and_sample_proposals(
            [proposals([A, B, C])], [objects(SIZE, [A], [1])]
        )
        assert result.gt_classes.tolist() == [1, 3]
        assert result.proposal_boxes.tensor.tolist() == [A, C]

    def test_probes(self):
        seen = {}
        with watching(lambda name, values: seen.update({name: values})):
            ROIHeads(**common()).label_and_sample_proposals(
                [proposals([B])], [objects(SIZE, [C, A], [2, 1])]
            )
        assert seen["roi.assign"]["matched_idxs"].tolist() == [1, 0, 1]
        assert seen["roi.assign"]["quality"].tolist() == pytest.approx([10 / 12, 1, 1])
        assert seen["roi.sample"]["indices"].tolist() == [0, 1, 2]
        assert seen["roi.sample"]["foreground"].all()


@pytest.mark.parametrize("build", [standard, res5])
class TestForward:
    def test_training(self, build):
        heads = build().train()
        gt = [objects(SIZE, [C, A], [2, 1]), objects(SIZE, [])]
        sampled, losses = heads(images(2), features(2), [proposals([B]), proposals([A])], gt)
        assert set(losses) == {"loss_cls", "loss_box_reg"}
        assert [len(s) for s in sampled] == [3, 1]
        sum(losses.values()).backward()
        for name, parameter in heads.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name

    def test_nothing_proposed_and_nothing_there(self, build):
        heads = build().train()
        _, losses = heads(images(), features(), [proposals([])], [objects(SIZE, [])])
        total = sum(losses.values())
        assert total == 0
        total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())

    def test_inference(self, build):
        heads = build().eval()
        heads.box_predictor.test_score_thresh = 0.01
        (first, second), losses = heads(
            images(2), features(2), [proposals([A, C]), proposals([])], None
        )
        assert losses == {}
        assert len(first) > 0
        assert set(first.get_fields()) == {"pred_boxes", "scores", "pred_classes"}
        assert len(second) == 0

    def test_training_needs_objects(self, build):
        with pytest.raises(ValueError, match=r"targets.*model\.eval"):
            build().train()(images(), features(), [proposals([A])])


def test_training_on_predicted_boxes_keeps_the_loss():
    torch.manual_seed(1)
    plain = standard().train()
    replaced = standard(train_on_pred_boxes=True).train()
    replaced.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for heads in (plain, replaced):
            heads.box_predictor.bbox_pred.bias.fill_(1.0)
    inputs = (images(), features(), [proposals([B])], [objects(SIZE, [C, A], [2, 1])])
    before, losses = plain(*inputs)
    after, same = replaced(*inputs)
    assert losses == same
    assert before[0].proposal_boxes.tensor.tolist() == [B, C, A]
    moved = after[0].proposal_boxes.tensor
    assert (moved != before[0].proposal_boxes.tensor).any(dim=1).all()
    assert not moved.requires_grad


def test_foreground_proposals():
    given = proposals([A, B, C])
    given.gt_classes = torch.tensor([3, 1, -1])
    (foreground,), (mask,) = select_foreground_proposals([given], bg_label=3)
    assert mask.tolist() == [False, True, False]
    assert foreground.proposal_boxes.tensor.tolist() == [B]


class TestConfig:
    shapes = {f"p{i}": ShapeSpec(channels=16, stride=2**i) for i in range(2, 7)}

    def test_standard(self):
        heads = StandardROIHeads(tiny_config(FPN), self.shapes)
        assert (heads.positive_fraction, heads.num_classes) == (0.25, 3)
        assert heads.proposal_matcher.thresholds[1:-1] == [0.5]
        assert heads.proposal_matcher.labels == [0, 1]
        assert not heads.proposal_matcher.allow_low_quality_matches
        assert tuple(heads.box_predictor.box2box_transform.weights) == (10, 10, 5, 5)
        assert heads.box_head.fc1.in_features == 16 * 7 * 7

    def test_res5(self):
        heads = Res5ROIHeads(tiny_config(C4), {"res4": ShapeSpec(channels=128, stride=16)})
        names = {name.split(".")[0] for name in heads.state_dict()}
        assert names == {"res5", "box_predictor"}
        assert heads.box_predictor.cls_score.in_features == 256
        assert heads.res5(torch.rand(1, 128, 14, 14)).shape == (1, 256, 7, 7)

    @pytest.mark.parametrize("names_class", [True, False])
    def test_res5_of_a_plain_method(self, names_class):
        class OldStyle(Res5ROIHeads):
            def _build_res5_block(self, cfg):
                above = super(OldStyle, self) if names_class else super()
                return above._build_res5_block(cfg)

        heads = OldStyle(tiny_config(C4), {"res4": ShapeSpec(channels=128, stride=16)})
        assert heads.res5(torch.rand(1, 128, 14, 14)).shape == (1, 256, 7, 7)

    def test_res5_is_for_one_map(self):
        with pytest.raises(ValueError, match=r"one feature map.*StandardROIHeads"):
            Res5ROIHeads(
                tiny_config(C4, [("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3"])]), self.shapes
            )

    def test_maps_must_agree(self):
        shapes = {**self.shapes, "p3": ShapeSpec(channels=8, stride=8)}
        with pytest.raises(ValueError, match=r"IN_FEATURES.*channels \[8, 16\]"):
            StandardROIHeads(tiny_config(FPN), shapes)

    def test_a_subclass_may_bring_its_own_box_branch(self):
        class Mine(StandardROIHeads):
            @classmethod
            def _init_box_head(cls, cfg, input_shape):
                return {**super()._init_box_head(cfg, input_shape), "box_in_features": ["p2"]}

        assert Mine(tiny_config(FPN), self.shapes).box_in_features == ["p2"]
