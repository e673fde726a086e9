from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lucidet.layers import ShapeSpec
from lucidet.modeling.anchor_generator import DefaultAnchorGenerator
from lucidet.modeling.box_regression import Box2BoxTransform
from lucidet.modeling.matcher import Matcher
from lucidet.modeling.proposal_generator import RPN, StandardRPNHead, find_top_rpn_proposals
from lucidet.modeling.proposal_generator.rpn import flatten_map
from lucidet.structures import Boxes, ImageList, Instances
from lucidet.utils.probe import watching
from tests.modeling.tiny import C4, FPN, objects, tiny_config

SIZE = (64, 96)
STRIDES = (8, 16)
TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))


def build(kind: type[RPN] = RPN, **options) -> RPN:
    generator = DefaultAnchorGenerator(
        sizes=[[16], [32]], aspect_ratios=[[0.5, 1.0, 2.0]], strides=STRIDES
    )
    options = {
        "in_features": ["a", "b"],
        "head": StandardRPNHead(in_channels=4, num_anchors=3),
        "anchor_generator": generator,
        "anchor_matcher": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": TRANSFORM,
        "batch_size_per_image": 256,
        "positive_fraction": 0.5,
        "pre_nms_topk": (200, 100),
        "post_nms_topk": (50, 20),
        **options,
    }
    return kind(**options)


def features(count: int = 1) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(count, 4, SIZE[0] // stride, SIZE[1] // stride)
        for name, stride in zip("ab", STRIDES, strict=True)
    }


def images(count: int = 1) -> ImageList:
    return ImageList(torch.zeros(count, 3, *SIZE), [SIZE] * count)


def anchors_of(rpn: RPN) -> list[Boxes]:
    return rpn.anchor_generator(list(features().values()))


class TestHead:
    def test_names_and_start_values(self):
        head = StandardRPNHead(in_channels=256, num_anchors=3)
        assert sorted(head.state_dict()) == [
            f"{layer}.{leaf}"
            for layer in ("anchor_deltas", "conv", "objectness_logits")
            for leaf in ("bias", "weight")
        ]
        for layer in (head.conv, head.objectness_logits, head.anchor_deltas):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
            assert not layer.bias.any()

    def test_several_convolutions_are_numbered(self):
        head = StandardRPNHead(in_channels=4, num_anchors=2, box_dim=5, conv_dims=[8, -1, 6])
        shapes = {k: tuple(v.shape[:2]) for k, v in head.state_dict().items() if "weight" in k}
        assert shapes == {
            "conv.conv0.weight": (8, 4),
            "conv.conv1.weight": (8, 8),
            "conv.conv2.weight": (6, 8),
            "objectness_logits.weight": (2, 6),
            "anchor_deltas.weight": (10, 6),
        }
        logits, deltas = head([torch.zeros(1, 4, 3, 5)])
        assert logits[0].shape == (1, 2, 3, 5)
        assert deltas[0].shape == (1, 10, 3, 5)

    def test_channels_must_be_positive(self):
        with pytest.raises(ValueError, match=r"CONV_DIMS = \[0\].*positive"):
            StandardRPNHead(in_channels=4, num_anchors=2, conv_dims=[0])

    def test_levels_must_agree(self):
        shapes = [ShapeSpec(channels=4, stride=4), ShapeSpec(channels=8, stride=8)]
        with pytest.raises(ValueError, match=r"IN_FEATURES.*channels \[4, 8\]"):
            StandardRPNHead.from_config(tiny_config(), shapes)


def test_order_of_a_map_is_that_of_the_anchors():
    # value = 100 * y + 10 * x + anchor
    y, x, a = torch.meshgrid(torch.arange(2), torch.arange(3), torch.arange(2), indexing="ij")
    level = (100 * y + 10 * x + a).permute(2, 0, 1)[None].float()  # (1, A, H, W)
    expected = [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]
    assert flatten_map(level, 1).flatten().tolist() == expected
    channels_last = level.contiguous(memory_format=torch.channels_last)
    assert flatten_map(channels_last, 1).flatten().tolist() == expected


