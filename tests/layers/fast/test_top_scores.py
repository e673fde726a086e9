"""The candidates of a level are those of the plain way: threshold, sort all, take the best."""

from __future__ import annotations

import pytest
import torch

from lucidet.layers.fast.top_scores import best_candidates, top_scores, top_scores_plain


def plain_way(scores, threshold, count):
    entries = [
        (-score, position, position // scores.shape[1], position % scores.shape[1])
        for position, score in enumerate(scores.flatten().tolist())
        if score > threshold
    ]
    return [(row, k, -score) for score, _, row, k in sorted(entries)[:count]]


def entries(found):
    return list(zip(*(values.tolist() for values in found), strict=True))


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (1, 1), (7, 1), (40, 3), (30, 80)])
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.7, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_plain_way(shape, count, threshold, ties) -> None:
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    if ties:
        scores = (scores * 4).round() / 4
    found = best_candidates(scores, threshold, count)
    expected = plain_way(scores, threshold, count) if scores.numel() else []
    assert entries(found) == expected
    assert [values.dtype for values in found] == [torch.int64, torch.int64, torch.float32]


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.9])
def test_logits(threshold) -> None:
    logits = 4 * torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    found = best_candidates(logits, threshold, 20, logits=True)
    assert entries(found) == plain_way(logits.sigmoid(), threshold, 20)


def test_values_that_are_no_numbers_hide_only_their_anchor() -> None:
    scores = torch.tensor([[0.2, 0.3], [float("nan"), 0.9], [0.8, 0.1], [0.1, 0.1]])
    rows, classes, found = best_candidates(scores, 0.05, 2)
    assert (rows.tolist(), classes.tolist()) == ([2, 0], [0, 1])
    assert found.tolist() == pytest.approx([0.8, 0.3])


@pytest.mark.parametrize("shape", [(2, 0, 3), (3, 1, 1), (3, 40, 3), (2, 60, 80)])
@pytest.mark.parametrize("count", [0, 1, 5, 1000])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.7])
@pytest.mark.parametrize("kind", ["scores", "ties", "logits", "saturated", "nan"])
def test_batch_is_its_images(shape, count, threshold, kind) -> None:
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    if kind == "ties":
        scores = (scores * 4).round() / 4
    elif kind == "nan":
        scores[..., 0].masked_fill_(scores[..., 0] < 0.3, float("nan"))
    elif kind != "scores":
        scores = (scores - 0.5) * (8 if kind == "logits" else 80)
    logits = kind in ("logits", "saturated")
    for form in (top_scores, top_scores_plain):
        rows, classes, found, valid = form(scores, threshold, count, logits)
        for image in range(shape[0]):
            want = best_candidates(scores[image], threshold, count, logits)
            own = valid[image]
            assert torch.equal(rows[image, own], want[0])
            assert torch.equal(classes[image, own], want[1])
            torch.testing.assert_close(found[image, own], want[2])
