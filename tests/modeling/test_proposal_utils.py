from __future__ import annotations

import pytest
import torch

from lucidet.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    add_ground_truth_to_proposals_single_image,
    find_top_rpn_proposals,
)
from lucidet.structures import Boxes, Instances
from lucidet.utils.probe import watching

SIZE = (50, 80)


def top(boxes, logits, *, sizes=(SIZE,), nms=0.7, pre=100, post=100, small=0.0, training=False):
    return find_top_rpn_proposals(
        [torch.tensor(b, dtype=torch.float32).reshape(len(sizes), -1, 4) for b in boxes],
        [torch.tensor(s, dtype=torch.float32).reshape(len(sizes), -1) for s in logits],
        list(sizes),
        nms,
        pre,
        post,
        small,
        training,
    )


def as_lists(instances: Instances) -> tuple[list, list]:
    return instances.proposal_boxes.tensor.tolist(), instances.objectness_logits.tolist()


A, B, C = [0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 40, 40]  # A and B overlap by 0.91


@pytest.mark.parametrize(
    ("boxes", "logits", "options", "expected"),
    [
        ([[A, C]], [[1, 2]], {}, ([C, A], [2, 1])),  # sorted
        ([[A, B, C]], [[1, 3, 2]], {}, ([B, C], [3, 2])),  # A is suppressed by B
        ([[A, C], [B]], [[1, 2], [3]], {}, ([B, C, A], [3, 2, 1])),  # levels don't suppress
        ([[A, C], [B]], [[1, 2], [3]], {"pre": 1}, ([B, C], [3, 2])),  # top-k of each level
        ([[A, C], [B]], [[1, 2], [3]], {"post": 1}, ([B], [3])),  # top-k of all
        ([[[-5, -5, 5, 5]]], [[0]], {}, ([[0, 0, 5, 5]], [0])),  # clipped
        ([[[90, 0, 99, 9], A]], [[9, 0]], {}, ([A], [0])),  # nothing left after clipping
        ([[[0, 0, 3, 9], A]], [[9, 0]], {"small": 3}, ([A], [0])),  # must be larger than 3
        ([[[float("nan"), 0, 9, 9], A]], [[9, 0]], {}, ([A], [0])),
        ([[C, A]], [[float("inf"), 0]], {}, ([A], [0])),
        ([[C]], [[float("nan")]], {}, ([], [])),
        ([[]], [[]], {}, ([], [])),
    ],
)
def test_top_proposals(boxes, logits, options, expected):
    (result,) = top(boxes, logits, **options)
    assert as_lists(result) == expected
    assert result.image_size == SIZE


def test_images_are_apart():
    small = (10, 30)
    first, second = top([[A, C, C, A]], [[1, 2, 3, 4]], sizes=(SIZE, small))
    assert as_lists(first) == ([C, A], [2, 1])
    # of C = [20, 20, 40, 40] nothing is inside an image 10 pixels high
    assert as_lists(second) == ([A], [4])


def test_divergence_is_named_at_training():
    with pytest.raises(FloatingPointError, match=r"level 1 .*diverged.*BASE_LR"):
        top([[A], [C]], [[1], [float("nan")]], training=True)


def test_inputs_are_left_alone():
    boxes = torch.tensor([[[-5.0, -5, 5, 5]]])
    find_top_rpn_proposals([boxes], [torch.zeros(1, 1)], [SIZE], 0.7, 9, 9, 0.0, False)
    assert boxes.tolist() == [[[-5, -5, 5, 5]]]


def test_candidates_are_shown_before_nms_and_after_clipping():
    seen = []
    with watching(lambda name, values: seen.append((name, values))):
        top([[A, B], [C]], [[1, 3], [2]])
    assert [name for name, _ in seen] == ["rpn.decode", "rpn.candidates", "rpn.proposals"]
    _, candidates, proposals = (values for _, values in seen)
    assert candidates["levels"].tolist() == [0, 0, 1]
    assert candidates["scores"].tolist() == [3, 1, 2]
    assert candidates["boxes"][proposals["keep"]].tolist() == proposals["boxes"].tolist() == [B, C]


def proposals_of(count: int, **fields) -> Instances:
    boxes = torch.tensor([C], dtype=torch.float32).repeat(count, 1)
    return Instances(
        SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(count), **fields
    )


@pytest.mark.parametrize(("count", "objects"), [(2, [A]), (0, [A, B]), (2, []), (0, [])])
def test_objects_join_the_proposals(count, objects):
    gt = Boxes(torch.tensor(objects, dtype=torch.float32).reshape(-1, 4))
    for form in (gt, Instances(SIZE, gt_boxes=gt)):
        (result,) = add_ground_truth_to_proposals([form], [proposals_of(count)])
        assert result.proposal_boxes.tensor.tolist() == [C] * count + objects
        # log(p / (1 - p)) of p = 1 - 1e-10
        assert result.objectness_logits[count:].tolist() == pytest.approx([23.02585] * len(objects))


def test_further_fields_of_proposals_come_from_the_objects():
    gt = Instances(SIZE, gt_boxes=Boxes(torch.tensor([A])), track=torch.tensor([7]))
    result = add_ground_truth_to_proposals_single_image(
        gt, proposals_of(1, track=torch.tensor([3]))
    )
    assert result.track.tolist() == [3, 7]


def test_a_field_that_objects_lack_is_named():
    with pytest.raises(ValueError, match=r"\['track'\].*PROPOSAL_APPEND_GT"):
        add_ground_truth_to_proposals_single_image(
            Boxes(torch.tensor([A])), proposals_of(1, track=torch.tensor([3]))
        )


def test_images_must_match():
    with pytest.raises(ValueError, match="1 images have proposals, but 0 have objects"):
        add_ground_truth_to_proposals([], [proposals_of(1)])