def test_config_defaults_are_the_papers():
    cfg = tiny_config(C4)
    rpn = RPN(cfg, {"res4": ShapeSpec(channels=16, stride=16)})
    assert (rpn.batch_size_per_image, rpn.positive_fraction) == (256, 0.5)
    assert rpn.anchor_matcher.thresholds[1:-1] == [0.3, 0.7]
    assert rpn.anchor_matcher.labels == [0, -1, 1]
    assert rpn.anchor_matcher.allow_low_quality_matches
    assert rpn.nms_thresh == 0.7
    assert rpn.rpn_head.objectness_logits.out_channels == 15
    shared = RPN(
        tiny_config(FPN), {f"p{i}": ShapeSpec(channels=16, stride=2**i) for i in range(2, 7)}
    )
    assert shared.rpn_head.objectness_logits.out_channels == 3


def test_nms_threshold_is_an_iou():
    with pytest.raises(ValueError, match=r"nms_thresh.*1\.5"):
        build(nms_thresh=1.5)


class TestLabels:
    def test_counts(self):
        # 3 * (8 * 12 + 4 * 6) = 360 anchors: 256 are drawn, at most 128 of them positive
        rpn = build(anchor_matcher=Matcher([0.01, 0.02], [0, -1, 1]))
        (labels,), (boxes,) = rpn.label_and_sample_anchors(
            anchors_of(rpn), [objects(SIZE, [[0, 0, 50, 60]])]
        )
        assert (labels.shape, boxes.shape) == ((360,), (360, 4))
        assert (labels == 1).sum() == 128
        assert (labels == 0).sum() == 128

    def test_negatives_fill_up(self):
        rpn = build()
        (labels,), _ = rpn.label_and_sample_anchors(
            anchors_of(rpn), [objects(SIZE, [[4, 4, 20, 20]])]
        )
        positives = int((labels == 1).sum())
        assert 0 < positives < 128
        assert (labels >= 0).sum() == 256

    def test_an_object_that_no_anchor_fits_still_has_one(self):
        rpn = build()
        gt = [[0.0, 0, 3, 3]]
        (labels,), (boxes,) = rpn.label_and_sample_anchors(anchors_of(rpn), [objects(SIZE, gt)])
        assert (labels == 1).any()
        assert (boxes[labels == 1] == torch.tensor(gt)).all()

    def test_an_object_that_no_anchor_touches_has_none(self):
        rpn = build()
        (labels,), _ = rpn.label_and_sample_anchors(
            anchors_of(rpn), [objects(SIZE, [[900, 900, 950, 950]])]
        )
        assert not (labels == 1).any()

    def test_without_objects_all_are_background(self):
        rpn = build()
        (labels,), (boxes,) = rpn.label_and_sample_anchors(anchors_of(rpn), [objects(SIZE, [])])
        assert (labels == 0).sum() == 256
        assert not (labels == 1).any()
        assert boxes.shape == (len(labels), 4)

    def test_anchors_outside_the_image_can_be_left_out(self):
        rpn = build(anchor_boundary_thresh=0, batch_size_per_image=10000)
        (labels,), _ = rpn.label_and_sample_anchors(anchors_of(rpn), [objects(SIZE, [])])
        inside = Boxes.cat(anchors_of(rpn)).inside_box(SIZE, 0)
        assert torch.equal(labels == 0, inside)
        assert torch.equal(labels == -1, ~inside)

    def test_a_matcher_of_the_user_is_asked(self):
        class Everything(Matcher):
            def __call__(self, quality):
                assert quality.shape[0] == 1
                return super().__call__(quality)[0], torch.ones(quality.shape[1], dtype=torch.int8)

        rpn = build(anchor_matcher=Everything([0.5], [0, 1]), batch_size_per_image=10000)
        rpn.positive_fraction = 1.0
        (labels,), _ = rpn.label_and_sample_anchors(
            anchors_of(rpn), [objects(SIZE, [[4, 4, 20, 20]])]
        )
        assert (labels == 1).all()


