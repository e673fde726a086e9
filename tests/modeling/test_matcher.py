"""Matching of predictions to objects by quality."""

from __future__ import annotations

import pytest
import torch

from lucidet.modeling.matcher import Matcher, labels_of_quality

RPN = ([0.3, 0.7], [0, -1, 1])


@pytest.mark.parametrize(
    ("matrix", "idxs", "labels"),
    [
        # an object at each quality: background, ignored, the threshold itself, above
        ([[0.1, 0.4, 0.7, 0.95]], [0, 0, 0, 0], [0, -1, 1, 1]),
        # the better object wins, the first of equals
        ([[0.8, 0.2, 0.5], [0.9, 0.1, 0.5]], [1, 0, 0], [1, 0, -1]),
        ([[0.0]], [0], [0]),
    ],
)
def test_thresholds(matrix: list, idxs: list, labels: list) -> None:
    got_idxs, got_labels = Matcher(*RPN)(torch.tensor(matrix))
    assert got_idxs.tolist() == idxs
    assert got_labels.tolist() == labels
    assert got_idxs.dtype == torch.int64
    assert got_labels.dtype == torch.int8


@pytest.mark.parametrize("first_label", [0, -1])
def test_without_objects_all_get_the_first_label(first_label: int) -> None:
    idxs, labels = Matcher([0.5], [first_label, 1])(torch.zeros(0, 3))
    assert idxs.tolist() == [0, 0, 0]
    assert labels.tolist() == [first_label] * 3


def test_without_predictions() -> None:
    idxs, labels = Matcher(*RPN, allow_low_quality_matches=True)(torch.zeros(2, 0))
    assert idxs.shape == labels.shape == (0,)
    assert (idxs.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_low_quality_matches_take_all_ties_and_keep_their_own_object() -> None:
    matrix = torch.tensor([[0.2, 0.2, 0.1, 0.0], [0.8, 0.25, 0.0, 0.0]])
    idxs, labels = Matcher(*RPN, allow_low_quality_matches=True)(matrix)
    # object 0's best are predictions 0 and 1, both of which fit object 1 better
    assert labels.tolist() == [1, 1, 0, 0]
    assert idxs.tolist() == [1, 1, 0, 0]


def test_an_object_that_nothing_overlaps_rescues_nothing() -> None:
    matrix = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.9, 0.0]])
    _, labels = Matcher(*RPN, allow_low_quality_matches=True)(matrix)
    assert labels.tolist() == [0, 1, 0]


def test_nan_is_never_an_object() -> None:
    assert labels_of_quality(torch.tensor([float("nan"), 0.9]), [0.5], [0, 1]).tolist() == [0, 1]


def test_attributes_are_those_of_detectron2() -> None:
    matcher = Matcher(*RPN)
    assert matcher.thresholds == [-float("inf"), 0.3, 0.7, float("inf")]
    assert matcher.labels == [0, -1, 1]
    assert matcher.allow_low_quality_matches is False


@pytest.mark.parametrize(
    ("thresholds", "labels", "message"),
    [
        ([0.7, 0.3], [0, -1, 1], r"ascend.*0\.7, 0\.3"),
        ([0.0], [0, 1], r"positive.*0\.0"),
        ([float("nan")], [0, 1], "positive"),
        ([0.5], [0, -1, 1], "need 2 labels"),
        ([0.5], [0, 2], r"must be 1 .* got \[0, 2\]"),
    ],
)
def test_bad_rules(thresholds: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Matcher(thresholds, labels)


def test_bad_matrix() -> None:
    with pytest.raises(ValueError, match=r"\(objects, predictions\).*\(3,\)"):
        Matcher(*RPN)(torch.zeros(3))
