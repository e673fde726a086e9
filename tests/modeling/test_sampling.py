"""Random choice of labels."""

from __future__ import annotations

import pytest
import torch

from lucidet.modeling.sampling import subsample_labels, subsample_masks


def by_mask(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
    """`subsample_masks`, its answer as indices."""
    positive, negative = subsample_masks(*args)  # type: ignore[arg-type]
    return positive.nonzero().squeeze(1), negative.nonzero().squeeze(1)


BOTH = pytest.mark.parametrize("sample", [subsample_labels, by_mask])


@BOTH
@pytest.mark.parametrize(
    ("labels", "num_samples", "fraction", "positives", "negatives"),
    [
        ([1] * 20 + [0] * 50 + [-1] * 30, 16, 0.5, 8, 8),
        ([1] * 3 + [0] * 50, 16, 0.5, 3, 13),  # negatives take the positives' places
        ([1] * 20 + [0] * 2, 16, 0.5, 8, 2),  # but not the other way round
        ([1, 0, 0], 16, 0.5, 1, 2),
        ([1, 1, 0, 0], 3, 0.25, 0, 2),  # int(0.75) positives
        ([-1, -1], 4, 0.5, 0, 0),
        ([], 4, 0.5, 0, 0),
        ([1, 0], 0, 0.5, 0, 0),
    ],
)
def test_counts(
    sample, labels: list, num_samples: int, fraction: float, positives: int, negatives: int
) -> None:
    tensor = torch.tensor(labels, dtype=torch.int8)
    pos, neg = sample(tensor, num_samples, fraction, 0)
    assert (len(pos), len(neg)) == (positives, min(negatives, num_samples - positives))
    assert (tensor[pos] == 1).all()
    assert (tensor[neg] == 0).all()
    assert len(pos.unique()) == len(pos)
    assert len(neg.unique()) == len(neg)


@BOTH
def test_background_may_be_the_last_class(sample) -> None:
    pos, neg = sample(torch.tensor([3, 0, -1, 2, 3]), 10, 0.5, 3)
    assert (pos.tolist(), neg.tolist()) == ([1, 3], [0, 4])


@BOTH
def test_taking_everything_is_not_random(sample) -> None:
    labels = torch.tensor([0, 1, -1, 1, 0, 0])
    for seed in range(3):
        torch.manual_seed(seed)
        pos, neg = sample(labels, 1000, 0.5, 0)
        assert (pos.tolist(), neg.tolist()) == ([1, 3], [0, 4, 5])


@BOTH
def test_everybody_has_a_chance(sample) -> None:
    labels = torch.tensor([1] * 4 + [0] * 4)
    seen_pos, seen_neg = set(), set()
    for _ in range(50):
        pos, neg = sample(labels, 2, 0.5, 0)
        seen_pos |= set(pos.tolist())
        seen_neg |= set(neg.tolist())
    assert (seen_pos, seen_neg) == ({0, 1, 2, 3}, {4, 5, 6, 7})


@BOTH
def test_labels_are_left_alone(sample) -> None:
    labels = torch.tensor([1, 0, -1])
    sample(labels, 1, 1.0, 0)
    assert labels.tolist() == [1, 0, -1]