class TestLosses:
    def run(self, gt_labels, **options):
        """Two anchors, logits 0 and 2, deltas all 0.5; each anchor is its object."""
        rpn = build(**options)
        anchors = [Boxes(torch.tensor([[0.0, 0, 10, 10]])), Boxes(torch.tensor([[5.0, 5, 25, 15]]))]
        logits = [torch.zeros(1, 1), torch.full((1, 1), 2.0)]
        deltas = [torch.full((1, 1, 4), 0.5), torch.full((1, 1, 4), 0.5)]
        gt_boxes = [torch.tensor([[0.0, 0, 10, 10], [5.0, 5, 25, 15]])]
        labels = [torch.tensor(gt_labels, dtype=torch.int8)]
        return rpn, rpn.losses(anchors, logits, labels, deltas, gt_boxes)

    def test_by_hand(self):
        rpn, losses = self.run([1, 0])
        log2, softplus2 = F.softplus(torch.tensor(0.0)), F.softplus(torch.tensor(2.0))
        assert losses["loss_rpn_cls"] == pytest.approx(float(log2 + softplus2) / 256)
        assert losses["loss_rpn_loc"] == pytest.approx(4 * 0.5 / 256)  # L1 of targets 0
        assert rpn.metrics["rpn/num_pos_anchors"] == 1
        assert rpn.metrics["rpn/num_neg_anchors"] == 1

    def test_ignored_anchors_add_nothing(self):
        _, losses = self.run([-1, -1])
        assert losses["loss_rpn_cls"] == 0
        assert losses["loss_rpn_loc"] == 0

    @pytest.mark.parametrize(
        ("weight", "factors"),
        [(2.0, (2, 2)), ({"loss_rpn_loc": 3.0}, (1, 3)), ({}, (1, 1))],
    )
    def test_weights(self, weight, factors):
        _, plain = self.run([1, 0])
        _, weighted = self.run([1, 0], loss_weight=weight)
        for name, factor in zip(("loss_rpn_cls", "loss_rpn_loc"), factors, strict=True):
            assert weighted[name] == pytest.approx(float(plain[name]) * factor)

    def test_smooth_l1_and_giou(self):
        _, smooth = self.run([1, 1], smooth_l1_beta=1.0)
        assert smooth["loss_rpn_loc"] == pytest.approx(8 * 0.5 * 0.25 / 256)
        _, giou = self.run([1, 1], box_reg_loss_type="giou")
        assert giou["loss_rpn_loc"] > 0

    def test_every_term_is_shown(self):
        terms = {}

        def note(name, values):
            if name == "loss.term":
                terms[values["name"]] = values

        with watching(note):
            _, losses = self.run([1, 0], loss_weight=2.0)
        assert set(terms) == set(losses)
        for name, term in terms.items():
            assert term["value"] is losses[name]
            assert term["sum"] / term["normalizer"] * term["weight"] == losses[name]


class TestForward:
    def test_training(self):
        rpn = build().train()
        gt = [objects(SIZE, [[4, 4, 30, 30], [40, 10, 80, 30]]), objects(SIZE, [])]
        proposals, losses = rpn(images(2), features(2), gt)
        assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc"}
        sum(losses.values()).backward()
        for name, parameter in rpn.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
        assert len(proposals) == 2
        assert not proposals[0].proposal_boxes.tensor.requires_grad
        assert len(proposals[0]) <= 50

    def test_without_any_object_the_loss_is_finite(self):
        rpn = build().train()
        _, losses = rpn(images(), features(), [objects(SIZE, [])])
        assert losses["loss_rpn_loc"] == 0
        total = sum(losses.values())
        assert total.isfinite()
        total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in rpn.parameters())

    def test_inference(self):
        rpn = build().eval()
        (proposals,), losses = rpn(images(), features())
        assert losses == {}
        assert 0 < len(proposals) <= 20
        logits = proposals.objectness_logits
        assert (logits[:-1] >= logits[1:]).all()
        boxes = proposals.proposal_boxes.tensor
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= SIZE[1]).all()
        assert (boxes[:, 3] <= SIZE[0]).all()

    def test_training_needs_objects(self):
        with pytest.raises(ValueError, match=r"gt_instances.*model\.eval"):
            build().train()(images(), features())

    def test_diverged_predictions_leave_the_error_to_the_loss(self):
        rpn = build().train()
        maps = {name: torch.full_like(level, float("nan")) for name, level in features().items()}
        (proposals,), losses = rpn(images(), maps, [objects(SIZE, [[4, 4, 30, 30]])])
        assert len(proposals) == 0
        assert losses["loss_rpn_cls"].isnan()

    def test_top_candidates_are_those_of_decoding_everything(self):
        rpn = build(pre_nms_topk=(20, 15)).eval()
        with torch.no_grad():
            for parameter in rpn.parameters():
                parameter.mul_(10)
            maps = features(2)
            anchors = rpn.anchor_generator(list(maps.values()))
            logits, deltas = rpn.rpn_head(list(maps.values()))
            logits = [flatten_map(level, 1).squeeze(2) for level in logits]
            deltas = [flatten_map(level, 4) for level in deltas]
            expected = find_top_rpn_proposals(
                rpn._decode_proposals(anchors, deltas), logits, [SIZE] * 2, 0.7, 15, 20, 0.0, False
            )
            found = rpn.predict_proposals(anchors, logits, deltas, [SIZE] * 2)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.proposal_boxes.tensor, b.proposal_boxes.tensor)
            assert torch.equal(a.objectness_logits, b.objectness_logits)

    def test_probes_in_order(self):
        names = []
        with watching(lambda name, values: names.append(name)):
            build().train()(images(), features(), [objects(SIZE, [[4, 4, 30, 30]])])
        assert names == [
            "anchors.grid",
            "rpn.head",
            "rpn.assign",
            "rpn.sample",
            "loss.term",
            "loss.term",
            "rpn.decode",
            "rpn.candidates",
            "rpn.proposals",
        ]

    def test_instances_hold_what_the_second_stage_needs(self):
        (proposals,), _ = build().eval()(images(), features())
        assert isinstance(proposals, Instances)
        assert set(proposals.get_fields()) == {"proposal_boxes", "objectness_logits"}
        assert proposals.image_size == SIZE


class TestGradientsOfSamples:
    """On a CPU the head runs without gradients, and the sampled anchors again with them."""

    @staticmethod
    def gradients(rpn: RPN, gt: list[Instances], seed: int = 0) -> tuple[dict, dict]:
        torch.manual_seed(seed)
        maps = {name: level.requires_grad_() for name, level in features(len(gt)).items()}
        _, losses = rpn(images(len(gt)), maps, gt)
        sum(losses.values()).backward()
        grads = {name: p.grad for name, p in rpn.named_parameters()}
        for parameter in rpn.parameters():
            parameter.grad = None
        values = {name: loss.detach() for name, loss in losses.items()}
        return values, {**grads, **{name: level.grad for name, level in maps.items()}}

    @pytest.mark.parametrize(
        "boxes",
        [
            [[[2.0, 2, 20, 22], [40, 30, 90, 60]], [[10, 10, 30, 60]]],
            [[[0.0, 0, 96, 64]], []],
            [[], []],
        ],
    )
    def test_equal_those_of_the_whole_maps(self, boxes, monkeypatch):
        rpn = build(batch_size_per_image=10).train()
        gt = [objects(SIZE, own) for own in boxes]
        called = []
        of_samples = StandardRPNHead.of_samples
        monkeypatch.setattr(
            StandardRPNHead,
            "of_samples",
            lambda *args: called.append(True) or of_samples(*args),
        )
        losses, grads = self.gradients(rpn, gt)
        assert called
        monkeypatch.setattr(StandardRPNHead, "trains_on_samples", lambda *_: False)
        expected_losses, expected = self.gradients(rpn, gt)
        assert len(called) == 1
        torch.testing.assert_close(losses, expected_losses)
        torch.testing.assert_close(grads, expected)

    def test_losses_of_a_subclass_get_the_whole_maps(self):
        class Losses(RPN):
            def losses(self, *args):
                loss = sum(level.square().sum() for level in args[1])  # of all anchors
                return {"loss": loss}

        _, grads = self.gradients(
            build(Losses, batch_size_per_image=10).train(), [objects(SIZE, [])]
        )
        assert all(grads[level].abs().amin(dim=1).min() > 0 for level in "ab")

    def test_only_where_it_is_exact_and_faster(self):
        head, levels = StandardRPNHead(in_channels=4, num_anchors=3), list(features(2).values())
        assert head.trains_on_samples(levels, 20)
        assert not head.trains_on_samples(levels, 200)
        with torch.no_grad():
            assert not head.trains_on_samples(levels, 20)
        head.conv.register_forward_hook(lambda *_: None)
        assert not head.trains_on_samples(levels, 20)
        deep = StandardRPNHead(in_channels=4, num_anchors=3, conv_dims=[4, 4])
        assert not deep.trains_on_samples(levels, 20)
        custom = type("Custom", (StandardRPNHead,), {})(in_channels=4, num_anchors=3)
        assert not custom.trains_on_samples(levels, 20)
